"""Tables and texts of a campaign: rendering only, from what is stored to a string."""

from collections.abc import Sequence

from loopmark.errors import UsageError
from loopmark.record import Campaign
from loopmark.report.describe import description
from loopmark.report.document import Section, comparison_sections
from loopmark.report.flat import as_csv, as_json
from loopmark.report.foreign import comparison_of_files
from loopmark.report.formats import FORMATS
from loopmark.report.matrix import is_matrix, matrix_sections
from loopmark.report.regression import regression_report
from loopmark.report.render import RENDERERS
from loopmark.report.smoke import is_smoke, smoke_sections

__all__ = ["FORMATS", "comparison", "comparison_of_files", "description", "regression_report", "sections"]


def comparison(campaigns: Campaign | Sequence[Campaign], format: str = "text") -> str:  # noqa: A002 - the command line's own word
    """Render the tables of one campaign or of several; the same ones always give the same text, ended by a newline.

    `text`, `github` and `rst` are for reading; `csv` and `json` have one flat row per case, arm and metric, with full
    precision. Raises UsageError for any other format.
    """
    every = [campaigns] if isinstance(campaigns, Campaign) else list(campaigns)
    if format == "csv":
        return as_csv(every)
    if format == "json":
        return as_json(every)
    if format not in RENDERERS:
        raise UsageError(f"unknown format {format!r}; there are {', '.join(FORMATS)}")
    return "\n".join(RENDERERS[format](sections(campaign)) for campaign in every)


def sections(campaign: Campaign) -> list[Section]:
    """Return what `comparison` renders for reading, before any format."""
    if is_smoke(campaign):
        return smoke_sections(campaign)
    return (matrix_sections if is_matrix(campaign) else comparison_sections)(campaign)
