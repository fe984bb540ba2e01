import math
import random
from collections.abc import Callable, Sequence
from itertools import product
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from loopmark.stats import (
    EXACT_UP_TO,
    Summary,
    critical_rank,
    hodges_lehmann,
    minimum_blocks,
    ratio_interval,
    signed_rank_counts,
    signed_rank_interval,
    summary,
    walsh_averages,
)

differences = st.lists(st.floats(min_value=-1, max_value=1), min_size=1, max_size=12)


def test_walsh_averages_of_three_numbers_by_hand() -> None:
    # Pairs with themselves: 1, 2, 6; mixed: 1.5, 3.5, 4.
    assert walsh_averages([6, 1, 2]) == [1, 1.5, 2, 3.5, 4, 6]


def test_hodges_lehmann_of_three_numbers_by_hand() -> None:
    assert hodges_lehmann([6, 1, 2]) == pytest.approx(2.75)


def test_hodges_lehmann_is_neither_the_mean_nor_the_median() -> None:
    # The eighth of 15 Walsh averages; the mean of the first is 21.2, the median of the second 0.
    assert hodges_lehmann([0, 1, 2, 3, 100]) == 2
    assert hodges_lehmann([0, 0, 0, 3, 3]) == 1.5


def test_an_estimate_without_a_block_is_an_error() -> None:
    with pytest.raises(ValueError, match="no block"):
        hodges_lehmann([])


@pytest.mark.parametrize("blocks", range(1, 9))
def test_the_null_distribution_is_the_enumeration_of_all_signs(blocks: int) -> None:
    sums = [sum(rank for rank, sign in enumerate(signs, 1) if sign) for signs in product((0, 1), repeat=blocks)]
    assert signed_rank_counts(blocks) == tuple(sums.count(t) for t in range(blocks * (blocks + 1) // 2 + 1))


@pytest.mark.parametrize("blocks", [1, 5, 6, 17, 40, 60])
def test_the_null_distribution_gives_scipys_exact_p_values(blocks: int) -> None:
    random_signs = random.Random(blocks)
    sample = [rank if random_signs.random() < 0.4 else -rank for rank in range(1, blocks + 1)]
    positive = sum(rank for rank in sample if rank > 0)
    below = sum(signed_rank_counts(blocks)[: positive + 1]) / 2**blocks
    exact = scipy_stats.wilcoxon(sample, alternative="less", method="exact")
    assert below == pytest.approx(float(exact.pvalue), rel=1e-9)


@pytest.mark.parametrize(
    ("blocks", "level", "rank"),
    # From the tables of the signed-rank distribution: the critical value of the two-sided test at 5 % is rank - 1.
    [(5, 0.95, 0), (6, 0.95, 1), (7, 0.95, 3), (8, 0.95, 4), (10, 0.95, 9), (20, 0.95, 53), (10, 0.99, 4)],
)
def test_the_critical_rank_is_the_one_in_the_tables(blocks: int, level: float, rank: int) -> None:
    assert critical_rank(blocks, level) == rank


def test_a_level_that_six_blocks_reach_exactly_is_reached() -> None:
    assert critical_rank(6, 1 - 2 / 64) == 1


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5, -0.5, math.nan])
def test_a_level_outside_zero_to_one_is_an_error(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        critical_rank(8, level)


def test_the_normal_approximation_takes_over_within_one_rank_of_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for blocks in (EXACT_UP_TO + 1, 80, 120):
        approximate = critical_rank(blocks, 0.95)
        with monkeypatch.context() as patch:
            patch.setattr("loopmark.stats.EXACT_UP_TO", 1000)
            assert abs(critical_rank(blocks, 0.95) - approximate) <= 1


def test_six_blocks_are_the_fewest_for_95_percent() -> None:
    assert minimum_blocks() == 6
    assert minimum_blocks(0.99) == 8
    assert minimum_blocks(0.5) == 2


def test_the_interval_of_six_blocks_runs_from_the_smallest_to_the_largest() -> None:
    assert signed_rank_interval([0.3, -0.1, 0.2, 0.5, 0.1, 0.4]) == (-0.1, 0.5)


def test_the_interval_of_eight_blocks_by_hand() -> None:
    # C = 4: the fourth smallest and the fourth largest of the 36 averages of 1, 2, 4, 8, ... 128,
    # which start 1, 1.5, 2, 2.5, 3 and end 66, 68, 72, 80, 96, 128.
    assert signed_rank_interval([1, 2, 4, 8, 16, 32, 64, 128]) == (2.5, 72)


def test_the_interval_is_where_the_signed_rank_test_does_not_reject() -> None:
    drawn = random.Random(7)
    sample = [drawn.gauss(0.02, 0.05) for _ in range(12)]
    low, high = signed_rank_interval(sample)
    assert low is not None
    assert high is not None

    def p_value(centre: float) -> float:
        return float(scipy_stats.wilcoxon([each - centre for each in sample], method="exact").pvalue)

    assert p_value(low - 1e-9) <= 0.05 < p_value(low + 1e-9)
    assert p_value(high + 1e-9) <= 0.05 < p_value(high - 1e-9)


@given(differences)
def test_the_interval_holds_the_estimate(sample: list[float]) -> None:
    low, high = signed_rank_interval(sample)
    if low is None or high is None:
        assert len(sample) < minimum_blocks()
    else:
        assert low <= hodges_lehmann(sample) <= high


@given(differences)
def test_turning_every_sign_turns_the_estimate_and_the_interval(sample: list[float]) -> None:
    turned = [-each for each in sample]
    assert hodges_lehmann(turned) == -hodges_lehmann(sample)
    low, high = signed_rank_interval(sample)
    if low is not None and high is not None:
        assert signed_rank_interval(turned) == (-high, -low)


def normal(drawn: random.Random) -> float:
    return drawn.gauss(0, 1)


def cauchy(drawn: random.Random) -> float:
    return math.tan(math.pi * (drawn.random() - 0.5))


def drifting(drawn: random.Random) -> float:
    """Most blocks are quiet, some are very loud: symmetric, but not of one width."""
    return drawn.gauss(0, 20 if drawn.random() < 0.2 else 1)


@pytest.mark.parametrize("blocks", [6, 13, 24, 64])
@pytest.mark.parametrize("noise", [normal, cauchy, drifting])
def test_95_percent_intervals_cover_the_truth_in_95_percent(
    noise: Callable[[random.Random], float], blocks: int
) -> None:
    drawn = random.Random(blocks)
    campaigns = 600
    covered = 0
    for _ in range(campaigns):
        low, high = signed_rank_interval([1.5 + noise(drawn) for _ in range(blocks)])
        assert low is not None
        assert high is not None
        covered += low <= 1.5 <= high
    # The exact coverage is a little above the level, since ranks are whole numbers (31/32 at six blocks). Three
    # standard errors of the simulation about the two bounds.
    exact = 1 - 2 * sum(signed_rank_counts(blocks)[: critical_rank(blocks, 0.95)]) / 2**blocks
    assert abs(covered / campaigns - exact) < 3 * math.sqrt(exact * (1 - exact) / campaigns)


def test_the_ratio_is_taken_within_blocks() -> None:
    # The machine is ten times slower in every other block; the contender is at 0.8 of the baseline throughout.
    baseline = [[1.0, 1.1, 0.9] if block % 2 else [10.0, 11.0, 9.0] for block in range(8)]
    contender = [[0.8 * value for value in values] for values in baseline]
    estimate = ratio_interval(contender, baseline)
    assert estimate.ratio == pytest.approx(0.8)
    assert estimate.low == pytest.approx(0.8)
    assert estimate.high == pytest.approx(0.8)
    assert (estimate.blocks, estimate.level) == (8, 0.95)


def test_one_outlier_among_a_blocks_values_changes_nothing() -> None:
    baseline = [[1.0, 1.0, 1.0]] * 6
    assert ratio_interval([[0.9, 0.9, 50.0]] * 6, baseline).ratio == pytest.approx(0.9)


def test_too_few_blocks_give_a_ratio_without_an_interval() -> None:
    estimate = ratio_interval([[2.0]] * 5, [[1.0]] * 5)
    assert estimate.ratio == pytest.approx(2)
    assert estimate.low is None
    assert estimate.high is None


def test_a_higher_level_never_gives_a_narrower_interval() -> None:
    drawn = random.Random(3)
    contender = [[drawn.uniform(1, 2)] for _ in range(12)]
    baseline = [[1.0]] * 12
    wide, plain = ratio_interval(contender, baseline, 0.99), ratio_interval(contender, baseline, 0.95)
    assert wide.low is not None
    assert plain.low is not None
    assert wide.high is not None
    assert plain.high is not None
    assert wide.low < plain.low < plain.high < wide.high


@pytest.mark.parametrize(
    ("contender", "baseline", "complaint"),
    [
        ([[1.0]], [[1.0], [1.0]], "1 blocks of the contender against 2"),
        ([], [], "no block"),
        ([[]], [[1.0]], "without values"),
        ([[0.0]], [[1.0]], "positive"),
        ([[-1.0]], [[1.0]], "positive"),
        ([[math.nan]], [[1.0]], "positive"),
        ([[1.0]], [[math.inf]], "positive"),
    ],
)
def test_what_has_no_ratio_is_an_error(
    contender: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        ratio_interval(contender, baseline)


def test_a_summary_is_the_median_of_medians_with_the_range_over_blocks() -> None:
    blocks = [[1.0, 2.0, 30.0], [4.0], [3.0, 5.0]]
    assert summary(blocks) == Summary(median=4.0, lowest=2.0, highest=4.0, blocks=3)
    assert summary(blocks).median == median([2.0, 4.0, 4.0])


@pytest.mark.parametrize("blocks", [[], [[1.0], []]])
def test_a_summary_of_nothing_is_an_error(blocks: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="no values"):
        summary(blocks)
