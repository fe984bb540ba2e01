"""What the regression gate found, as tables and sentences."""

from collections.abc import Iterator, Sequence
from typing import Any

from loopmark.record import Kind
from loopmark.regression import Finding, Regression, Row
from loopmark.report.cells import interval, plus_minus
from loopmark.report.document import Section
from loopmark.report.formats import rendered
from loopmark.report.tables import Table, metric_name

COLUMNS = (
    *("case", "metric", "arm", "kind", "old_blocks", "old_ratio", "new_blocks", "new_ratio"),
    *("change", "low", "high", "level", "half_width", "finding"),
)

UNLIKE = 1.5
"""From this factor between numbers of blocks on the rank-sum interval needs equal scatter in both samples."""


def regression_report(regression: Regression, format: str = "text") -> str:  # noqa: A002 - the command line's own word
    """Render what the gate found; formats and errors as of `formats.rendered`. There must be no refusals."""
    about = {
        "threshold": regression.threshold,
        "slower": len(regression.slower),
        "not_tested_well_enough": len(regression.untested),
        "widest": regression.widest,
        "unmatched": list(regression.unmatched),
    }
    return rendered(format, lambda: _sections(regression), COLUMNS, lambda: map(_flat, regression.rows), about)


def _flat(row: Row) -> dict[str, Any]:
    return {
        "case": row.case,
        "metric": row.metric.value,
        "arm": row.arm,
        "kind": row.kind.value,
        "old_blocks": row.old.blocks,
        "old_ratio": row.old.ratio,
        "new_blocks": row.new.blocks,
        "new_ratio": row.new.ratio,
        "change": row.change.ratio,
        "low": row.change.low,
        "high": row.change.high,
        "level": row.change.level,
        "half_width": row.change.half_width,
        "finding": row.finding.value if row.kind is Kind.CONTENDER else None,
    }


def _sections(regression: Regression) -> list[Section]:
    cases = list(dict.fromkeys(row.case for row in regression.rows))
    found = [_section(case, [row for row in regression.rows if row.case == case]) for case in cases]
    return [*found, Section(title="The gate", tables=(), lines=tuple(_conclusion(regression)))]


def _section(case: str, rows: Sequence[Row]) -> Section:
    table = Table(
        title=metric_name(rows[0].metric),
        headers=("contender", "ratio in OLD", "ratio in NEW", "change\n[simultaneous 95 %]", "half-width", "finding"),
        rows=tuple(
            (
                f"{row.arm} (A/A twin)" if row.kind is Kind.TWIN else row.arm,
                f"{row.old.ratio:.3f}",
                f"{row.new.ratio:.3f}",
                interval(row.change),
                plus_minus(row.change.half_width or 0.0),
                "noise" if row.kind is Kind.TWIN else str(row.finding),
            )
            for row in rows
        ),
    )
    counts = f"{rows[0].old.blocks} blocks in OLD, {rows[0].new.blocks} in NEW."
    return Section(title=case, tables=(table,), lines=(counts,))


def _conclusion(regression: Regression) -> Iterator[str]:
    allowed = f"{100 * regression.threshold:g} %"
    if regression.slower:
        yield f"FAILED: slower by more than {allowed}: {_named(regression.slower)}."
    else:
        half, almost_always = (
            f"{100 * ((1 + regression.threshold) * (1 + regression.widest) ** times - 1):.1f} %" for times in (1, 2)
        )
        yield (
            f"Passed: no contender's interval lies wholly beyond {allowed}. The widest one is "
            f"{plus_minus(regression.widest)}: of that contender no smaller change could have been seen. A true one of "
            f"{half} fails this gate every other time, one of {almost_always} almost always."
        )
    if regression.untested:
        yield (
            f"{Finding.UNTESTED.capitalize()}, with an interval wider than +-{allowed}: {_named(regression.untested)}. "
            "More blocks in both campaigns make it narrower (loopmark run --max-time S)."
        )
    yield (
        "A change is the contender's ratio to the baseline in NEW by that in OLD, each taken inside its own campaign; "
        "above 1 is slower (two-sample Hodges-Lehmann estimate and Wilcoxon rank-sum interval over blocks)."
    )
    yield from (f"Not compared: {each}." for each in regression.unmatched)
    if regression.unmatched:
        yield (
            "Arms that take turns are in each other's caches, so that who else took part is part of a ratio: have the "
            "same contenders in both campaigns."
        )
    if any(not 1 / UNLIKE <= row.old.blocks / row.new.blocks <= UNLIKE for row in regression.rows):
        yield (
            "The campaigns have very different numbers of blocks: where the one with fewer is also the noisier one, "
            "intervals are too narrow. Have about equally many, with the same --blocks."
        )


def _named(rows: Sequence[Row]) -> str:
    return "; ".join(f"{row.arm} {interval(row.change)} in {row.case}" for row in rows)
