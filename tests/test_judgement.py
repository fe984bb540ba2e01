import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.campaigns import BOTH, SERVER
from tests.tolerance import fewest, most

from loopmark.judgement import Gate, Judgement, judge, needed_blocks, widest_of
from loopmark.plan import arms_of, is_time_to_look
from loopmark.record import UNKNOWN, Block, CasePlan, Kind, Measurement
from loopmark.stats import minimum_blocks, signed_rank_interval
from loopmark.verdicts import Verdict, family_level, verdict

BASE, TWIN, CONTROL = "asyncio", "asyncio.twin", "asyncio.control"
LOOPS = {"loop": "asyncio.Loop", "transport": "asyncio.SSLProtocol"}
FACTS = {"client": LOOPS, "server": LOOPS, "equal": {}}


def planned(*contenders: str, twins: int = 1, **chosen: Any) -> CasePlan:
    return CasePlan(case=SERVER, arms=arms_of([BASE, *contenders], BASE, twins=twins, **chosen), loops=200)


def simulated(
    plan: CasePlan,
    truths: Mapping[str, float] | None = None,
    *,
    blocks: int = 12,
    rounds: int = 5,
    noise: float = 0.002,
    drift: float = 0.0,
    wander: float = 0.1,
    seed: int = 1,
) -> list[Block]:
    """Measure true ratios in rounds of random order.

    The machine's speed wanders from block to block and from round to round, and slows down by the share `drift` from
    the first to the last place in a round.
    """
    drawn = random.Random(seed)
    labels = [arm.label for arm in plan.arms]
    true = {CONTROL: 1.02, **(truths or {})}
    found = []
    for index in range(blocks):
        speed = 200e-6 * math.exp(drawn.gauss(0, wander))
        orders = tuple(tuple(drawn.sample(labels, k=len(labels))) for _ in range(rounds + 2))
        values: dict[str, list[float]] = {label: [] for label in labels}
        for order in orders[2:]:
            pace = speed * math.exp(drawn.gauss(0, wander))
            for place, label in enumerate(order):
                slowed = (1 + drift) ** (place / (len(labels) - 1))
                values[label].append(pace * slowed * true.get(label, 1.0) * drawn.lognormvariate(0, noise))
        found.append(
            Block(
                case=plan.case.name,
                index=index,
                field=False,
                order=orders[0],
                rounds=orders[1:],
                measurements={label: measured(label, each) for label, each in values.items()},
                seconds=1.0,
            )
        )
    return found


def measured(label: str, values: Sequence[float]) -> Measurement:
    """Return an arm whose other metrics tell another story than the primary one: the longer its name, the slower."""
    length = len(label.partition(".")[0])
    return Measurement(
        arm=label,
        loops=200,
        wall=(1e-3 * length,) * len(values),
        client_cpu=(1e-4 * length,) * len(values),
        server_cpu=tuple(values),
        warmups=(1e-3,),
        client=UNKNOWN,
        server=UNKNOWN,
        peak=100,
        seconds=1.0,
        facts=FACTS,
        metadata={},
    )


def judged(plan: CasePlan, blocks: Sequence[Block], margin: float = 0.01) -> Judgement:
    return judge(plan, BASE, blocks, margin)


def changed(blocks: Sequence[Block], label: str, number: int, **changes: Any) -> list[Block]:
    """Return blocks in one of which one measurement is another."""
    block = blocks[number]
    measurements = {**block.measurements, label: replace(block.measurements[label], **changes)}
    return [*blocks[:number], replace(block, measurements=measurements), *blocks[number + 1 :]]


def refused(found: Judgement) -> str:
    """Return the one sentence with which a case is refused, in which nothing may be said."""
    assert found.gate is Gate.NONE
    assert (found.estimates, found.verdicts, found.letters) == ({}, {}, {})
    assert (found.control, found.position, found.widest) == (None, None, None)
    (reason,) = found.reasons
    return reason


def test_a_good_campaign_gives_verdicts_letters_and_a_passed_gate() -> None:
    plan = planned("uvloop", "trio", "same")
    found = judged(plan, simulated(plan, {"uvloop": 0.8, "trio": 1.2}))
    assert found.gate is Gate.PASSED
    assert found.reasons == ()
    assert found.verdicts == {"uvloop": Verdict.FASTER, "trio": Verdict.SLOWER, "same": Verdict.EQUIVALENT}
    assert found.letters == {"uvloop": "a", BASE: "b", "same": "b", "trio": "c"}
    assert found.estimates["uvloop"].ratio == pytest.approx(0.8, rel=0.005)
    assert (found.blocks, found.margin) == (12, 0.01)


def test_the_intervals_of_a_case_are_at_the_level_at_which_all_contenders_hold_together() -> None:
    plan = planned("one", "two", "three", "four", control=True)
    found = judged(plan, simulated(plan))
    assert found.level == pytest.approx(1 - 0.05 / 4)
    assert {each.level for each in found.estimates.values()} == {found.level}
    assert found.widest == max(each.half_width or 0 for each in found.estimates.values())


def test_only_the_primary_metric_is_judged() -> None:
    # By wall and by client CPU the arms are far apart.
    plan = planned("a much longer name")
    assert judged(plan, simulated(plan)).verdicts == {"a much longer name": Verdict.EQUIVALENT}
    both = replace(plan, case=BOTH)
    assert judged(both, simulated(plan)).verdicts == {"a much longer name": Verdict.SLOWER}


def test_exchanging_contender_and_baseline_exchanges_the_verdict() -> None:
    plan = planned("other", twins=0)
    blocks = simulated(plan, {"other": 0.9})
    assert verdict(judge(plan, BASE, blocks, 0.01).estimates["other"], 0.01) is Verdict.FASTER
    assert verdict(judge(plan, "other", blocks, 0.01).estimates[BASE], 0.01) is Verdict.SLOWER


@pytest.mark.parametrize("contenders", [1, 2, 5, 9, 20])
def test_a_case_needs_as_many_blocks_as_its_contenders_need_together(contenders: int) -> None:
    plan = planned(*map(str, range(contenders)), twins=2, control=True, floor=True, hidden=["yardstick"])
    assert needed_blocks(plan, BASE) == math.ceil(1 + math.log2(contenders / 0.05))


def test_with_one_block_too_few_there_is_no_verdict() -> None:
    plan = planned("uvloop", "trio")
    blocks = simulated(plan, {"uvloop": 0.5}, blocks=7)
    enough, few = judged(plan, blocks), judged(plan, blocks[:6])
    assert enough.needed == few.needed == 7
    assert (enough.verdicts["uvloop"], enough.gate) == (Verdict.FASTER, Gate.PASSED)
    assert (few.verdicts, few.letters, few.gate, few.reasons, few.widest) == ({}, {}, Gate.NONE, (), None)
    assert few.estimates["uvloop"].ratio == pytest.approx(0.5, rel=0.01)
    assert few.estimates["uvloop"].low is None


def test_without_a_block_nothing_is_said() -> None:
    found = judged(planned("uvloop"), [])
    assert (found.blocks, found.estimates, found.verdicts, found.gate, found.position) == (0, {}, {}, Gate.NONE, None)


def test_a_twin_alone_is_no_contender() -> None:
    plan = planned()
    found = judged(plan, simulated(plan))
    assert (found.gate, found.verdicts) == (Gate.PASSED, {})
    assert found.estimates.keys() == {TWIN}


def test_without_a_twin_the_gate_tells_nothing_and_nobody_gets_a_verdict() -> None:
    plan = planned("uvloop", twins=0)
    found = judged(plan, simulated(plan, {"uvloop": 0.5}))
    assert (found.gate, found.verdicts, found.letters, found.reasons) == (Gate.NONE, {}, {}, ())
    assert found.estimates["uvloop"].high == pytest.approx(0.5, rel=0.02)


# What the gate says.


def test_a_twin_that_is_off_by_a_hair_passes_however_precise_the_campaign() -> None:
    plan = planned("uvloop")
    found = judged(plan, simulated(plan, {TWIN: 1.004, "uvloop": 0.8}, noise=1e-5))
    assert found.estimates[TWIN].low == pytest.approx(1.004, rel=1e-4)
    assert (found.gate, found.verdicts) == (Gate.PASSED, {"uvloop": Verdict.FASTER})


@pytest.mark.parametrize("twin", [0.992, 1.0, 1.009])
def test_more_precision_never_makes_a_good_campaign_invalid(twin: float) -> None:
    plan = planned("uvloop")
    gates = [judged(plan, simulated(plan, {TWIN: twin}, noise=10.0**-each)).gate for each in range(1, 8)]
    assert Gate.INVALID not in gates
    assert gates == sorted(gates, key=[Gate.UNPRECISE, Gate.PASSED].index)
    assert (gates[0], gates[-1]) == (Gate.UNPRECISE, Gate.PASSED)


def test_a_noisy_twin_says_that_the_precision_is_not_reached_and_verdicts_stay() -> None:
    plan = planned("uvloop")
    found = judged(plan, simulated(plan, {"uvloop": 0.5}, noise=0.05))
    assert (found.gate, found.reasons) == (Gate.UNPRECISE, ())
    assert found.verdicts == {"uvloop": Verdict.FASTER}


@pytest.mark.parametrize(("twin", "told"), [(1.05, "1.05"), (0.95, "0.95")])
def test_a_twin_with_a_real_difference_makes_the_case_invalid(twin: float, told: str) -> None:
    plan = planned("uvloop")
    found = judged(plan, simulated(plan, {TWIN: twin, "uvloop": 0.5}))
    assert found.gate is Gate.INVALID
    (reason,) = found.reasons
    assert reason.startswith(f"{TWIN} is {BASE} itself, and came out {told}")
    assert (found.verdicts, found.letters) == ({}, {})
    assert found.estimates[TWIN].ratio == pytest.approx(twin, rel=0.005)


def test_a_wider_margin_takes_a_larger_difference_of_the_twin() -> None:
    plan = planned("uvloop")
    blocks = simulated(plan, {TWIN: 1.02})
    assert judged(plan, blocks, 0.01).gate is Gate.INVALID
    assert judged(plan, blocks, 0.03).gate is Gate.PASSED


def test_one_wrong_twin_of_several_is_enough() -> None:
    plan = planned("uvloop", twins=3)
    assert judged(plan, simulated(plan)).gate is Gate.PASSED
    found = judged(plan, simulated(plan, {f"{BASE}.twin3": 1.05}))
    assert found.gate is Gate.INVALID
    assert f"{BASE}.twin3" in found.reasons[0]


def test_one_noisy_twin_of_several_is_enough_to_miss_the_precision() -> None:
    plan = planned("uvloop", twins=2)
    assert judged(plan, simulated(plan, {TWIN: 1.0099})).gate is Gate.UNPRECISE


def test_a_campaign_of_eight_equal_arms_is_judged_by_its_twins() -> None:
    plan = planned(twins=7)
    assert needed_blocks(plan, BASE) == math.ceil(1 + math.log2(7 / 0.05))
    found = judged(plan, simulated(plan))
    assert len(found.estimates) == 7
    assert found.level == pytest.approx(1 - 0.05 / 7)
    assert (found.gate, found.verdicts, found.letters) == (Gate.PASSED, {}, {})


# The positive control.


def test_a_positive_control_is_found_at_its_size() -> None:
    plan = planned("uvloop", control=True)
    found = judged(plan, simulated(plan))
    assert (found.gate, found.is_control_found) == (Gate.PASSED, True)
    assert found.control is not None
    assert found.control.level == 0.99
    assert found.control.ratio == pytest.approx(1.02, rel=0.002)
    assert CONTROL not in found.estimates | found.verdicts | found.letters


def test_a_control_that_is_off_by_a_hair_is_found_however_precise_the_campaign() -> None:
    plan = planned("uvloop", control=True)
    found = judged(plan, simulated(plan, {CONTROL: 1.0206}, noise=1e-5))
    assert (found.gate, found.is_control_found) == (Gate.PASSED, True)


def test_a_control_that_noise_hides_is_not_found_and_the_precision_not_reached() -> None:
    plan = planned("uvloop", control=True)
    found = judged(plan, simulated(plan, noise=0.05))
    assert (found.gate, found.is_control_found, found.reasons) == (Gate.UNPRECISE, False, ())


def test_a_control_without_an_interval_is_not_found() -> None:
    # Six blocks are enough for one contender at 95 %, and too few for the control's 99 %.
    plan = planned("uvloop", control=True)
    found = judged(plan, simulated(plan, blocks=6, noise=0.0005))
    assert (found.gate, found.is_control_found) == (Gate.UNPRECISE, False)


@pytest.mark.parametrize("size", [1.0, 1.05, 0.98])
def test_a_control_of_another_size_makes_the_case_invalid(size: float) -> None:
    plan = planned("uvloop", control=True)
    found = judged(plan, simulated(plan, {CONTROL: size, "uvloop": 0.5}))
    assert (found.gate, found.verdicts, found.is_control_found) == (Gate.INVALID, {}, False)
    assert found.reasons[0].startswith(f"the positive control does 2 % more work than {BASE}, and came out {size:.2f}")


# What is refused.


@pytest.mark.parametrize("label", [TWIN, CONTROL])
def test_a_mislabelled_twin_or_control_is_refused_by_its_name(label: str) -> None:
    plan = planned("uvloop", control=True)
    plan.arms = tuple(replace(arm, contender="uvloop") if arm.label == label else arm for arm in plan.arms)
    kind = label.partition(".")[2]
    assert refused(judged(plan, simulated(plan))) == f"{label} is called the {kind} of {BASE}, and ran uvloop"


@pytest.mark.parametrize("label", [TWIN, CONTROL])
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("fact", ["loop", "transport"])
def test_a_mislabelled_twin_or_control_is_refused_by_the_facts_of_its_connections(
    label: str, side: str, fact: str
) -> None:
    plan = planned("uvloop", control=True)
    facts = {**FACTS, side: {**LOOPS, fact: "uvloop.Thing"}}
    reason = refused(judged(plan, changed(simulated(plan), label, 3, facts=facts)))
    assert reason.startswith(f"block 3: {label} is called the ")
    assert reason.endswith(f"of {BASE}, and its {side}'s {fact} is uvloop.Thing, not {LOOPS[fact]}")


def test_contenders_may_have_facts_of_their_own() -> None:
    plan = planned("uvloop")
    facts = {**FACTS, "server": {"loop": "uvloop.Loop", "transport": "uvloop.Thing"}}
    assert judged(plan, changed(simulated(plan), "uvloop", 0, facts=facts)).gate is Gate.PASSED


def test_an_unknown_baseline_is_refused() -> None:
    plan = planned("uvloop")
    assert refused(judge(plan, "curio", simulated(plan), 0.01)) == "the baseline curio is none of the arms"


@pytest.mark.parametrize("label", [BASE, "uvloop", TWIN, CONTROL])
def test_a_block_that_lacks_an_arm_is_refused(label: str) -> None:
    plan = planned("uvloop", control=True)
    blocks = simulated(plan)
    blocks[2] = blocks[2].without(label)
    assert refused(judged(plan, blocks)) == f"block 2: {label} did not run: unequal counts are not compared"


@pytest.mark.parametrize("label", [BASE, "uvloop", TWIN])
def test_unequal_numbers_of_values_are_refused(label: str) -> None:
    plan = planned("uvloop")
    blocks = simulated(plan)
    values = blocks[4].measurements[label].server_cpu[:-1]
    reason = refused(judged(plan, changed(blocks, label, 4, server_cpu=values)))
    assert reason.startswith("block 4: asyncio has ")
    assert "4 values of 200 connections" in reason
    assert "5 values of 200 connections" in reason
    assert reason.endswith(": unequal counts are not compared")


def test_unequal_numbers_of_connections_are_refused() -> None:
    plan = planned("uvloop")
    reason = refused(judged(plan, changed(simulated(plan), "uvloop", 0, loops=300)))
    assert reason == (
        "block 0: asyncio has 5 values of 200 connections, uvloop 5 values of 300 connections: unequal counts are not "
        "compared"
    )


def test_blocks_may_differ_in_counts_from_each_other() -> None:
    plan = planned("uvloop")
    assert judged(plan, [*simulated(plan), *simulated(plan, rounds=3, seed=2)]).gate is Gate.PASSED


def in_one_order(plan: CasePlan, blocks: Sequence[Block]) -> list[Block]:
    """Return blocks as if files had been measured one after the other, contender by contender."""
    labels = tuple(arm.label for arm in plan.arms)
    return [replace(block, order=labels, rounds=()) for block in blocks]


def test_sequential_files_are_refused() -> None:
    plan = planned("uvloop")
    reason = refused(judged(plan, in_one_order(plan, simulated(plan))))
    assert reason == "12 times the same order of arms was never drawn: what drifts looks like a difference"


def test_rounds_in_one_order_are_refused_though_the_starts_were_drawn() -> None:
    plan = planned("uvloop")
    labels = tuple(arm.label for arm in plan.arms)
    blocks = [replace(block, rounds=(labels,) * 6) for block in simulated(plan)]
    assert "60 times the same order" in refused(judged(plan, blocks))


def test_warm_up_rounds_of_other_orders_do_not_hide_timed_ones_in_one_order() -> None:
    plan = planned("uvloop")
    labels = tuple(arm.label for arm in plan.arms)
    blocks = [replace(block, rounds=(block.rounds[0], *(labels,) * 5)) for block in simulated(plan)]
    assert "60 times the same order" in refused(judged(plan, blocks))


def test_two_arms_in_one_order_are_refused_once_chance_would_hardly_do_that() -> None:
    plan = planned()
    blocks = in_one_order(plan, simulated(plan))
    assert judged(plan, blocks[:10]).reasons == ()
    assert "11 times the same order" in refused(judged(plan, blocks[:11]))


def test_the_floor_does_not_hide_that_the_others_ran_in_one_order() -> None:
    plan = planned("uvloop", floor=True)
    labels = [arm.label for arm in plan.arms if arm.kind is not Kind.FLOOR]
    blocks = [
        replace(block, order=(*labels[: index % 4], "floor", *labels[index % 4 :]), rounds=())
        for index, block in enumerate(simulated(plan))
    ]
    assert "same order" in refused(judged(plan, blocks))


@pytest.mark.parametrize(
    "changes",
    [{"order": (), "rounds": ()}, {"order": (BASE, TWIN), "rounds": ()}, {"rounds": ((BASE, "uvloop", TWIN),)}],
)
def test_blocks_without_a_recorded_order_are_refused(changes: dict[str, Any]) -> None:
    plan = planned("uvloop")
    blocks = simulated(plan)
    blocks[1] = replace(blocks[1], **changes)
    assert refused(judged(plan, blocks)) == "block 1: the order in which the arms ran is not recorded"


def test_a_clock_that_saw_nothing_is_told() -> None:
    plan = planned("uvloop")
    blocks = changed(simulated(plan), "uvloop", 5, server_cpu=(0.0, 1e-4, 1e-4, 1e-4, 1e-4))
    assert refused(judged(plan, blocks)) == "block 5: uvloop took no server cpu that the clock could see"


def test_only_the_first_bad_block_is_told() -> None:
    plan = planned("uvloop")
    assert refused(judged(plan, [block.without(TWIN) for block in simulated(plan)])).startswith("block 0: ")


# Who is not judged.


def test_floor_and_yardsticks_are_never_judged() -> None:
    plan = planned("uvloop", floor=True, hidden=["yardstick"])
    found = judged(plan, simulated(plan, {"floor": 0.2, "yardstick": 3.0}))
    assert found.estimates.keys() == {"uvloop", TWIN}
    assert found.verdicts.keys() == {"uvloop"}
    assert found.letters.keys() == {BASE, "uvloop"}
    assert found.level == pytest.approx(0.95)


def test_the_floor_may_have_other_counts() -> None:
    plan = planned("uvloop", floor=True)
    blocks = changed(simulated(plan), "floor", 0, loops=10, server_cpu=(1e-5,))
    assert judged(plan, blocks).gate is Gate.PASSED


def test_a_retired_arm_is_as_if_it_had_never_been() -> None:
    plan = planned("uvloop", "trio")
    blocks = simulated(plan, {"uvloop": 0.8}, drift=0.05)
    left = replace(plan, arms=tuple(arm for arm in plan.arms if arm.label != "trio"))
    found = judged(left, [block.without("trio") for block in blocks])
    assert found.verdicts == {"uvloop": Verdict.FASTER}
    assert found.level == pytest.approx(0.95)
    # Also where blocks still name it.
    assert judged(left, blocks) == found


# The place in a round.


def test_what_the_place_in_a_round_does_is_found_at_its_size() -> None:
    plan = planned("uvloop", "trio", "anyio")
    found = judged(plan, simulated(plan, {"uvloop": 0.5, "trio": 1.5}, drift=0.03)).position
    assert found is not None
    assert found.low is not None
    assert found.ratio == pytest.approx(1.03, rel=0.003)
    assert found.low > 1


@pytest.mark.parametrize("rounds", [1, 5])
def test_without_noise_the_place_is_found_exactly(rounds: int) -> None:
    plan = planned("uvloop", "trio")
    found = judged(plan, simulated(plan, {"uvloop": 0.5}, drift=0.03, noise=0, rounds=rounds)).position
    assert found is not None
    assert [found.low, found.ratio, found.high] == pytest.approx([1.03, 1.03, 1.03])


def test_the_place_is_found_in_blocks_without_rounds() -> None:
    plan = planned("uvloop", "trio")
    rest = [replace(block, order=block.rounds[-1], rounds=()) for block in simulated(plan, drift=0.03, rounds=1)]
    found = judged(plan, rest).position
    assert found is not None
    assert found.ratio == pytest.approx(1.03, rel=0.004)


def test_a_machine_that_wanders_without_a_drift_within_rounds_shows_no_effect_of_the_place() -> None:
    plan = planned("uvloop", "trio")
    campaigns, missed = 120, 0
    for seed in range(campaigns):
        found = judged(plan, simulated(plan, {"uvloop": 0.5}, noise=0.005, wander=0.3, seed=seed)).position
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        missed += not found.low <= 1 <= found.high
    assert missed <= most(campaigns, 0.05)


def test_nothing_tells_the_place_where_the_order_never_changed() -> None:
    plan = planned("uvloop")
    assert judged(plan, in_one_order(plan, simulated(plan, blocks=2))).position is None


# Widths, and ending by them.


def test_the_width_that_a_case_may_end_at_is_the_judgements_widest() -> None:
    plan = planned("uvloop", "trio", control=True, floor=True, hidden=["yardstick"])
    blocks = simulated(plan, {"trio": 1.2})
    assert widest_of(plan, BASE, blocks) == judged(plan, blocks).widest
    assert widest_of(plan, BASE, blocks[:6]) is None
    assert widest_of(plan, BASE, []) is None


def test_a_case_does_not_end_while_an_arm_has_no_interval() -> None:
    plan = planned("uvloop")
    blocks = simulated(plan)
    for number in range(len(blocks)):
        blocks = changed(blocks, TWIN, number, server_cpu=(0.0,) * 5)
    assert widest_of(plan, BASE, blocks) is None


Noise = Callable[[random.Random], float]


def normal(drawn: random.Random) -> float:
    return drawn.gauss(0, 0.01)


def student(drawn: random.Random) -> float:
    """Draw Student's t with two degrees of freedom, which has no variance."""
    return 0.007 * drawn.gauss(0, 1) / math.sqrt(drawn.expovariate(1))


def misses(differences: Sequence[float], level: float = 0.95) -> tuple[bool, float]:
    """Tell whether an interval misses the true ratio of 1, and its half-width."""
    low, high = signed_rank_interval(differences, level)
    assert low is not None
    assert high is not None
    return not low <= 0 <= high, math.exp((high - low) / 2) - 1


@pytest.mark.parametrize("noise", [normal, student])
def test_ending_on_width_keeps_false_alarms_rare_and_ending_on_significance_does_not(noise: Noise) -> None:
    drawn = random.Random(3)
    campaigns, by_width, by_significance = 1000, 0, 0
    last = minimum_blocks() + 36
    for _ in range(campaigns):
        differences = [noise(drawn) - noise(drawn) for _ in range(last)]
        ended = alarm = False
        for blocks in range(last + 1):
            if is_time_to_look(blocks, minimum_blocks()):
                missed, width = misses(differences[:blocks])
                alarm = alarm or missed
                if not ended and (width <= 0.006 or blocks == last):
                    ended = True
                    by_width += missed
            if ended and alarm:
                break
        by_significance += alarm
    # One interval alone is where ending on width does most harm; see the docstring of loopmark.judgement.
    assert by_width <= most(campaigns, 0.07)
    assert by_significance >= fewest(campaigns, 0.16)


def test_intervals_of_a_case_that_ended_on_the_widest_of_them_hold_together_in_95_percent() -> None:
    drawn = random.Random(4)
    campaigns, wrong, arms = 300, 0, 4
    level = family_level(arms)
    for _ in range(campaigns):
        rows = [[normal(drawn) for _ in range(arms + 1)] for _ in range(48)]
        differences = [[row[arm] - row[0] for row in rows] for arm in range(1, arms + 1)]
        for blocks in filter(lambda count: is_time_to_look(count, minimum_blocks(level)), range(49)):
            looked = [misses(each[:blocks], level) for each in differences]
            if max(width for _, width in looked) <= 0.01:
                break
        wrong += any(missed for missed, _ in looked)
    assert wrong <= most(campaigns, 0.05)


# Many campaigns.


def test_campaigns_of_equal_arms_call_no_one_faster_or_slower_and_never_themselves_invalid() -> None:
    # Noise at which the twin is within the margin more often than not, and with heavy tails.
    plan = planned("one", "two", twins=2)
    campaigns, passed = 100, 0
    found: set[Verdict] = set()
    for seed in range(campaigns):
        each = judged(plan, simulated(plan, blocks=12, rounds=3, noise=0.008, seed=seed))
        assert each.gate is not Gate.INVALID
        found |= set(each.verdicts.values())
        passed += each.gate is Gate.PASSED
    assert found <= {Verdict.EQUIVALENT, Verdict.INCONCLUSIVE}
    assert passed > campaigns / 2


def test_a_mislabelled_twin_of_five_percent_is_called_invalid_in_nearly_every_campaign() -> None:
    plan = planned("one")
    campaigns = 100
    invalid = sum(
        judged(plan, simulated(plan, {TWIN: 1.05}, rounds=3, noise=0.01, seed=seed)).gate is Gate.INVALID
        for seed in range(campaigns)
    )
    assert invalid >= fewest(campaigns, 0.99)
