"""From intervals to words: verdicts by margin, ranking letters, the level that many intervals share. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from string import ascii_lowercase

from loopmark.stats import Estimate

MARGIN = 0.01
"""Differences up to this share count as none, unless another margin is declared beforehand."""


class Verdict(StrEnum):
    """Where an interval lies. Two contenders within the margin of a third may be further apart from each other."""

    FASTER = "faster"
    SLOWER = "slower"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


def family_level(intervals: int, level: float = 0.95) -> float:
    """Return the level of each of several intervals that all hold together with probability `level` (Bonferroni)."""
    return 1 - (1 - level) / max(1, intervals)


def verdict(estimate: Estimate, margin: float = MARGIN) -> Verdict | None:
    """Judge an interval by the margin, which reaches from 1 / (1 + margin) to 1 + margin; None without an interval.

    Bounds are symmetric on the logarithm, so that exchanging the two arms exchanges faster and slower. What says
    `equivalent` is an interval wholly inside: the two one-sided tests of D. J. Schuirmann, Journal of
    Pharmacokinetics and Biopharmaceutics 15 (1987) 657-680, at a stricter level.
    """
    if estimate.low is None or estimate.high is None:
        return None
    return _place(estimate.low, estimate.high, margin)


def leaning(estimate: Estimate, margin: float = MARGIN) -> Verdict:
    """Return the verdict that the estimate alone would have, which is no finding."""
    return _place(estimate.ratio, estimate.ratio, margin)


def _place(low: float, high: float, margin: float) -> Verdict:
    if high < 1 / (1 + margin):
        return Verdict.FASTER
    if low > 1 + margin:
        return Verdict.SLOWER
    if low >= 1 / (1 + margin) and high <= 1 + margin:
        return Verdict.EQUIVALENT
    return Verdict.INCONCLUSIVE


def letters(intervals: Mapping[str, tuple[float, float]]) -> dict[str, str]:
    """Give each name the letters of the groups that it belongs to, `a` for the lowest.

    Simultaneous intervals that do not overlap belong to different ratios, with the confidence of all of them together.
    So whoever shares a letter has a point in common with all others of that letter: they are the largest sets of
    intervals that overlap, one after the other from below. A shared letter is no equality. An end that only touches
    another overlaps it.
    """
    found: dict[str, str] = dict.fromkeys(intervals, "")
    groups: list[frozenset[str]] = []
    # A largest set of overlapping intervals shares the highest of its lower ends.
    for point in sorted({low for low, _ in intervals.values()}):
        group = frozenset(name for name, (low, high) in intervals.items() if low <= point <= high)
        if groups and groups[-1] <= group:
            groups.pop()
        groups.append(group)
    for number, group in enumerate(groups):
        for name in group:
            found[name] += _letter(number)
    return found


def _letter(number: int) -> str:
    return ascii_lowercase[number] if number < len(ascii_lowercase) else f"({number + 1})"
