import math
import random
from collections.abc import Callable, Sequence
from itertools import combinations, product
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from tests.tolerance import fewest, most

from loopmark.stats import (
    EXACT_UP_TO,
    Estimate,
    Summary,
    change_interval,
    critical_rank,
    critical_shift,
    hodges_lehmann,
    log_ratios,
    minimum_blocks,
    rank_sum_counts,
    ratio_interval,
    signed_rank_counts,
    signed_rank_interval,
    summary,
    walsh_averages,
)


def ends(interval: tuple[float, float] | tuple[None, None]) -> tuple[float, float]:
    low, high = interval
    assert low is not None
    assert high is not None
    return low, high


def ends_of(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


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


@pytest.mark.parametrize("level", [0.95, 0.99, 0.995])
def test_the_normal_approximation_takes_over_near_the_exact_rank_and_on_the_safe_side(
    level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    approximate = {blocks: critical_rank(blocks, level) for blocks in (EXACT_UP_TO + 1, 80, 120)}
    monkeypatch.setattr("loopmark.stats.EXACT_UP_TO", 1000)
    for blocks, rank in approximate.items():
        exact = critical_rank(blocks, level)
        assert exact * 0.99 - 1 <= rank <= exact


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


@pytest.mark.parametrize("level", [0.9, 0.95, 0.9875])
@pytest.mark.parametrize("blocks", [9, 12, 25, 40])
def test_the_interval_is_where_scipys_signed_rank_test_does_not_reject(blocks: int, level: float) -> None:
    drawn = random.Random(blocks)
    sample = [drawn.gauss(0.02, 0.05) for _ in range(blocks)]
    low, high = ends(signed_rank_interval(sample, level))

    def p_value(centre: float) -> float:
        return float(scipy_stats.wilcoxon([each - centre for each in sample], method="exact").pvalue)

    assert p_value(low - 1e-9) <= 1 - level < p_value(low + 1e-9)
    assert p_value(high + 1e-9) <= 1 - level < p_value(high - 1e-9)


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


Noise = Callable[[random.Random], float]


def normal(drawn: random.Random) -> float:
    return drawn.gauss(0, 1)


def cauchy(drawn: random.Random) -> float:
    return math.tan(math.pi * (drawn.random() - 0.5))


def student(drawn: random.Random) -> float:
    """Draw Student's t with two degrees of freedom, which has no variance."""
    return drawn.gauss(0, 1) / math.sqrt(drawn.expovariate(1))


def contaminated(drawn: random.Random) -> float:
    """Most blocks are quiet, some are very loud: symmetric, but not of one width."""
    return drawn.gauss(0, 20 if drawn.random() < 0.2 else 1)


def bursts(drawn: random.Random) -> float:
    """Either arm may be hit by a neighbour, which only ever slows it down."""

    def arm() -> float:
        return drawn.gauss(0, 0.5) + (drawn.expovariate(0.2) if drawn.random() < 0.15 else 0)

    return arm() - arm()


NOISES = (normal, cauchy, student, contaminated, bursts)


def exact_level(blocks: int, level: float = 0.95) -> float:
    """Return what the interval truly covers: a little more than its level, since ranks are whole numbers."""
    return 1 - 2 * sum(signed_rank_counts(blocks)[: critical_rank(blocks, level)]) / float(2**blocks)


@pytest.mark.parametrize("blocks", [6, 9, 24, 40])
@pytest.mark.parametrize("noise", NOISES)
def test_95_percent_intervals_cover_the_truth_in_95_percent(noise: Noise, blocks: int) -> None:
    drawn = random.Random(blocks)
    campaigns, covered = 600, 0
    for _ in range(campaigns):
        low, high = ends(signed_rank_interval([1.5 + noise(drawn) for _ in range(blocks)]))
        covered += low <= 1.5 <= high
    assert fewest(campaigns, exact_level(blocks)) <= covered <= most(campaigns, exact_level(blocks))


@pytest.mark.parametrize("truth", [0.8, 1.0])
def test_values_on_a_drifting_machine_with_bursts_give_intervals_that_cover_the_true_ratio(truth: float) -> None:
    drawn = random.Random(5)
    campaigns, blocks, covered = 1000, 12, 0
    for _ in range(campaigns):
        low, high = ends_of(ratio_interval(*shared_machine(drawn, truth, blocks)))
        covered += low <= truth <= high
    assert fewest(campaigns, exact_level(blocks)) <= covered <= most(campaigns, exact_level(blocks))


def shared_machine(drawn: random.Random, truth: float, blocks: int) -> tuple[list[list[float]], list[list[float]]]:
    """Simulate two arms in three rounds a block: the speed wanders, and bursts of a neighbour's hit either arm."""
    speed = 1.0
    contender: list[list[float]] = []
    baseline: list[list[float]] = []
    for _ in range(blocks):
        speed *= math.exp(drawn.gauss(0, 0.1))
        for arm, ratio in ((contender, truth), (baseline, 1.0)):
            hits = [1 + drawn.expovariate(3) if drawn.random() < 0.2 else 1.0 for _ in range(3)]
            arm.append([speed * ratio * hit * drawn.lognormvariate(0, 0.01) for hit in hits])
    return contender, baseline


def test_the_ratio_is_taken_within_blocks() -> None:
    # The machine is ten times slower in every other block; the contender is at 0.8 of the baseline throughout.
    baseline = [[1.0, 1.1, 0.9] if block % 2 else [10.0, 11.0, 9.0] for block in range(8)]
    contender = [[0.8 * value for value in values] for values in baseline]
    estimate = ratio_interval(contender, baseline)
    assert estimate.ratio == pytest.approx(0.8)
    assert estimate.low == pytest.approx(0.8)
    assert estimate.high == pytest.approx(0.8)
    assert (estimate.blocks, estimate.level) == (8, 0.95)


def test_the_ratio_is_taken_within_rounds() -> None:
    # Within a block the machine's speed changes from round to round by more than the arms differ.
    speeds = [1.0, 3.0, 1.5, 2.5, 2.0]
    baseline = [speeds] * 6
    contender = [[0.8 * speed for speed in speeds]] * 6
    assert ends_of(ratio_interval(contender, baseline)) == pytest.approx((0.8, 0.8))


def test_a_blocks_difference_is_the_median_of_its_rounds_and_no_difference_of_medians() -> None:
    # The rounds' ratios are 1/4, 5 and 3; the medians are 5 and 2.
    assert log_ratios([[1.0, 5.0, 6.0]], [[4.0, 1.0, 2.0]]) == [pytest.approx(math.log(3))]


def test_one_outlier_among_a_blocks_values_changes_nothing() -> None:
    baseline = [[1.0, 1.0, 1.0]] * 6
    assert ratio_interval([[0.9, 0.9, 50.0]] * 6, baseline).ratio == pytest.approx(0.9)


def test_an_interval_of_plus_minus_one_percent_has_the_half_width_of_one_percent() -> None:
    estimate = Estimate(ratio=0.5, low=0.5 / 1.01, high=0.5 * 1.01, blocks=9, level=0.95)
    assert estimate.half_width == pytest.approx(0.01)
    assert ratio_interval([[2.0]] * 5, [[1.0]] * 5).half_width is None


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
        ([[]], [[]], "0 values of the contender and 0"),
        ([[1.0, 1.0]], [[1.0]], "2 values of the contender and 1"),
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


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 4), (3, 2), (4, 4), (5, 3)])
def test_the_two_sample_null_distribution_is_the_enumeration_of_all_orders(first: int, second: int) -> None:
    places = range(first + second)
    found = [
        sum(one > other for one in mine for other in set(places) - set(mine)) for mine in combinations(places, first)
    ]
    assert rank_sum_counts(first, second) == tuple(found.count(u) for u in range(first * second + 1))


@pytest.mark.parametrize(("first", "second"), [(2, 3), (6, 6), (9, 14), (12, 40), (30, 30)])
def test_the_two_sample_null_distribution_gives_scipys_exact_p_values(first: int, second: int) -> None:
    drawn = random.Random(first)
    old, new = ([drawn.gauss(0, 1) for _ in range(count)] for count in (first, second))
    larger = sum(before > after for before, after in product(old, new))
    below = sum(rank_sum_counts(first, second)[: larger + 1]) / math.comb(first + second, first)
    exact = scipy_stats.mannwhitneyu(old, new, alternative="less", method="exact")
    assert below == pytest.approx(float(exact.pvalue), rel=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "rank"),
    # From the tables of Mann and Whitney's U: the critical value of the two-sided test at 5 % is rank - 1.
    [(3, 3, 0), (4, 4, 1), (5, 5, 3), (5, 8, 7), (8, 8, 14), (10, 10, 24), (20, 20, 128)],
)
def test_the_critical_shift_is_the_one_in_the_tables(first: int, second: int, rank: int) -> None:
    assert critical_shift(first, second, 0.95) == critical_shift(second, first, 0.95) == rank


def test_a_level_that_two_samples_reach_exactly_is_not_lost_to_rounding() -> None:
    # Of the 20 orders of three and three values two are extreme, which is 10 % exactly; 1 - 0.9 is a hair less.
    assert critical_shift(3, 3, 0.9) == 1


@pytest.mark.parametrize("level", [0.0, 1.0, math.nan])
def test_a_level_of_two_samples_lies_between_zero_and_one(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        critical_shift(8, 8, level)


@pytest.mark.parametrize("level", [0.95, 0.99, 0.995])
def test_the_normal_approximation_of_two_samples_takes_over_near_the_exact_rank_and_on_the_safe_side(
    level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [(31, 30), (12, 50), (40, 60)]
    approximate = {each: critical_shift(*each, level) for each in sizes}
    monkeypatch.setattr("loopmark.stats.EXACT_UP_TO", 1000)
    for each, rank in approximate.items():
        exact = critical_shift(*each, level)
        assert exact * 0.97 - 1 <= rank <= exact


@pytest.mark.parametrize("level", [0.9, 0.95, 0.9875])
@pytest.mark.parametrize(("first", "second"), [(6, 6), (9, 14), (24, 12)])
def test_the_change_is_where_scipys_rank_sum_test_does_not_reject(first: int, second: int, level: float) -> None:
    drawn = random.Random(first)
    old = [drawn.gauss(0, 0.05) for _ in range(first)]
    new = [drawn.gauss(0.03, 0.05) for _ in range(second)]
    low, high = (math.log(end) for end in ends_of(change_interval(old, new, level)))

    def p_value(change: float) -> float:
        return float(scipy_stats.mannwhitneyu([each + change for each in old], new, method="exact").pvalue)

    assert p_value(low - 1e-9) <= 1 - level + 1e-12 < p_value(low + 1e-9)
    assert p_value(high + 1e-9) <= 1 - level + 1e-12 < p_value(high - 1e-9)


def test_the_change_of_two_small_campaigns_by_hand() -> None:
    # New less old, sorted: 1 1 2 2 3 3 4 4 5 5 6 6 7 7 8 8; C = 1 for four and four blocks.
    estimate = change_interval([0, 2, 4, 6], [7, 7, 8, 8])
    assert (estimate.blocks, estimate.level) == (4, 0.95)
    assert [math.log(each) for each in (estimate.ratio, *ends_of(estimate))] == pytest.approx([4.5, 1, 8])


def test_a_change_has_as_many_blocks_as_the_shorter_campaign() -> None:
    assert change_interval([0.0] * 4, [0.0] * 9).blocks == change_interval([0.0] * 9, [0.0] * 4).blocks == 4


def test_a_change_of_few_blocks_has_no_interval() -> None:
    estimate = change_interval([0.0, 0.1, 0.2], [0.3, 0.4, 0.5])
    assert estimate.ratio == pytest.approx(math.exp(0.3))
    assert (estimate.low, estimate.high, estimate.blocks) == (None, None, 3)


@pytest.mark.parametrize(("old", "new"), [([], [1.0]), ([1.0], [])])
def test_a_change_without_blocks_is_an_error(old: list[float], new: list[float]) -> None:
    with pytest.raises(ValueError, match="no block"):
        change_interval(old, new)


@given(differences, differences)
def test_exchanging_old_and_new_inverts_the_change(old: list[float], new: list[float]) -> None:
    there, back = change_interval(old, new), change_interval(new, old)
    assert there.ratio == pytest.approx(1 / back.ratio)
    if there.low is None or there.high is None:
        assert back.low is None
    else:
        low, high = ends_of(back)
        assert ends_of(there) == pytest.approx((1 / high, 1 / low))
        assert there.low <= there.ratio <= there.high


def missed(
    noise: Noise, *, old: int, new: int, scatter: tuple[float, float] = (1.0, 1.0), campaigns: int, seed: int
) -> int:
    """Count the 95 % intervals that miss a true change by 3 %."""
    drawn = random.Random(seed)
    count = 0
    for _ in range(campaigns):
        before = [0.01 * scatter[0] * noise(drawn) for _ in range(old)]
        after = [math.log(1.03) + 0.01 * scatter[1] * noise(drawn) for _ in range(new)]
        low, high = ends_of(change_interval(before, after))
        count += not low <= 1.03 <= high
    return count


@pytest.mark.parametrize(("old", "new"), [(9, 9), (12, 24)])
@pytest.mark.parametrize("noise", NOISES)
def test_the_interval_of_a_change_covers_it_in_95_percent(noise: Noise, old: int, new: int) -> None:
    outside = 2 * sum(rank_sum_counts(old, new)[: critical_shift(old, new, 0.95)]) / math.comb(old + new, old)
    count = missed(noise, old=old, new=new, campaigns=600, seed=old)
    assert fewest(600, outside) <= count <= most(600, outside)


@pytest.mark.parametrize(
    ("old", "new", "scatter", "share"),
    # The shares in 20,000 campaigns each.
    [(12, 12, (1.0, 3.0), 0.066), (12, 40, (3.0, 1.0), 0.126), (12, 40, (1.0, 3.0), 0.018)],
)
def test_campaigns_of_unlike_scatter_make_the_interval_of_a_change_miss_as_often_as_its_docstring_tells(
    old: int, new: int, scatter: tuple[float, float], share: float
) -> None:
    count = missed(normal, old=old, new=new, scatter=scatter, campaigns=800, seed=1)
    assert fewest(800, share) <= count <= most(800, share)
