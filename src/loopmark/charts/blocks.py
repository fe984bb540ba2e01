"""The blocks one after the other: how each arm's own time wandered, and how much less its ratio did."""

import math
from collections.abc import Iterator, Sequence
from statistics import median

from loopmark.charts.chart import BLUE, ORANGE, Chart, Rows, Spec, tip, whole
from loopmark.charts.words import digits, heading, measure, scale, unit
from loopmark.record import Campaign
from loopmark.report.cells import NOTHING
from loopmark.report.figures import CaseFigures, ranked, shown_name
from loopmark.stats import log_ratios

TIME, RATIO = "its own figure", "its ratio to the baseline"
WIDTH, HEIGHT, COLUMNS = 190, 90, 3
"""Of one small panel, in pixels, and how many stand beside each other; a page may choose others."""


def blocks(campaign: Campaign, case: CaseFigures, slug: str) -> Chart:
    """Chart every block but those in the field, a panel for each arm."""
    metric = case.plan.case.primary
    values: Rows = []
    rows: list[tuple[str, ...]] = []
    for arm in ranked([case]):
        name = shown_name(campaign, arm.label)
        found = list(_of(case, arm.label))
        for series, place in ((TIME, 1), (RATIO, 2)):
            known = [(one[0], one[place]) for one in found if one[place] is not None]
            values += list(_about_the_middle(name, series, known, scale(metric)[0] if series == TIME else 1.0))
        for block, figure, ratio in found:
            shown = NOTHING if figure is None else digits(scale(metric)[0] * figure)
            rows.append((name, str(block), shown, NOTHING if ratio is None else f"{ratio:.3f}"))
    title = f"{heading(case)}, {len(case.blocks)} blocks over time"
    subtitle = [
        f"How far {measure(metric)} and its ratio to {case.baseline} lie from their own medians, in percent.",
        "What the machine does to all alike is in the first and not in the second: that is what blocks are for.",
    ]
    return Chart(
        slug=f"{slug}-blocks",
        title=title,
        alt=f"{title}: {' '.join(subtitle)} {_spans(values)}",
        spec=whole(title, subtitle, values, _parts(case, list(dict.fromkeys(each["contender"] for each in values)))),
        headers=("contender", "block", unit(case, metric), "ratio"),
        rows=tuple(rows),
    )


def _of(case: CaseFigures, arm: str) -> Iterator[tuple[int, float | None, float | None]]:
    """Yield for each block its number, an arm's figure in it, and its ratio to the baseline, by the rounds of it."""
    metric = case.plan.case.primary
    for number, block in enumerate(case.blocks, 1):
        if arm not in block.measurements:
            continue
        ours = block.measurements[arm].values(metric)
        theirs = block.measurements.get(case.baseline) if arm != case.baseline else None
        ratio = _ratio(ours, theirs.values(metric)) if theirs else None
        yield number, median(ours) if ours else None, ratio


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Return the ratio of one block; None when a clock was too coarse to see anything."""
    try:
        return math.exp(log_ratios([ours], [theirs])[0])
    except ValueError:
        return None


def _about_the_middle(name: str, series: str, found: list[tuple[int, float | None]], factor: float) -> Rows:
    known = [(block, value) for block, value in found if value is not None]
    middle = median(value for _, value in known) if known else 0.0
    if middle <= 0:
        return []
    return [
        {
            "contender": name,
            "series": series,
            "block": block,
            "off": round(100 * (value / middle - 1), 4),
            "shown": digits(factor * value) if series == TIME else f"{value:.3f}",
        }
        for block, value in known
    ]


def _spans(values: Rows) -> str:
    """Tell the widest wandering of either."""
    told = []
    for series in (TIME, RATIO):
        offs = [abs(each["off"]) for each in values if each["series"] == series]
        if offs:
            told.append(f"{series} lies up to {max(offs):.1f} % off")
    return f"{'; '.join(told).capitalize()}." if told else ""


def _parts(case: CaseFigures, names: list[str]) -> Spec:
    kinds = [TIME, RATIO]
    ticks = {"tickMinStep": 1, "grid": False, "format": "d", "tickCount": min(6, max(1, len(case.blocks)))}
    series = {"field": "series", "type": "nominal", "title": None}
    return {
        "facet": {"field": "contender", "type": "nominal", "sort": names, "title": None},
        "columns": COLUMNS,
        "spec": {
            "width": WIDTH,
            "height": HEIGHT,
            "mark": {"type": "line", "point": {"size": 25}, "strokeWidth": 1.5},
            "encoding": {
                "x": {"field": "block", "type": "quantitative", "scale": {"zero": False}, "axis": ticks},
                "y": {"field": "off", "type": "quantitative", "title": "% off", "axis": {"tickCount": 4}},
                "color": {**series, "scale": {"domain": kinds, "range": [ORANGE, BLUE]}},
                "strokeDash": {**series, "scale": {"domain": kinds, "range": [[4, 2], [1, 0]]}},
                "tooltip": tip(contender="contender", block="block", series="what", shown="is", off="% off its median"),
            },
        },
    }
