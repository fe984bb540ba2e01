"""One case over the campaigns of one label: the ratio to the baseline of the same campaign, as absolute rates drift."""

from collections.abc import Sequence
from dataclasses import dataclass

from loopmark.charts.chart import BLUE, GREY, VERMILLION, Chart, Rows, Spec, tip, whole
from loopmark.report.cells import NOTHING, interval
from loopmark.stats import Estimate

WIDTH, HEIGHT, COLUMNS = 190, 110, 3
"""Of one small panel, in pixels, and how many stand beside each other; a page may choose others."""

DATE = 72
"""Pixels for a date, which is written upwards."""

NEUTRAL = "as before, or not known"
LOOKS = {NEUTRAL: (GREY, "circle"), "faster": (BLUE, "triangle-down"), "slower": (VERMILLION, "triangle-up")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One contender in one campaign."""

    started: str
    """The campaign's, as it has it."""
    contender: str
    estimate: Estimate
    """Ratio to the campaign's own baseline."""
    change: str = ""
    """What `loopmark compare OLD NEW` says of the campaign before and this one; empty for the first."""


def trend(slug: str, title: str, baseline: str, points: Sequence[Point]) -> Chart:
    """Chart every contender in a panel of its own, a point for each campaign; contenders in the order of the points."""
    names = list(dict.fromkeys(point.contender for point in points))
    ordered = [point for name in names for point in points if point.contender == name]
    values: Rows = [
        {
            "contender": point.contender,
            "when": point.started,
            "ratio": round(point.estimate.ratio, 6),
            # Without an interval the line has no length.
            "low": round(point.estimate.low or point.estimate.ratio, 6),
            "high": round(point.estimate.high or point.estimate.ratio, 6),
            "look": point.change if point.change in LOOKS else NEUTRAL,
            "change": point.change or NOTHING,
            "shown": interval(point.estimate),
        }
        for point in ordered
    ]
    subtitle = [f"Ratio to {baseline} in the same campaign, with its interval; below 1 is less."]
    return Chart(
        slug=slug,
        title=title,
        alt=f"{title}. {subtitle[0]} {'; '.join(_told(name, ordered) for name in names)}.",
        spec=whole(title, subtitle, values, _parts(names)),
        headers=("contender", "campaign", "ratio", "change"),
        rows=tuple((each["contender"], each["when"], each["shown"], each["change"]) for each in values),
    )


def _told(name: str, points: Sequence[Point]) -> str:
    return f"{name} {', then '.join(f'{point.estimate.ratio:.3f}' for point in points if point.contender == name)}"


def _parts(names: list[str]) -> Spec:
    # Evenly spaced: what is compared are neighbours.
    # So much room whatever font a machine has: else the whole drawing would depend on that.
    room = {"minExtent": DATE, "maxExtent": DATE}
    x = {"field": "when", "type": "ordinal", "title": None, "axis": {"labelExpr": "slice(datum.label, 0, 10)", **room}}
    y = {"type": "quantitative", "scale": {"zero": False}, "axis": {"tickCount": 4}}
    looks = list(LOOKS)
    colour, shape = (
        {
            "field": "look",
            "type": "nominal",
            "title": "against the one before",
            "scale": {"domain": looks, "range": [LOOKS[look][place] for look in looks]},
        }
        for place in range(2)
    )
    tips = tip(contender="contender", when="campaign", shown="ratio", change="against the one before")
    return {
        "facet": {"field": "contender", "type": "nominal", "sort": names, "title": None},
        "columns": COLUMNS,
        "spec": {
            "width": WIDTH,
            "height": HEIGHT,
            "layer": [
                {
                    "mark": {"type": "rule", "strokeWidth": 2, "color": GREY},
                    "encoding": {"x": x, "y": {"field": "low", "title": "ratio", **y}, "y2": {"field": "high"}},
                },
                {
                    "mark": {"type": "point", "filled": True, "opacity": 1, "size": 80},
                    "encoding": {
                        "x": x,
                        "y": {"field": "ratio", **y},
                        "color": colour,
                        "shape": shape,
                        "tooltip": tips,
                    },
                },
            ],
        },
    }
