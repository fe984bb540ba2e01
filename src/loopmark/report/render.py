"""Sections as text, GitHub's markdown or reStructuredText: the only place that knows tabulate."""

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace

from tabulate import tabulate

from loopmark.report.document import Section
from loopmark.report.tables import Table

WIDTH = 120
"""Of sentences in plain text; tables are as wide as they are."""


def text(sections: Sequence[Section]) -> str:
    """Render for a terminal, without colour."""

    def one(section: Section) -> str:
        parts = [section.title, "-" * len(section.title)]
        for table in section.tables:
            parts += ["", *([table.title, ""] if table.title else []), _grid(table, "simple")]
        if section.tables and section.lines:
            parts.append("")
        parts += [_wrapped(line) for line in section.lines]
        return "\n".join(parts)

    return _joined([one(_clean(section)) for section in sections])


def github(sections: Sequence[Section]) -> str:
    """Render for GitHub: one line per sentence and per row, so that a change shows where it is.

    A section without a title has no heading.
    """

    def escaped(words: str) -> str:
        # Only an underscore that begins a word could begin emphasis.
        return re.sub(r"([\\*<>|]|(?<!\w)_)", r"\\\1", words)

    def one(section: Section) -> str:
        parts = [f"### {escaped(section.title)}"] if section.title else []
        for table in section.tables:
            # `pipe` rather than `github`, since it keeps the alignment in every version of tabulate.
            parts += [f"**{escaped(table.title)}**"] if table.title else []
            parts.append(_grid(_mapped(table, lambda cell: escaped(_on_one_line(cell))), "pipe"))
        if section.lines:
            parts.append("\n".join(f"* {escaped(line)}" for line in section.lines))
        return "\n\n".join(parts)

    return _joined([one(_clean(section)) for section in sections])


def rst(sections: Sequence[Section]) -> str:
    """Render for docutils."""

    def escaped(words: str) -> str:
        return re.sub(r"([\\*`|]|_(?!\w))", r"\\\1", words)

    def one(section: Section) -> str:
        title = escaped(section.title)
        parts = [f"{title}\n{'-' * len(title)}"]
        for table in section.tables:
            parts += [f"**{escaped(table.title)}**"] if table.title else []
            parts.append(_grid(_mapped(table, escaped), "rst"))
        if section.lines:
            parts.append("\n".join(f"* {escaped(line)}" for line in section.lines))
        return "\n\n".join(parts)

    return _joined([one(_clean(section)) for section in sections])


RENDERERS: dict[str, Callable[[Sequence[Section]], str]] = {"text": text, "github": github, "rst": rst}


def pipe_table(table: Table) -> str:
    """Render a table for GitHub whose cells are Markdown already, links say; without a newline at its end."""
    return _grid(table, "pipe")


def _grid(table: Table, style: str) -> str:
    align = ("left", *["left" if table.is_text else "right"] * (len(table.headers) - 1))
    # Numbers stay as they are written: tabulate would align and rewrite them by its own rules.
    return tabulate(
        [list(row) for row in table.rows], list(table.headers), tablefmt=style, colalign=align, disable_numparse=True
    )


def _wrapped(line: str) -> str:
    """Fill lines; a percent sign stays with its number, and an interval in one piece."""
    tied = re.sub(r"(?<=\d) (?=%)|(?<=\d,) (?=[\d.]+\])", "\0", line)
    filled = textwrap.fill(
        tied, WIDTH, initial_indent="* ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return filled.replace("\0", " ")


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(parts) + "\n"


def _clean(section: Section) -> Section:
    """Make every text one line of printable characters: a stored file must not steer the reader's terminal."""
    return Section(
        title=printable(section.title),
        tables=tuple(
            _mapped(table, lambda cell: "\n".join(map(printable, cell.split("\n")))) for table in section.tables
        ),
        lines=tuple(printable(line) for line in section.lines),
    )


def _mapped(table: Table, change: Callable[[str], str]) -> Table:
    return replace(
        table,
        headers=tuple(change(each) for each in table.headers),
        rows=tuple(tuple(change(cell) for cell in row) for row in table.rows),
    )


def _on_one_line(cell: str) -> str:
    return cell.replace("-\n", "-").replace("\n/", "/").replace("\n", " ")


def printable(words: str) -> str:
    """Replace what a terminal would obey, and line breaks, by blanks."""
    return "".join(each if each.isprintable() else " " for each in words)
