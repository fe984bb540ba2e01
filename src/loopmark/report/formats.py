"""One comparison in any format: sections for reading, flat rows for programs."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from loopmark.errors import UsageError
from loopmark.report.document import Section
from loopmark.report.render import RENDERERS

FORMATS = (*RENDERERS, "csv", "json")


def rendered(
    format: str,  # noqa: A002 - the command line's own word
    sections: Callable[[], Sequence[Section]],
    columns: Sequence[str],
    rows: Callable[[], Iterable[Mapping[str, Any]]],
    about: Mapping[str, Any],
) -> str:
    """Return the text, ended by a newline; `about` is what a JSON document has beside its rows.

    Every row of the flat formats has all columns; what it lacks is an empty cell, or null. Raises UsageError for a
    format that does not exist.
    """
    if format in RENDERERS:
        return RENDERERS[format](sections())
    filled = [{column: row.get(column) for column in columns} for row in rows()]
    if format == "json":
        return json.dumps({**about, "rows": filled}, indent=1, allow_nan=False) + "\n"
    if format != "csv":
        raise UsageError(f"unknown format {format!r}; there are {', '.join(FORMATS)}")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if value is None else value for value in row.values()] for row in filled)
    return stream.getvalue()
