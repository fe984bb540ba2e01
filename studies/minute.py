"""How far off the estimate is after one minute of two identical arms."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import shelf
from series import Series, series_of, titled
from tables import paragraphs, percent, reached, table

MINUTE = 60.0
WITHIN, BEYOND, ENOUGH = 0.005, 0.01, 100
"""Nine of ten minutes are to be this close, none further off than that; so many minutes are wanted."""


def rendered(results: Path) -> str:
    """Render the study `minute`, and beside it pairs of arms out of the study `aa`."""
    campaigns = [each for line in shelf.lines("minute") for each in shelf.campaigns(results, "minute", line.name)]
    alone = [series for campaign in campaigns for series in series_of(campaign)]
    rows = {"two arms alone": [error for series in alone for error in errors(series)]}
    for line in shelf.lines("aa"):
        among = [each for campaign in shelf.campaigns(results, "aa", line.name) for each in series_of(campaign)]
        if among:
            name = f"pairs among {len(among[0].arms)} arms: {titled(among[0].case)}"
            rows[name] = [error for series in among for error in errors(series)]
    return paragraphs(shelf.origin(campaigns), errors_table(list(rows.items())))


def errors(series: Series) -> Iterator[float]:
    """Yield how far each minute's estimate of each pair of identical arms is from 1, as a share.

    Each arm belongs to one pair only. Of a block of several arms a pair has its share of the time.
    """
    pairs = list(zip(series.arms[::2], series.arms[1::2], strict=False))
    for span in series.spans(MINUTE * len(series.arms) / 2):
        for first, second in pairs:
            ratio = span.compare(first, second).ratio
            yield max(ratio, 1 / ratio) - 1


def errors_table(rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Render quantiles of the errors, and whether the targets were reached by the first row's."""
    rows = [(name, each) for name, each in rows if len(each) > 0]
    if not rows:
        return "No minute yet."
    shown = [
        [
            name,
            str(len(each)),
            percent(float(np.quantile(each, 0.5))),
            percent(float(np.quantile(each, 0.9))),
            percent(max(each)),
            str(sum(error > BEYOND for error in each)),
        ]
        for name, each in rows
    ]
    headers = ("|estimate - 1| after one minute", "minutes", "median", "90 % quantile", "largest", "beyond 1 %")
    name, found = rows[0]
    good = len(found) >= ENOUGH and np.quantile(found, 0.9) <= WITHIN and max(found) <= BEYOND
    target = (
        f"{ENOUGH} minutes or more, 90 % of them within {percent(WITHIN, 1)}, none beyond {percent(BEYOND, 0)} "
        f"({name}): {reached(bool(good))}."
    )
    return f"{table(headers, shown)}\n\n{target}"
