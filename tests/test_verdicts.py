import math
import random
from collections.abc import Mapping
from itertools import combinations, pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.tolerance import fewest, most

from loopmark.stats import Estimate, critical_rank, minimum_blocks, ratio_interval, signed_rank_counts
from loopmark.verdicts import MARGIN, Verdict, family_level, leaning, letters, verdict

FASTER, SLOWER, EQUIVALENT, INCONCLUSIVE = Verdict.FASTER, Verdict.SLOWER, Verdict.EQUIVALENT, Verdict.INCONCLUSIVE
MIRRORED = {FASTER: SLOWER, SLOWER: FASTER, EQUIVALENT: EQUIVALENT, INCONCLUSIVE: INCONCLUSIVE}

logs = st.floats(min_value=-0.1, max_value=0.1)
margins = st.sampled_from([0.0, 0.001, 0.01, 0.05])


def estimate(low: float, high: float) -> Estimate:
    return Estimate(ratio=math.sqrt(low * high), low=low, high=high, blocks=12, level=0.95)


def of_logs(ends: tuple[float, float]) -> Estimate:
    return estimate(math.exp(min(ends)), math.exp(max(ends)))


def off_the_margin(margin: float, *ends: float) -> bool:
    """Tell whether no end is so near the margin that rounding decides."""
    return all(abs(abs(end) - math.log1p(margin)) > 1e-12 for end in ends)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.90, 0.95, FASTER),
        (0.985, 0.9900, FASTER),
        (0.985, 0.9902, INCONCLUSIVE),
        (0.985, 1.005, INCONCLUSIVE),
        (0.985, 1.015, INCONCLUSIVE),
        (1.005, 1.015, INCONCLUSIVE),
        (0.9902, 1.0099, EQUIVALENT),
        (0.995, 0.999, EQUIVALENT),
        (1.001, 1.002, EQUIVALENT),
        (1.0101, 1.02, SLOWER),
        (1.05, 1.20, SLOWER),
    ],
)
def test_the_verdict_is_where_the_interval_lies(low: float, high: float, expected: Verdict) -> None:
    assert verdict(estimate(low, high)) is expected


def test_an_end_on_the_margin_is_inside() -> None:
    assert verdict(estimate(1 / 1.01, 1.01)) is EQUIVALENT
    assert verdict(estimate(1.01, 1.02)) is INCONCLUSIVE
    assert verdict(estimate(0.98, 1 / 1.01)) is INCONCLUSIVE


def test_a_wider_margin_makes_the_same_interval_equivalent() -> None:
    assert verdict(estimate(1.02, 1.03), 0.01) is SLOWER
    assert verdict(estimate(1.02, 1.03), 0.025) is INCONCLUSIVE
    assert verdict(estimate(1.02, 1.03), 0.05) is EQUIVALENT


def test_without_an_interval_there_is_no_verdict() -> None:
    assert verdict(Estimate(ratio=0.5, low=None, high=None, blocks=5, level=0.95)) is None


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0.98, FASTER), (0.995, EQUIVALENT), (1.005, EQUIVALENT), (1.1, SLOWER)]
)
def test_the_leaning_is_where_the_estimate_lies(ratio: float, expected: Verdict) -> None:
    assert leaning(Estimate(ratio=ratio, low=0.5, high=2.0, blocks=12, level=0.95)) is expected
    assert leaning(Estimate(ratio=ratio, low=None, high=None, blocks=2, level=0.95)) is expected


@given(st.tuples(logs, logs), margins)
def test_exchanging_the_arms_exchanges_faster_and_slower(ends: tuple[float, float], margin: float) -> None:
    assume(off_the_margin(margin, *ends))
    there, back = of_logs(ends), of_logs((-ends[0], -ends[1]))
    assert verdict(back, margin) is MIRRORED[judged(there, margin)]
    assume(off_the_margin(margin, sum(ends) / 2))
    assert leaning(back, margin) is MIRRORED[leaning(there, margin)]


@given(st.lists(logs, min_size=6, max_size=9), margins)
def test_exchanging_the_arms_in_the_data_exchanges_the_verdict(differences: list[float], margin: float) -> None:
    contender, baseline = [[math.exp(each)] for each in differences], [[1.0]] * len(differences)
    there, back = ratio_interval(contender, baseline), ratio_interval(baseline, contender)
    assert there.low is not None
    assert there.high is not None
    assume(off_the_margin(margin, math.log(there.low), math.log(there.high)))
    assert verdict(back, margin) is MIRRORED[judged(there, margin)]


ORDER = [FASTER, EQUIVALENT, SLOWER]


@given(st.tuples(logs, logs), st.floats(min_value=0, max_value=0.1), margins)
def test_a_shift_to_slower_never_makes_a_verdict_faster(ends: tuple[float, float], shift: float, margin: float) -> None:
    before, after = judged(of_logs(ends), margin), judged(of_logs((ends[0] + shift, ends[1] + shift)), margin)
    assert before is not SLOWER or after is SLOWER
    assert after is not FASTER or before is FASTER
    if INCONCLUSIVE not in {before, after}:
        assert ORDER.index(before) <= ORDER.index(after)


@given(st.tuples(logs, logs), st.tuples(st.floats(0, 1), st.floats(0, 1)), margins)
def test_a_narrower_interval_never_takes_a_verdict_back(
    ends: tuple[float, float], parts: tuple[float, float], margin: float
) -> None:
    low, high = sorted(ends)
    inner = (low + parts[0] * (high - low), low + parts[1] * (high - low))
    assume(off_the_margin(margin, *ends, *inner))
    wide, narrow = judged(of_logs(ends), margin), judged(of_logs(inner), margin)
    assert wide in {INCONCLUSIVE, narrow}


@given(st.tuples(logs, logs), margins, margins)
def test_a_wider_margin_never_finds_a_difference(ends: tuple[float, float], one: float, other: float) -> None:
    narrow, wide = (judged(of_logs(ends), margin) for margin in sorted((one, other)))
    assert wide not in {FASTER, SLOWER} or wide is narrow
    assert narrow is not EQUIVALENT or wide is EQUIVALENT


def judged(given_estimate: Estimate, margin: float) -> Verdict:
    found = verdict(given_estimate, margin)
    assert found is not None
    return found


@pytest.mark.parametrize(("intervals", "level"), [(0, 0.95), (1, 0.95), (5, 0.99), (10, 0.995)])
def test_several_intervals_share_what_may_be_missed(intervals: int, level: float) -> None:
    assert family_level(intervals) == pytest.approx(level)


@pytest.mark.parametrize("contenders", range(1, 41))
def test_simultaneous_intervals_need_as_many_blocks_as_the_formula_says(contenders: int) -> None:
    assert minimum_blocks(family_level(contenders)) == math.ceil(1 + math.log2(contenders / 0.05))


def student(drawn: random.Random) -> float:
    """Draw Student's t with two degrees of freedom, which has no variance."""
    return drawn.gauss(0, 1) / math.sqrt(drawn.expovariate(1))


def campaign(drawn: random.Random, truths: Mapping[str, float], blocks: int, level: float) -> dict[str, Estimate]:
    """Measure contenders against one baseline, with heavy tails and a speed that wanders."""
    arms: dict[str, list[list[float]]] = {name: [] for name in ("baseline", *truths)}
    for _ in range(blocks):
        speed = drawn.uniform(0.5, 2)
        for name, values in arms.items():
            values.append([speed * truths.get(name, 1.0) * math.exp(0.004 * student(drawn))])
    return {name: ratio_interval(arms[name], arms["baseline"], level) for name in truths}


def covers(found: Estimate, truth: float) -> bool:
    assert found.low is not None
    assert found.high is not None
    return found.low <= truth <= found.high


@pytest.mark.parametrize("blocks", [9, 24])
def test_intervals_at_the_familys_level_all_hold_together_in_95_percent_and_plain_ones_do_not(blocks: int) -> None:
    truths = {"a": 0.8, "b": 1.0, "c": 1.01, "d": 1.3, "e": 1.0, "f": 1.0}
    campaigns = 400
    for level, together in ((family_level(len(truths)), True), (0.95, False)):
        drawn = random.Random(blocks)
        wrong = 0
        for _ in range(campaigns):
            found = campaign(drawn, truths, blocks, level)
            wrong += not all(covers(each, truths[name]) for name, each in found.items())
        assert (wrong <= most(campaigns, 0.05)) is together


@pytest.mark.parametrize("blocks", [9, 16, 40])
def test_a_difference_as_large_as_the_margin_is_called_one_as_rarely_as_the_level_says(blocks: int) -> None:
    # The interval lies wholly beyond its own truth in exactly this share of campaigns, whatever the noise.
    beyond = sum(signed_rank_counts(blocks)[: critical_rank(blocks, 0.95)]) / float(2**blocks)
    drawn = random.Random(blocks)
    campaigns, slower, faster = 1000, 0, 0
    for _ in range(campaigns):
        found = campaign(drawn, {"above": 1 + MARGIN, "below": 1 / (1 + MARGIN)}, blocks, 0.95)
        slower += verdict(found["above"]) is SLOWER
        faster += verdict(found["below"]) is FASTER
    assert beyond <= 0.025
    for count in (slower, faster):
        assert fewest(campaigns, beyond) <= count <= most(campaigns, beyond)


def test_a_difference_as_large_as_the_margin_is_called_equivalent_in_2_5_percent_at_most() -> None:
    drawn = random.Random(4)
    campaigns, equivalent = 1000, 0
    for _ in range(campaigns):
        equivalent += verdict(campaign(drawn, {"above": 1 + MARGIN}, 24, 0.95)["above"]) is EQUIVALENT
    assert 0 < equivalent <= most(campaigns, 0.025)


@pytest.mark.parametrize("truth", [1 / 1.02, 1.02])
def test_two_percent_is_found_beyond_a_margin_of_one_and_never_with_the_wrong_sign(truth: float) -> None:
    # Five rounds of 1 % noise in each of 24 blocks.
    drawn = random.Random(2)
    campaigns = 200
    found = []
    for _ in range(campaigns):
        contender, baseline = (
            [[ratio * drawn.lognormvariate(0, 0.01) for _ in range(5)] for _ in range(24)] for ratio in (truth, 1.0)
        )
        found.append(verdict(ratio_interval(contender, baseline)))
    right, wrong = (SLOWER, FASTER) if truth > 1 else (FASTER, SLOWER)
    assert found.count(right) >= fewest(campaigns, 0.95)
    assert wrong not in found
    assert EQUIVALENT not in found


def test_letters_by_hand() -> None:
    # a overlaps b, and b overlaps c, but a not c; d is apart.
    assert letters({"d": (1.5, 1.6), "a": (0.8, 0.9), "c": (0.95, 1.1), "b": (0.85, 1.0)}) == {
        "a": "a",
        "b": "ab",
        "c": "b",
        "d": "c",
    }


def test_intervals_that_only_touch_share_a_letter() -> None:
    assert letters({"a": (0.8, 1.0), "b": (1.0, 1.0)}) == {"a": "a", "b": "a"}


def test_an_interval_inside_all_groups_has_all_their_letters() -> None:
    assert letters({"wide": (0.5, 2.0), "a": (0.6, 0.7), "b": (1.0, 1.1), "c": (1.5, 1.6)})["wide"] == "abc"


def test_there_are_letters_for_more_groups_than_the_alphabet_has() -> None:
    found = letters({str(each): (float(each), each + 0.5) for each in range(28)})
    assert (found["25"], found["26"], found["27"]) == ("z", "(27)", "(28)")


def test_no_intervals_have_no_letters() -> None:
    assert letters({}) == {}


# Few different ends, so that ties and touching ends come up.
points = st.integers(min_value=0, max_value=12)
families = st.dictionaries(
    st.integers().map(str),
    st.tuples(points, points).map(lambda ends: (float(min(ends)), float(max(ends)))),
    max_size=12,
)


@given(families)
def test_two_share_a_letter_exactly_when_their_intervals_overlap(family: dict[str, tuple[float, float]]) -> None:
    found = letters(family)
    for one, other in combinations(family, 2):
        overlap = max(family[one][0], family[other][0]) <= min(family[one][1], family[other][1])
        assert bool(set(found[one]) & set(found[other])) is overlap


@given(families)
def test_all_of_one_letter_have_a_point_in_common(family: dict[str, tuple[float, float]]) -> None:
    found = letters(family)
    for letter in {each for one in found.values() for each in one}:
        group = [family[name] for name in found if letter in found[name]]
        assert max(low for low, _ in group) <= min(high for _, high in group)


@given(families)
def test_everybody_has_consecutive_letters_and_none_is_left_out(family: dict[str, tuple[float, float]]) -> None:
    found = letters(family)
    assert found.keys() == family.keys()
    for each in found.values():
        assert each
        assert all(ord(after) - ord(before) == 1 for before, after in pairwise(each))
    used = sorted({letter for each in found.values() for letter in each})
    assert used == [chr(ord("a") + number) for number in range(len(used))]


@given(families)
def test_no_letters_group_is_a_part_of_another(family: dict[str, tuple[float, float]]) -> None:
    found = letters(family)
    groups = [
        {name for name in found if letter in found[name]} for letter in {x for each in found.values() for x in each}
    ]
    assert not any(one < other or (one == other and one is not other) for one in groups for other in groups)


@given(families)
def test_letters_follow_the_intervals_from_the_lowest_on(family: dict[str, tuple[float, float]]) -> None:
    found = letters(family)
    for one, other in combinations(family, 2):
        if family[one][0] <= family[other][0] and family[one][1] <= family[other][1]:
            assert found[one][0] <= found[other][0]
            assert found[one][-1] <= found[other][-1]
