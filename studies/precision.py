"""How narrow the intervals are: of every pair of arms at the end, and against time for several designs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

import shelf
import stock
from catalogue import FULL_SECONDS
from loopmark.case import Metric
from loopmark.record import Campaign
from series import Series, joined, series_of, titled
from tables import NOTHING, paragraphs, percent, reached, spread, table

TARGETS = {Metric.WALL: 0.005, Metric.SERVER_CPU: 0.01, Metric.CLIENT_CPU: 0.01}
SECONDS = (15, 30, 45, 60, 90, 120, 150, 180, 210, 240)
SHOWN_SECONDS = (30, 60, 90, 120, 180, 240)
STOCK_ARMS = 5
"""So many files would take the place of one of our campaigns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a design reaches in a time: of all pairs, the median half-width and the widest."""

    case: str
    design: str
    seconds: float
    middle: float
    widest: float


def rendered(results: Path) -> str:
    """Render the half-width of every pair at the end of the campaigns of the study `precision`."""
    campaigns = _campaigns(results)
    everything = [each for some in campaigns.values() for each in some]
    return paragraphs(shelf.origin(everything), pairs_table([_all_series(some) for some in campaigns.values()]))


def pairs_table(cases: Sequence[Sequence[Series]]) -> str:
    """Render the pairs as rows, the cases as columns: median and range over campaigns."""
    cases = [all_series for all_series in cases if all_series]
    if not cases:
        return "No campaign yet."
    widths = [half_widths(all_series) for all_series in cases]
    pairs = list(dict.fromkeys(pair for each in widths for pair in each))
    rows = [[" : ".join(pair), *(spread(each.get(pair, [])) for each in widths)] for pair in pairs]
    rows.append(["campaigns, blocks in each", *map(_effort, cases)])
    rows.append(["target for the median of every pair", *map(_target, cases, widths)])
    headers = ["half-width of the plain 95 % interval, in %", *(titled(each[0].case) for each in cases)]
    return table(headers, rows)


def half_widths(all_series: Sequence[Series]) -> dict[tuple[str, str], list[float]]:
    """Return the half-widths of every pair of arms, one per series that is long enough for an interval."""
    found: dict[tuple[str, str], list[float]] = {}
    for series in all_series:
        for pair in combinations(series.arms, 2):
            width = series.compare(*pair).half_width if series.values else None
            if width is not None:
                found.setdefault(pair, []).append(width)
    return found


Cut = Callable[[float], Sequence[Series]]
"""What a design has got of each case after so many seconds, once for each repetition."""


def curves(results: Path) -> list[Point]:
    """Return what every design reaches against time, from the studies `precision`, `designs` and `aa`."""
    points: list[Point] = []
    for case, campaigns in _campaigns(results).items():
        if not campaigns:
            continue
        title = titled(campaigns[0].cases[0].case)
        limit = FULL_SECONDS[case]
        for design, cut in _designs(results, case, campaigns).items():
            points += curve(title, design, cut, limit)
        pairs = shelf.pairs(results, "aa", f"stock-{case}")
        points += stock_curve(title, pairs, limit)
    return points


def curve(title: str, design: str, cut: Cut, limit: float) -> Iterator[Point]:
    """Yield a design's points as far as there are intervals."""
    for seconds in SECONDS:
        widths = [median(each) for each in half_widths(cut(seconds)).values()] if seconds <= limit else []
        if widths:
            yield Point(case=title, design=design, seconds=seconds, middle=median(widths), widest=max(widths))


def stock_curve(title: str, pairs: Sequence[stock.Pair], limit: float) -> Iterator[Point]:
    """Yield what the t interval of stock pyperf claims, had all arms been run one after the other in the time."""
    for seconds in SECONDS:
        found = [stock.half_width(pair, int(seconds / STOCK_ARMS / stock.process_seconds(pair))) for pair in pairs]
        widths = [each for each in found if each is not None]
        if widths and seconds <= limit:
            middle = median(widths)
            yield Point(case=title, design="stock pyperf's t interval", seconds=seconds, middle=middle, widest=middle)


def curves_table(points: Sequence[Point]) -> str:
    """Render the points: widest and median half-width of the pairs, by design and time."""
    rows = []
    for case, design in dict.fromkeys((each.case, each.design) for each in points):
        here = {each.seconds: each for each in points if (each.case, each.design) == (case, design)}
        rows.append([case, design, *(_shown(here.get(seconds)) for seconds in SHOWN_SECONDS)])
    headers = ["widest / median half-width of the pairs, in %", "design", *(f"{each} s" for each in SHOWN_SECONDS)]
    return table(headers, rows) if rows else "No campaign yet."


def _campaigns(results: Path) -> Mapping[str, list[Campaign]]:
    return {line.case: shelf.campaigns(results, "precision", line.name) for line in shelf.lines("precision")}


def _designs(results: Path, case: str, campaigns: Sequence[Campaign]) -> dict[str, Cut]:
    def prefixes(all_series: Sequence[Series]) -> Cut:
        return lambda seconds: [series.until(seconds) for series in all_series]

    ours = _all_series(campaigns)
    found = {
        "loopmark": prefixes(ours),
        "the same blocks, medians instead of rounds": prefixes([series.by_medians() for series in ours]),
    }
    for variant, name in (
        ("preloaded", "all libraries preloaded"),
        ("fixed", "fresh processes, no layout randomisation"),
        ("fresh", "fresh processes"),
    ):
        if there := _all_series(shelf.campaigns(results, "designs", f"{variant}-{case}")):
            found[name] = prefixes(there)
            if variant == "fresh":
                found["fresh processes, medians"] = prefixes([series.by_medians() for series in there])
    # A campaign has only some of them: those of all campaigns together are cut into successive spans.
    field = [series for campaign in campaigns for series in series_of(campaign, field=True)]
    if field:
        found["field blocks: fresh processes, nothing pinned"] = lambda seconds: list(joined(field).spans(seconds))
    return found


def _all_series(campaigns: Sequence[Campaign]) -> list[Series]:
    return [series for campaign in campaigns for series in series_of(campaign)]


def _effort(all_series: Sequence[Series]) -> str:
    return f"{len(all_series)}, {median(len(each.values) for each in all_series):.0f}"


def _target(all_series: Sequence[Series], widths: Mapping[tuple[str, str], Sequence[float]]) -> str:
    target = TARGETS[all_series[0].case.primary]
    return f"{percent(target, 1)}: {reached(all(median(each) <= target for each in widths.values()))}"


def _shown(point: Point | None) -> str:
    return NOTHING if point is None else f"{100 * point.widest:.2f} / {100 * point.middle:.2f}"
