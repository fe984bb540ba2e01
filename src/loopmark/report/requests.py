"""Requests as people know them from ab: how many, how fast, how long, how big."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from loopmark.report.document import Section
from loopmark.report.render import text
from loopmark.report.tables import Table
from loopmark.timings import Timings, percentile

PERCENTS = (50, 66, 75, 80, 90, 95, 98, 99, 100)

SERVICE_TIME = (
    "Service time is what a request took from its own start, before connect, to its end, after close. A slow answer "
    "holds back the requests after it, and their waiting is in no figure: so this is no latency that users of a busy "
    "server would see, and its percentiles say nothing about one."
)

NO_COMPARISON = "Each request has a clock here, which costs something. Numbers to compare come from `loopmark run`."


def request_report(title: str, timings: Timings) -> str:
    """Render what became of requests, as text."""
    tables = [_summary(timings), *([_spreads(timings), _percentiles(timings)] if timings.seconds else [])]
    return text([Section(title=title, tables=tuple(tables), lines=(SERVICE_TIME, NO_COMPARISON))])


def _summary(timings: Timings) -> Table:
    completed = len(timings.seconds)
    rows = (
        ("concurrency", f"{timings.concurrency}"),
        ("completed requests", f"{completed}"),
        ("failed requests", _counts(timings.failed, f"{sum(timings.failed.values())}")),
        ("wall time, s", f"{timings.wall:.3f}"),
        ("completed requests per second", f"{completed / timings.wall:.1f}"),
        ("status codes", _counts(timings.statuses, "") or "none"),
    )
    return Table(title="", headers=("requests", ""), rows=rows)


def _counts(counts: Mapping[str, int] | Mapping[int, int], total: str) -> str:
    parts = ", ".join(f"{count} x {what}" for what, count in sorted(counts.items()) if count)
    return f"{total} ({parts})" if total and parts else total or parts


def _spreads(timings: Timings) -> Table:
    rows = (
        ("service time, ms", *_spread([1e3 * seconds for seconds in timings.seconds], ".2f")),
        ("document length, bytes", *_spread(timings.lengths, ".0f")),
    )
    return Table(title="", headers=("of completed requests", "min", "avg", "max"), rows=rows)


def _spread(values: Sequence[float], digits: str) -> Iterator[str]:
    return (f"{each:{digits}}" for each in (min(values), fmean(values), max(values)))


def _percentiles(timings: Timings) -> Table:
    ordered = sorted(timings.seconds)
    rows = tuple((f"{percent} %", f"{1e3 * percentile(ordered, percent):.2f}") for percent in PERCENTS)
    return Table(title="", headers=("share of completed requests", "service time at most, ms"), rows=rows)
