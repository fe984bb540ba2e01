"""How often identical code is called different: by loopmark's verdicts, its plain intervals, and by stock pyperf."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import shelf
import stock
from loopmark.verdicts import Verdict, verdict
from series import Series, series_of, titled
from shares import Share, bootstrapped_share, clustered_share
from tables import NOTHING, paragraphs, percent, reached, table

NOTABLE = 0.01
"""A difference that people would report."""

CALLED_AT_MOST, MISSED_AT_MOST, ENOUGH = 0.01, 0.08, 1000

MISSED = "missed"
"""A plain 95 % interval that does not contain 1."""

TOO_FEW = "too few blocks"


def rendered(results: Path) -> str:
    """Render what was found in the study `aa`."""
    found = {line.case: shelf.campaigns(results, "aa", line.name) for line in shelf.lines("aa")}
    counted = {case: [count(series_of(each)) for each in campaigns] for case, campaigns in found.items() if campaigns}
    titles = {case: titled(found[case][0].cases[0].case) for case in counted}
    pairs = {
        titles.get(line.case, line.case): [stock.compared(each) for each in shelf.pairs(results, "aa", line.name)]
        for line in shelf.lines("aa", stock=True)
    }
    everything = [each for campaigns in found.values() for each in campaigns]
    return paragraphs(
        shelf.origin(everything), ours({titles[case]: each for case, each in counted.items()}), stocks(pairs)
    )


def count(all_series: Sequence[Series]) -> Counter[str]:
    """Compare every pair of arms in a campaign of identical ones: count its verdicts, and plain intervals without 1.

    Whichever arm of a pair is taken as the baseline: estimates and verdicts are the same but for the sign.
    """
    found: Counter[str] = Counter()
    for series in all_series:
        for first, second in combinations(series.arms, 2):
            judged = verdict(series.compare(first, second, series.level), series.margin)
            plain = series.compare(first, second)
            if judged is None or plain.low is None or plain.high is None:
                found[TOO_FEW] += 1
                continue
            found[judged] += 1
            found[MISSED] += not plain.low <= 1 <= plain.high
    return found


def ours(counted: Mapping[str, Sequence[Counter[str]]]) -> str:
    """Render loopmark's own comparisons, by case and all together."""
    everything = [each for campaigns in counted.values() for each in campaigns]
    if not any(map(_comparisons, everything)):
        return "No comparison yet."
    rows = [_row(title, campaigns) for title, campaigns in counted.items() if any(map(_comparisons, campaigns))]
    called, missed = _shares(everything)
    ends = (
        f"At least {ENOUGH:,} comparisons: {reached(called.total >= ENOUGH)}. "
        f"Called different at most {percent(CALLED_AT_MOST, 0)}: {reached(called.share <= CALLED_AT_MOST)}. "
        f"Plain intervals without 1, upper end at most {percent(MISSED_AT_MOST, 0)}: "
        f"{reached(missed.high <= MISSED_AT_MOST)}."
    )
    if few := sum(each[TOO_FEW] for each in everything):
        ends += f" In campaigns with too few blocks for a verdict {few} pairs were no comparison."
    headers = (
        *("case", "campaigns", "comparisons", "equivalent", "called different", "plain 95 % intervals without 1"),
        *("design effect", "cluster bootstrap"),
    )
    return f"{table(headers, [*rows, _row('all', everything)])}\n\n{ends}"


def stocks(found: Mapping[str, Sequence[stock.Comparison]]) -> str:
    """Render what stock pyperf calls significant."""
    everything = [each for comparisons in found.values() for each in comparisons]
    if not everything:
        return "No pair of stock pyperf files yet."
    rows = [_stock_row(title, each) for title, each in [*found.items(), ("all", everything)] if each]
    headers = ("stock pyperf", "pairs of files", "significant", "significant and 1 % or more", "largest")
    return table(headers, rows)


def _row(title: str, campaigns: Sequence[Counter[str]]) -> list[str]:
    called, missed = _shares(campaigns)
    second = bootstrapped_share(_clusters(campaigns, MISSED))
    return [
        title,
        str(len(campaigns)),
        f"{called.total:,}",
        percent(sum(each[Verdict.EQUIVALENT] for each in campaigns) / called.total, 0),
        f"{called.hits} ({called})",
        f"{missed.hits} ({missed})",
        f"{missed.design_effect:.1f}",
        f"[{100 * second[0]:.1f}, {100 * second[1]:.1f}]" if second else NOTHING,
    ]


def _shares(campaigns: Sequence[Counter[str]]) -> tuple[Share, Share]:
    """Return the share called different, and that of plain intervals without 1.

    Verdicts are too rare to show how much they depend on each other: not less than those intervals, say.
    """
    missed = clustered_share(_clusters(campaigns, MISSED))
    called = clustered_share(_clusters(campaigns, Verdict.FASTER, Verdict.SLOWER), missed.design_effect)
    return called, missed


def _clusters(campaigns: Sequence[Counter[str]], *what: str) -> list[tuple[int, int]]:
    return [(sum(each[one] for one in what), _comparisons(each)) for each in campaigns if _comparisons(each)]


def _comparisons(campaign: Counter[str]) -> int:
    return sum(campaign[each] for each in Verdict)


def _stock_row(title: str, comparisons: Sequence[stock.Comparison]) -> list[str]:
    def share(hits: Sequence[bool]) -> str:
        return f"{sum(hits)} ({clustered_share([(hit, 1) for hit in hits])})"

    return [
        title,
        str(len(comparisons)),
        share([each.significant for each in comparisons]),
        share([each.significant and each.size >= NOTABLE for each in comparisons]),
        percent(max(each.size for each in comparisons), 1),
    ]
