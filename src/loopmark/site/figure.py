"""A chart on a page: a place for the picture, what it shows in words, and its table; drawn by the page's script."""

from collections.abc import Mapping, Sequence
from typing import Any

from loopmark.charts import Chart
from loopmark.site.html import Html, tag


def figure(chart: Chart, *, is_open: bool = False) -> Html:
    """Return a chart's place, filled with what needs no script."""
    title = f"{chart.slug}-title"
    return tag(
        "figure",
        tag("h3", chart.title, id=title),
        tag("div", [tag("p", line) for line in _notes(chart)], class_="notes"),
        tag("div", tag("div"), class_="chart", role="img", aria_label=chart.alt),
        tag("details", tag("summary", "The same numbers as a table"), table(chart), open=is_open),
        id=chart.slug,
        data_figure=chart.slug,
        aria_labelledby=title,
    )


def table(chart: Chart) -> Html:
    """Return a chart's table in a region that can be scrolled with the keyboard."""
    return scrolled(
        tag(
            "table",
            tag("thead", tag("tr", [tag("th", header, scope="col") for header in chart.headers])),
            tag("tbody", [_row(row) for row in chart.rows]),
        ),
        chart.title,
    )


def scrolled(content: Html, name: str) -> Html:
    """Put what may be wider than a phone into a region of its own."""
    return tag("div", content, class_="scroll", role="region", tabindex="0", aria_label=f"Table: {name}")


def view(chart: Chart) -> dict[str, Any]:
    """Return what the script needs to draw a chart, its words, and its table."""
    spec = {key: value for key, value in chart.spec.items() if key != "title"}
    return {
        "title": chart.title,
        "notes": _notes(chart),
        "alt": chart.alt,
        "spec": spec,
        "headers": chart.headers,
        "rows": chart.rows,
    }


def data(case: str | None, views: Mapping[str, Chart]) -> dict[str, Any]:
    """Return all views of one figure by whom they have as their baseline, `""` for the campaign's own."""
    return {"case": case, "views": {baseline: view(chart) for baseline, chart in views.items()}}


def _row(row: Sequence[str]) -> Html:
    return tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]])


def _notes(chart: Chart) -> list[str]:
    lines: list[str] = chart.spec["title"]["subtitle"]
    return lines
