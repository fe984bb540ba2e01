"""Sections of a report as HTML: the tables and sentences that `loopmark compare` and `loopmark show` print."""

from collections.abc import Sequence

from loopmark.report.document import Section
from loopmark.report.render import printable
from loopmark.report.tables import Table
from loopmark.site.figure import scrolled
from loopmark.site.html import Html, joined, tag


def sections(found: Sequence[Section]) -> Html:
    """Render sections below a heading of the second level."""
    return joined(_section(section) for section in found)


def _section(section: Section) -> Html:
    return tag(
        "section",
        tag("h3", printable(section.title)),
        [_table(table, section.title) for table in section.tables],
        tag("ul", [tag("li", printable(line)) for line in section.lines]) if section.lines else "",
    )


def _table(table: Table, title: str) -> Html:
    rows = [
        tag("tr", tag("th", _cell(row[0]), scope="row"), [tag("td", _cell(each)) for each in row[1:]])
        for row in table.rows
    ]
    content = tag(
        "table",
        tag("caption", printable(table.title)) if table.title else "",
        tag("thead", tag("tr", [tag("th", _cell(each), scope="col") for each in table.headers])),
        tag("tbody", rows),
        class_="text" if table.is_text else None,
    )
    return scrolled(content, printable(table.title or title))


def _cell(cell: str) -> str:
    """Undo breaks that a narrow terminal needs."""
    return printable(cell.replace("-\n", "-").replace("\n/", "/").replace("\n", " "))
