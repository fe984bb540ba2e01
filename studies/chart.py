"""The chart of half-widths against time."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import altair as alt

from precision import Point


def draw(points: Sequence[Point], path: Path) -> None:
    """Write the chart as an SVG: one panel per case, one line per design, both axes logarithmic."""
    rows = [{**asdict(each), "percent": 100 * each.middle} for each in points]
    cases, designs = (list(dict.fromkeys(each)) for each in zip(*((p.case, p.design) for p in points), strict=True))
    chart = (
        alt.Chart({"values": rows})
        .mark_line(point=True)
        .encode(
            x=_axis("seconds", "seconds for five arms", [15, 30, 60, 120, 240]),
            y=_axis("percent", "median half-width of all pairs, +- %", [0.1, 0.2, 0.5, 1, 2, 5, 10]),
            color=alt.Color("design:N", title=None, sort=designs),
        )
        .properties(width=260, height=260)
        .facet(facet=alt.Facet("case:N", title=None, sort=cases))
    )
    chart.configure_legend(orient="bottom", columns=2, labelLimit=0).save(str(path))


def _axis(name: str, title: str, ticks: Sequence[float]) -> dict[str, Any]:
    scale, axis = {"type": "log", "nice": False}, {"values": ticks, "format": "~g"}
    return {"field": name, "type": "quantitative", "title": title, "scale": scale, "axis": axis}
