"""Estimates and intervals, pure and from the standard library only.

Arms are compared inside blocks, where a machine's drift is common to all of them. y(block, arm) is the logarithm of the
median of the arm's values, d = y(contender) - y(baseline) in the same block, and what is reported is exp of the
Hodges-Lehmann estimate of d, with the interval that belongs to Wilcoxon's signed-rank test. The coin that orders the
arms in every block makes d symmetric about the true difference; nothing else is assumed of its distribution.

Sources: J. L. Hodges and E. L. Lehmann, "Estimates of location based on rank tests", Annals of Mathematical Statistics
34 (1963) 598-611; M. Hollander, D. A. Wolfe and E. Chicken, "Nonparametric Statistical Methods", 3rd edition (2014),
chapter 3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
from statistics import NormalDist, median

EXACT_UP_TO = 60
"""With more blocks than this the null distribution is taken as normal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A ratio to the baseline: below 1 is faster. `low` and `high` are None with fewer than `minimum_blocks(level)`."""

    ratio: float
    low: float | None
    high: float | None
    blocks: int
    level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An absolute figure: the median over blocks of each block's median, and the lowest and the highest block."""

    median: float
    lowest: float
    highest: float
    blocks: int


def ratio_interval(
    contender: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]], level: float = 0.95
) -> Estimate:
    """Compare two arms over the blocks in which both ran; element i of either holds the values of block i.

    The interval covers the true ratio with at least probability `level` over repetitions. Raises ValueError when there
    is no block, when the lengths differ, and when a block's median is not a positive number.
    """
    if len(contender) != len(baseline):
        raise ValueError(f"{len(contender)} blocks of the contender against {len(baseline)} of the baseline")
    differences = [_log_median(ours) - _log_median(theirs) for ours, theirs in zip(contender, baseline, strict=True)]
    low, high = signed_rank_interval(differences, level)
    return Estimate(
        ratio=math.exp(hodges_lehmann(differences)),
        low=None if low is None else math.exp(low),
        high=None if high is None else math.exp(high),
        blocks=len(differences),
        level=level,
    )


def summary(blocks: Sequence[Sequence[float]]) -> Summary:
    """Sum up one arm's values, given block by block; raises ValueError without any."""
    if not blocks or not all(blocks):
        raise ValueError("no values to sum up")
    medians = [median(values) for values in blocks]
    return Summary(median=median(medians), lowest=min(medians), highest=max(medians), blocks=len(medians))


def hodges_lehmann(differences: Sequence[float]) -> float:
    """Estimate the centre of symmetry: the median of the Walsh averages (Hodges & Lehmann 1963; HWC 3.2)."""
    if not differences:
        raise ValueError("no block to estimate from")
    return median(walsh_averages(differences))


def signed_rank_interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float] | tuple[None, None]:
    """Return the distribution-free interval for the centre (HWC 3.3), both ends included; Nones with too few blocks.

    Its ends are the C-th smallest and the C-th largest of the n (n + 1) / 2 Walsh averages, with C from
    `critical_rank`.
    """
    rank = critical_rank(len(differences), level)
    if rank == 0:
        return None, None
    averages = walsh_averages(differences)
    return averages[rank - 1], averages[-rank]


def walsh_averages(differences: Sequence[float]) -> list[float]:
    """Return the means of all pairs i <= j, sorted: n (n + 1) / 2 of them."""
    return sorted((a + b) / 2 for a, b in combinations_with_replacement(differences, 2))


def critical_rank(blocks: int, level: float) -> int:
    """Return the largest C with P(T+ <= C - 1) <= (1 - level) / 2 under the null hypothesis; 0 when there is none.

    T+ is the sum of the ranks of the positive differences. Exact up to 60 blocks; beyond, the normal approximation
    with its continuity correction (HWC, large-sample form of 3.3).
    """
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not at {level}")
    tail = (1 - level) / 2
    if blocks > EXACT_UP_TO:
        mean = blocks * (blocks + 1) / 4
        deviation = math.sqrt(blocks * (blocks + 1) * (2 * blocks + 1) / 24)
        return max(0, math.floor(mean + NormalDist().inv_cdf(tail) * deviation + 0.5))
    allowed = tail * 2**blocks
    reached = rank = 0
    for ways in signed_rank_counts(blocks):
        reached += ways
        if reached > allowed:
            break
        rank += 1
    return rank


@cache
def signed_rank_counts(blocks: int) -> tuple[int, ...]:
    """Count, for each t from 0 to n (n + 1) / 2, the subsets of the ranks 1..n with the sum t.

    Divided by 2**n this is the null distribution of T+. A subset either has the rank or not, hence the recursion
    count(n, t) = count(n - 1, t) + count(n - 1, t - n).
    """
    counts = [1]
    for rank in range(1, blocks + 1):
        counts = [a + b for a, b in zip(counts + [0] * rank, [0] * rank + counts, strict=True)]
    return tuple(counts)


def minimum_blocks(level: float = 0.95) -> int:
    """Return the fewest blocks that have an interval at this level: 2**-n must not exceed (1 - level) / 2."""
    blocks = 1
    while not critical_rank(blocks, level):
        blocks += 1
    return blocks


def _log_median(values: Sequence[float]) -> float:
    if not values:
        raise ValueError("a block without values")
    middle = median(values)
    if not (middle > 0 and math.isfinite(middle)):
        raise ValueError(f"a ratio needs positive times, got a median of {middle}")
    return math.log(middle)
