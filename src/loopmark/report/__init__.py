"""Tables and texts of a campaign: rendering only, from what is stored to a string."""

from loopmark.errors import UsageError
from loopmark.record import Campaign
from loopmark.report.describe import description
from loopmark.report.document import comparison_sections
from loopmark.report.flat import as_csv, as_json
from loopmark.report.render import RENDERERS

__all__ = ["FORMATS", "comparison", "description"]

FORMATS = (*RENDERERS, "csv", "json")


def comparison(campaign: Campaign, format: str = "text") -> str:  # noqa: A002 - the command line's own word
    """Render a campaign's tables; the same campaign always gives the same text, which ends with a newline.

    `text`, `github` and `rst` are for reading; `csv` and `json` have one flat row per case, arm and metric, with full
    precision. Raises UsageError for any other format.
    """
    if format == "csv":
        return as_csv(campaign)
    if format == "json":
        return as_json(campaign)
    if format not in RENDERERS:
        raise UsageError(f"unknown format {format!r}; there are {', '.join(FORMATS)}")
    return RENDERERS[format](comparison_sections(campaign))
