"""Estimates and intervals, pure and from the standard library only.

Arms are compared inside blocks, and inside the rounds of a block, where a machine's drift is common to all of them. d
of a block is the median, over its rounds, of the logarithm of the contender's value by the baseline's value in the same
round. What is reported is exp of the Hodges-Lehmann estimate of d, with the interval that belongs to Wilcoxon's
signed-rank test. Between equal arms the coin that orders them in every block and round makes each sign of d a fair one,
whatever the machine did: no normality, no equal scatter of the blocks, not even their independence is assumed. Between
unequal arms it is assumed that noise and speed multiply, so that d is symmetric about the true difference; where it is
not, the interval is one for the pseudomedian of d.

Two campaigns are compared by the two-sample form of the same, which assumes more: see `change_interval`.

Sources: J. L. Hodges and E. L. Lehmann, "Estimates of location based on rank tests", Annals of Mathematical Statistics
34 (1963) 598-611; M. Hollander, D. A. Wolfe and E. Chicken, "Nonparametric Statistical Methods", 3rd edition (2014),
chapters 3 and 4.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, combinations_with_replacement, product
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

    @property
    def half_width(self) -> float | None:
        """Return half the width of the interval, as a share: 0.01 is +-1 %. None without an interval."""
        if self.low is None or self.high is None:
            return None
        return math.sqrt(self.high / self.low) - 1


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
    """Compare two arms over the blocks in which both ran; element i of either holds the values of block i, by round.

    The interval covers the true ratio with at least probability `level` over repetitions. Raises ValueError when there
    is no block, when numbers of blocks or of a block's values differ, and when a value is not a positive number.
    """
    differences = log_ratios(contender, baseline)
    return _estimate(hodges_lehmann(differences), signed_rank_interval(differences, level), len(differences), level)


def change_interval(old: Sequence[float], new: Sequence[float], level: float = 0.95) -> Estimate:
    """Compare the log-ratios of one campaign's blocks with another's: how the ratio itself has changed.

    The two-sample Hodges-Lehmann estimate and the interval of Wilcoxon's rank-sum test (HWC 4.2 and 4.3); `blocks` is
    the smaller number. It assumes that both campaigns' blocks are independent and scatter alike. Where one scatters
    three times as much as the other, the interval misses in 6 to 7 % instead of 5 with equal numbers of blocks, and in
    up to 13 % when that one has 12 blocks and the other 40 (tests/test_stats.py). Raises ValueError when either is
    empty.
    """
    if not old or not new:
        raise ValueError("no block to estimate from")
    shifts = sorted(after - before for before, after in product(old, new))
    rank = critical_shift(len(old), len(new), level)
    ends = (shifts[rank - 1], shifts[-rank]) if rank else (None, None)
    return _estimate(median(shifts), ends, min(len(old), len(new)), level)


def log_ratios(contender: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]]) -> list[float]:
    """Return d of every block; raises as `ratio_interval` does."""
    if len(contender) != len(baseline):
        raise ValueError(f"{len(contender)} blocks of the contender against {len(baseline)} of the baseline")
    return [_log_ratio(ours, theirs) for ours, theirs in zip(contender, baseline, strict=True)]


def _log_ratio(contender: Sequence[float], baseline: Sequence[float]) -> float:
    """Return d of one block, whose rounds are the elements of both."""
    if len(contender) != len(baseline) or not contender:
        raise ValueError(f"a block has {len(contender)} values of the contender and {len(baseline)} of the baseline")
    return median(_log(mine) - _log(other) for mine, other in zip(contender, baseline, strict=True))


def _estimate(centre: float, ends: tuple[float, float] | tuple[None, None], blocks: int, level: float) -> Estimate:
    low, high = ends
    return Estimate(
        ratio=math.exp(centre),
        low=None if low is None else math.exp(low),
        high=None if high is None else math.exp(high),
        blocks=blocks,
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
    tail = _tail(level)
    if blocks > EXACT_UP_TO:
        return _normal_rank(blocks * (blocks + 1) / 4, blocks * (blocks + 1) * (2 * blocks + 1) / 24, tail)
    return _exact_rank(signed_rank_counts(blocks), tail)


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


def critical_shift(first: int, second: int, level: float) -> int:
    """Return the largest C with P(U <= C - 1) <= (1 - level) / 2 under the null hypothesis; 0 when there is none.

    U counts the pairs in which the second sample's value is the smaller one (Mann and Whitney, "On a test of whether
    one of two random variables is stochastically larger than the other", Annals of Mathematical Statistics 18 (1947)
    50-60). Exact up to 60 blocks in all; beyond, the normal approximation with its continuity correction (HWC 4.1).
    """
    tail = _tail(level)
    if first + second > EXACT_UP_TO:
        return _normal_rank(first * second / 2, first * second * (first + second + 1) / 12, tail)
    return _exact_rank(rank_sum_counts(first, second), tail)


@cache
def rank_sum_counts(first: int, second: int) -> tuple[int, ...]:
    """Count, for each u from 0 to m n, the orders of m and n distinct values in which U is u.

    The largest value is of the first sample, and then no value of the second is larger, or of the second (Mann and
    Whitney 1947): count(m, n, u) = count(m - 1, n, u - n) + count(m, n - 1, u).
    """
    if first == 0 or second == 0:
        return (1,)
    with_first, with_second = rank_sum_counts(first - 1, second), rank_sum_counts(first, second - 1)
    counts = [0] * (first * second + 1)
    for u, ways in enumerate(with_first):
        counts[u + second] += ways
    for u, ways in enumerate(with_second):
        counts[u] += ways
    return tuple(counts)


def _tail(level: float) -> float:
    """Return the share that an interval may miss on either side."""
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not at {level}")
    return (1 - level) / 2


def _exact_rank(counts: Sequence[int], tail: float) -> int:
    """Return how many of the lowest outcomes, which occur in so many ways each, have the share `tail` at most."""
    # 1 - 0.9 is a hair below 0.1: a share that is reached exactly must not be lost to rounding.
    allowed = tail * sum(counts) * (1 + 1e-9)
    return bisect_right(list(accumulate(counts)), allowed)


def _normal_rank(mean: float, variance: float, tail: float) -> int:
    return max(0, math.floor(mean + NormalDist().inv_cdf(tail) * math.sqrt(variance) + 0.5))


def minimum_blocks(level: float = 0.95) -> int:
    """Return the fewest blocks that have an interval at this level: 2**-n must not exceed (1 - level) / 2."""
    blocks = 1
    while not critical_rank(blocks, level):
        blocks += 1
    return blocks


def _log(value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"a ratio needs positive times, got {value}")
    return math.log(value)
