"""What all charts are made of: their data, their colours, and pieces of Vega-Lite."""

from dataclasses import dataclass
from typing import Any

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"

Rows = list[dict[str, Any]]
"""A chart's data: one flat record per mark."""

Spec = dict[str, Any]
"""Vega-Lite, or a part of it."""

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, BROWN, GREY = "#56B4E9", "#CC79A7", "#8C6D31", "#808080"
"""Told apart with any eyes: Okabe and Ito, "Color Universal Design" (2008), https://jfly.uni-koeln.de/color/.

Their yellow cannot be seen on white, nor their black on black; brown and grey stand in.
"""

CYCLE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BROWN, GREY)
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [4, 4])
"""Colour, shape and dash say the same, with periods that have no common factor: no two of many lines look alike."""

WIDTH = 520
"""Of a chart in pixels; a page may choose another."""

STEP = 24
"""Height of a row in pixels."""

# Metric-compatible with Arial; vl-convert brings it, so that text has the same size on every machine.
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

CONFIG: Spec = {
    "font": FONT,
    "background": "white",
    "aria": False,  # a chart is one image with a text of its own, and its table
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 220,
        "labelSeparation": 6,
    },
    "axisQuantitative": {"labelOverlap": "greedy"},
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "orient": "bottom", "labelLimit": 0, "columns": 3},
    "header": {"labelFontSize": 12, "labelFontWeight": "bold"},
    "title": {"anchor": "start", "frame": "group", "fontSize": 14, "subtitleFontSize": 12, "offset": 12},
    "view": {"stroke": None},
    "customFormatTypes": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture, and the same in words and numbers."""

    slug: str
    """Letters, digits, `-` and `_`; the same campaign has it once."""
    title: str
    alt: str
    """What the picture shows, in a sentence or two."""
    spec: Spec
    """Vega-Lite with its data in `["data"]["values"]`. Records that are of one contender name it in `contender`."""
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The table; the first cell of a row names whom it is about."""


def whole(title: str, subtitle: list[str], values: Rows, parts: Spec) -> Spec:
    """Put a specification together."""
    return {
        "$schema": SCHEMA,
        "config": CONFIG,
        "title": {"text": title, "subtitle": subtitle},
        "data": {"values": values},
        **parts,
    }


def contenders_down(*, title: str | None = None) -> Spec:
    """Give each contender a row, in the order of the data."""
    return {"field": "contender", "type": "nominal", "sort": None, "title": title}


def tip(**fields: str) -> list[Spec]:
    """Show fields of a record on hover, each with its title."""
    return [{"field": name, "type": "nominal", "title": title} for name, title in fields.items()]


def lines_of(names: list[str]) -> Spec:
    """Give each contender a colour, a shape and a dash, for lines with points on them."""

    def scale(kinds: tuple[Any, ...]) -> Spec:
        return {"domain": names, "range": [kinds[number % len(kinds)] for number in range(len(names))]}

    common = {"field": "contender", "type": "nominal", "title": None}
    return {
        "color": {**common, "scale": scale(CYCLE)},
        "shape": {**common, "scale": scale(SHAPES)},
        "strokeDash": {**common, "scale": scale(DASHES)},
    }
