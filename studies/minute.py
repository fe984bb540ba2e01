"""How far off the estimate is after one minute of two identical arms."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import shelf
from series import Series, series_of
from tables import paragraphs, percent, reached, table

MINUTE = 60.0
WITHIN, BEYOND, ENOUGH = 0.005, 0.01, 100
"""Nine of ten minutes are to be this close, none further off than that; so many minutes are wanted."""


def rendered(results: Path) -> str:
    """Render the study `minute`."""
    campaigns = [each for line in shelf.lines("minute") for each in shelf.campaigns(results, "minute", line.name)]
    found = [error for campaign in campaigns for series in series_of(campaign) for error in errors(series)]
    return paragraphs(shelf.origin(campaigns), errors_table(found))


def errors(series: Series) -> Iterator[float]:
    """Yield how far each minute's estimate of two identical arms is from 1, as a share."""
    for span in series.spans(MINUTE):
        first, second = series.arms
        ratio = span.compare(first, second).ratio
        yield max(ratio, 1 / ratio) - 1


def errors_table(found: Sequence[float]) -> str:
    """Render quantiles of the errors, and whether the targets were reached."""
    if not found:
        return "No minute yet."
    middle, most = (float(np.quantile(found, share)) for share in (0.5, 0.9))
    further = sum(error > BEYOND for error in found)
    headers = ("minutes", "median distance from 1", "90 % quantile", "largest", "beyond 1 %")
    row = [str(len(found)), percent(middle), percent(most), percent(max(found)), str(further)]
    good = len(found) >= ENOUGH and most <= WITHIN and not further
    target = (
        f"{ENOUGH} minutes or more, 90 % of them within {percent(WITHIN, 1)}, none beyond {percent(BEYOND, 0)}: "
        f"{reached(good)}."
    )
    return f"{table(headers, [row])}\n\n{target}"
