"""Sections as text, GitHub's markdown or reStructuredText: the only place that knows tabulate."""

import re
import textwrap
from collections.abc import Callable, Sequence

from tabulate import tabulate

from loopmark.report.document import Section
from loopmark.report.tables import Table

WIDTH = 120
"""Of sentences in plain text; tables are as wide as they are."""


def text(sections: Sequence[Section]) -> str:
    """Render for a terminal, without colour."""

    def one(section: Section) -> str:
        parts = [section.title, "-" * len(section.title)]
        if section.table is not None:
            parts += ["", _grid(section.table, "simple"), ""]
        parts += [_wrapped(line) for line in section.lines]
        return "\n".join(parts)

    return _joined([one(_clean(section)) for section in sections])


def github(sections: Sequence[Section]) -> str:
    """Render for GitHub: one line per sentence and per row, so that a change shows where it is."""

    def escaped(words: str) -> str:
        return re.sub(r"([\\*<|])", r"\\\1", words)

    def one(section: Section) -> str:
        parts = [f"### {escaped(section.title)}"]
        if section.table is not None:
            # `pipe` rather than `github`, since it keeps the alignment in every version of tabulate.
            parts.append(
                _grid(
                    _mapped(
                        section.table,
                        lambda cell: escaped(cell.replace("-\n", "-").replace("\n/", "/").replace("\n", " ")),
                    ),
                    "pipe",
                )
            )
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
        if section.table is not None:
            parts.append(_grid(_mapped(section.table, escaped), "rst"))
        parts.append("\n".join(f"* {escaped(line)}" for line in section.lines))
        return "\n\n".join(parts)

    return _joined([one(_clean(section)) for section in sections])


RENDERERS: dict[str, Callable[[Sequence[Section]], str]] = {"text": text, "github": github, "rst": rst}


def _grid(table: Table, style: str) -> str:
    align = ("left", *["right"] * (len(table.headers) - 1))
    # Numbers stay as they are written: tabulate would align and rewrite them by its own rules.
    return tabulate(
        [list(row) for row in table.rows], list(table.headers), tablefmt=style, colalign=align, disable_numparse=True
    )


def _wrapped(line: str) -> str:
    return textwrap.fill(
        line, WIDTH, initial_indent="* ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(parts) + "\n"


def _clean(section: Section) -> Section:
    """Make every text one line of printable characters: a stored file must not steer the reader's terminal."""
    table = section.table and _mapped(section.table, lambda cell: "\n".join(map(printable, cell.split("\n"))))
    return Section(title=printable(section.title), table=table, lines=tuple(printable(line) for line in section.lines))


def _mapped(table: Table, change: Callable[[str], str]) -> Table:
    return Table(
        headers=tuple(change(each) for each in table.headers),
        rows=tuple(tuple(change(cell) for cell in row) for row in table.rows),
    )


def printable(words: str) -> str:
    """Replace what a terminal would obey, and line breaks, by blanks."""
    return "".join(each if each.isprintable() else " " for each in words)
