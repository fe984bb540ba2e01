"""The schedule of a campaign, on a virtual clock: who runs when, what is kept, and what ends it."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from loopmark import codec, plan
from loopmark.arms import BlockDiedError
from loopmark.case import Case, Cores, Role
from loopmark.errors import FactsError, Kind, TrafficError, VoidError
from loopmark.judgement import needed_blocks, widest_of
from loopmark.plan import DEFAULT, FAST, Effort
from loopmark.record import Block, Campaign, CasePlan, Outcome
from loopmark.run import Conductor
from loopmark.spi import TLSProfile
from loopmark.task import order_from, to_json
from loopmark.testing import fake
from loopmark.testing.fake import FakeExecutor, Mishap

ONE = Case(benchmark="tls_pingpong", concurrency=1, role=Role.BOTH, peer=None, cores=Cores.SHARED, tls=TLSProfile())
SERVER = replace(ONE, concurrency=100, role=Role.SERVER, peer="peer", cores=Cores.SEPARATE)
CLIENT = replace(SERVER, role=Role.CLIENT)
TWIN = "asyncio.twin"

SIX = Effort(mode="default", seconds=1e6, blocks=6, values=5, field_every=None)
CUT = TrafficError(Kind.RESET, "cut")
WRONG = FactsError("TCP_NODELAY is False")
SPOILT = VoidError("a spoilt value")


@dataclass(slots=True)
class Told:
    """A progress display that remembers what it was told."""

    arms: list[tuple[str, int, str, int, int]] = field(default_factory=list)
    left: list[float] = field(default_factory=list)

    def arm(self, campaign: Campaign, case: Case, block: int, arm: str, position: int, arms: int) -> None:
        self.arms.append((case.name, block, arm, position, arms))

    def block(self, campaign: Campaign, left: float) -> None:
        self.left.append(left)


@dataclass(slots=True, kw_only=True)
class Stage:
    """A campaign of `asyncio`, `trio` and `uvloop`, and everybody who takes part in it."""

    effort: Effort = SIX
    cases: Sequence[Case] = (ONE,)
    seed: int = 1
    contenders: Sequence[str] = ("asyncio", "trio", "uvloop")
    hidden: Sequence[str] = ()
    executor: FakeExecutor = field(default_factory=FakeExecutor)
    progress: Told = field(default_factory=Told)
    campaign: Campaign = field(init=False)
    saved: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        arms = plan.arms_of(self.contenders, "asyncio", hidden=self.hidden)
        self.campaign = Campaign(
            started="2026-11-20T09:15:00Z",
            label="here",
            command=("loopmark", "run"),
            seed=self.seed,
            mode=self.effort.mode,
            baseline="asyncio",
            margin=0.01,
            target=None,
            cases=[CasePlan(case=each, arms=arms, loops=0) for each in self.cases],
        )

    def play(self, save: Callable[[Campaign], None] | None = None) -> Campaign:
        self.conductor(save).conduct()
        return self.campaign

    def conductor(self, save: Callable[[Campaign], None] | None = None) -> Conductor:
        return Conductor(
            campaign=self.campaign,
            effort=self.effort,
            executor=self.executor,
            assign=fake.assign,
            save=save or (lambda campaign: self.saved.append(codec.encode(campaign, Campaign))),
            progress=self.progress,
            clock=self.executor.clock,
        )


def stage(*mishaps: Mishap, **settings: Any) -> Stage:
    return Stage(executor=FakeExecutor(mishaps=mishaps), **settings)


def labels(blocks: Iterable[Block]) -> list[list[str]]:
    return [sorted(block.measurements) for block in blocks]


EVERYBODY = ["asyncio", TWIN, "trio", "uvloop"]


# What runs


def test_every_case_gets_its_blocks_and_every_block_every_arm() -> None:
    campaign = stage(cases=(SERVER, CLIENT, ONE)).play()
    assert campaign.ended == "done"
    assert Counter(block.case for block in campaign.blocks) == {SERVER.name: 6, CLIENT.name: 6, ONE.name: 6}
    assert labels(campaign.blocks) == [EVERYBODY] * 18
    assert campaign.dropped == []
    assert campaign.outcomes == []


def test_cases_take_turns() -> None:
    campaign = stage(cases=(SERVER, CLIENT, ONE)).play()
    assert [block.case for block in campaign.blocks] == [SERVER.name, CLIENT.name, ONE.name] * 6
    assert [block.index for block in campaign.blocks] == [index for index in range(6) for _ in range(3)]


def test_every_block_has_an_interpreter_of_its_own_and_so_has_every_calibration() -> None:
    acted = stage(cases=(SERVER, ONE))
    acted.play()
    assert acted.executor.blocks == 2 + 12
    assert not acted.executor.is_open


def test_every_case_is_calibrated_once_on_the_baseline_before_the_first_block() -> None:
    acted = stage(cases=(SERVER, ONE))
    campaign = acted.play()
    first, second, *others = acted.executor.orders
    assert [(order.arm, order.values, order.client.case) for order in (first, second)] == [
        ("asyncio", 0, SERVER),
        ("asyncio", 0, ONE),
    ]
    assert all(order.values for order in others)
    loops = {each.case: each.loops for each in campaign.cases}
    assert {(order.client.case, order.loops) for order in others} == set(loops.items())
    assert loops[SERVER] % 100 == 0


def test_a_number_of_loops_that_is_settled_is_not_calibrated() -> None:
    acted = stage()
    acted.campaign.cases[0].loops = 1000
    acted.play()
    assert all(order.values and order.loops == 1000 for order in acted.executor.orders)


def test_the_order_that_is_recorded_is_the_one_that_ran_and_comes_from_the_seed() -> None:
    acted = stage(seed=7)
    campaign = acted.play()
    ran = [order.arm for order in acted.executor.orders if order.values]
    assert ran == [label for block in campaign.blocks for label in block.order]
    for block in campaign.blocks:
        planned = plan.order_of(7, ONE, block.index, campaign.cases[0].arms)
        assert block.order == tuple(arm.label for arm in planned)


def test_the_same_seed_gives_the_same_campaign_and_another_one_another_order() -> None:
    first, again, other = (stage(seed=seed).play() for seed in (1, 1, 2))
    assert codec.encode(first, Campaign) == codec.encode(again, Campaign)
    assert [block.order for block in first.blocks] != [block.order for block in other.blocks]


def test_orders_are_uniform_over_all_permutations() -> None:
    counts: Counter[tuple[str, ...]] = Counter()
    pairs: Counter[bool] = Counter()
    for seed in range(100):
        campaign = stage(seed=seed, contenders=("asyncio", "trio")).play()
        orders = [block.order for block in campaign.blocks]
        counts.update(orders)
        pairs.update(one == two for one, two in zip(orders[::2], orders[1::2], strict=True))
    assert len(counts) == 6
    # Chi-square with 5 degrees of freedom stays below 20.5 in 99.9 % of all lists of seeds, this one included.
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 20.5
    # And a block's order tells nothing of the next one's: one degree of freedom, 10.8.
    assert (pairs[True] - 50) ** 2 / 50 + (pairs[False] - 250) ** 2 / 250 < 10.8


def test_the_baseline_runs_a_second_time_under_its_twins_label() -> None:
    acted = stage()
    acted.play()
    twins = [order for order in acted.executor.orders if order.arm == TWIN]
    assert len(twins) == 6
    assert {order.client.contender.name for order in twins} == {"asyncio"}


def test_orders_survive_the_way_to_another_process() -> None:
    acted = stage(cases=(SERVER,))
    acted.play()
    for order in acted.executor.orders:
        assert order_from(to_json(order)) == order


def test_true_costs_come_out_as_ratios() -> None:
    acted = Stage(executor=FakeExecutor(costs={"asyncio": 2e-4, "uvloop": 1e-4}, noise=0.0))
    for block in acted.play().blocks:
        slow, fast = (block.measurements[label].wall for label in ("asyncio", "uvloop"))
        assert fast[0] / slow[0] == pytest.approx(0.5)
        assert len(slow) == len(fast) == 5


# What is written, and what is told


def test_everything_is_saved_at_the_start_after_every_block_and_at_the_end() -> None:
    acted = stage()
    acted.play()
    assert [len(saved["blocks"]) for saved in acted.saved] == [0, 1, 2, 3, 4, 5, 6, 6]
    assert [saved["ended"] for saved in acted.saved] == ["running"] * 7 + ["done"]


def test_a_saved_campaign_knows_how_long_it_took_so_far() -> None:
    acted = stage()
    acted.play()
    seconds = [saved["seconds"] for saved in acted.saved]
    assert seconds == sorted(seconds)
    assert 0 == seconds[0] < seconds[1] < seconds[-1] == acted.executor.now


def test_measured_seconds_are_those_inside_values_and_warm_up_values() -> None:
    campaign = stage().play()
    inside = sum(
        (sum(each.wall) + sum(each.warmups)) * each.loops
        for block in campaign.blocks
        for each in block.measurements.values()
    )
    assert campaign.measured_seconds == pytest.approx(inside)
    assert campaign.proof_seconds == pytest.approx(24 * fake.STARTING / 2)
    assert campaign.measured_seconds + campaign.proof_seconds < campaign.seconds


def test_progress_is_told_of_every_start_and_round_before_it_and_of_every_block_after_it() -> None:
    acted = stage()
    campaign = acted.play()
    assert [(block, arm, position) for _, block, arm, position, _ in acted.progress.arms] == [
        (block.index, arm, block.order.index(arm))
        for block in campaign.blocks
        for arm in (*block.order, *(one[0] for one in block.rounds))
    ]
    assert {arms for *_, arms in acted.progress.arms} == {4}
    assert len(acted.progress.left) == 6
    assert acted.progress.left == sorted(acted.progress.left, reverse=True)


def test_a_save_that_fails_is_not_hidden() -> None:
    def refuse(campaign: Campaign) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        stage().play(refuse)


# The time cap


@pytest.mark.parametrize("seconds", [20.0, 33.0, 50.0, 100.0])
def test_no_block_starts_that_cannot_end_within_the_time(seconds: float) -> None:
    effort = replace(SIX, seconds=seconds, blocks=None)
    acted = Stage(effort=effort, cases=(SERVER, ONE), executor=FakeExecutor(noise=0.0))
    campaign = acted.play()
    assert campaign.ended == "time cap"
    assert campaign.blocks
    # Levels of blocks differ by up to 1.25 / 0.8: the prediction, which is the longest so far, can be short by that.
    longest = max(block.seconds for block in campaign.blocks)
    assert campaign.seconds <= seconds + longest * 0.6
    assert campaign.seconds > seconds - 2 * longest


def test_a_case_without_room_for_a_single_block_says_how_long_one_takes() -> None:
    acted = Stage(effort=replace(SIX, seconds=1.0), cases=(SERVER,), executor=FakeExecutor(noise=0.0))
    campaign = acted.play()
    assert (campaign.ended, campaign.blocks) == ("time cap", [])
    assert acted.executor.now < 1.0
    (note,) = campaign.notes
    assert note.startswith(f"{SERVER.name}: no block fitted into the time; one takes about ")


def test_a_short_case_goes_on_when_a_long_one_has_no_room_any_more() -> None:
    long = replace(SERVER, concurrency=10_000)
    campaign = stage(effort=replace(SIX, seconds=60.0, blocks=None), cases=(long, ONE)).play()
    blocks = Counter(block.case for block in campaign.blocks)
    assert blocks[ONE.name] > blocks[long.name] + 2
    assert campaign.blocks[-1].case == ONE.name


def test_without_a_number_of_blocks_a_campaign_lasts_until_its_time_is_up() -> None:
    campaign = stage(effort=DEFAULT).play()
    assert campaign.ended == "time cap"
    assert campaign.seconds <= DEFAULT.seconds
    assert campaign.seconds > DEFAULT.seconds - 2 * max(block.seconds for block in campaign.blocks)


# Field blocks


def test_field_blocks_run_in_fresh_processes_with_nothing_pinned() -> None:
    acted = stage(effort=replace(SIX, blocks=16, field_every=6))
    campaign = acted.play()
    field_blocks = [block.index for block in campaign.blocks if block.field]
    assert field_blocks == [7, 14]
    measuring = [order for order in acted.executor.orders if order.values]
    for number, order in enumerate(measuring):
        in_field = number // 4 in field_blocks
        assert (order.fresh, order.pinned) == (in_field, not in_field)
        assert (order.client.cpu is None, order.server.cpu is None) == (in_field, in_field)


def test_no_field_block_comes_before_the_blocks_that_intervals_need_whatever_was_dropped() -> None:
    dropped = stage(Mishap(what=CUT, arm="trio"), effort=replace(SIX, blocks=9, field_every=6)).play()
    needed = needed_blocks(dropped.cases[0], "asyncio")
    assert len(dropped.dropped) == 1
    assert [block.field for block in dropped.blocks] == [False] * needed + [True] + [False] * (9 - needed)


def test_field_blocks_have_no_part_in_the_width_that_stops_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Block] = []

    def widest(plan: CasePlan, baseline: str, blocks: Sequence[Block]) -> float | None:
        seen.extend(blocks)
        return widest_of(plan, baseline, blocks)

    monkeypatch.setattr("loopmark.run.widest_of", widest)
    acted = stage(effort=replace(SIX, blocks=20, field_every=6))
    acted.campaign.target = 1e-9
    campaign = acted.play()
    assert any(block.field for block in campaign.blocks)
    assert seen
    assert not any(block.field for block in seen)


def test_a_floor_whose_values_are_short_drops_no_block() -> None:
    acted = Stage(executor=FakeExecutor(noise=0.0))
    acted.campaign.cases[0].arms = plan.arms_of(["asyncio", "trio"], "asyncio", floor=True)
    campaign = acted.play()
    assert (campaign.dropped, campaign.notes) == ([], [])


def test_field_blocks_do_not_count_among_the_blocks_that_were_asked_for() -> None:
    campaign = stage(effort=replace(SIX, blocks=12, field_every=6)).play()
    assert Counter(block.field for block in campaign.blocks) == {False: 12, True: 1}


def test_a_field_block_that_fails_is_dropped_as_such() -> None:
    campaign = stage(Mishap(what=CUT, arm="trio", run=7), effort=replace(SIX, blocks=9, field_every=2)).play()
    assert campaign.dropped == [f"field block 7 of {ONE.name}: trio: reset: cut"]
    assert [block.field for block in campaign.blocks] == [False] * 9


# Failures


def test_one_error_drops_its_block_only_and_another_block_takes_its_place() -> None:
    acted = stage(Mishap(what=CUT, arm="trio", run=2))
    campaign = acted.play()
    assert campaign.dropped == [f"block 2 of {ONE.name}: trio: reset: cut"]
    assert [block.index for block in campaign.blocks] == [0, 1, 3, 4, 5, 6]
    assert labels(campaign.blocks) == [EVERYBODY] * 6
    assert campaign.outcomes == []
    assert campaign.ended == "done"


def test_what_a_dropped_block_had_measured_is_not_kept() -> None:
    campaign = stage(Mishap(what=CUT, arm="trio", run=0)).play()
    assert 0 not in [block.index for block in campaign.blocks]


def test_a_second_error_retires_the_arm_with_its_reason_and_all_it_has_measured() -> None:
    campaign = stage(
        Mishap(what=CUT, arm="trio", run=1), Mishap(what=TrafficError(Kind.EOF, "end"), arm="trio", run=3)
    ).play()
    assert campaign.outcomes == [Outcome(arm="trio", case=ONE.name, status="retired", reason="eof: end")]
    assert labels(campaign.blocks) == [["asyncio", TWIN, "uvloop"]] * 6
    assert all(set(block.order) == set(block.measurements) for block in campaign.blocks)
    assert [block.index for block in campaign.blocks] == [0, 2, 3, 4, 5, 6]
    assert campaign.ended == "done"


def test_spoilt_values_drop_their_blocks_and_retire_nobody() -> None:
    campaign = stage(*(Mishap(what=SPOILT, arm="trio", step="turn", run=run) for run in (0, 1, 3, 6, 7))).play()
    assert campaign.outcomes == []
    assert len(campaign.dropped) == 5
    assert labels(campaign.blocks) == [EVERYBODY] * 6


def test_three_spoilt_values_in_a_row_retire_the_arm() -> None:
    campaign = stage(*(Mishap(what=SPOILT, arm="trio", step="turn", run=run) for run in (2, 3, 4))).play()
    reason = "a spoilt value, 3 times in a row"
    assert campaign.outcomes == [Outcome(arm="trio", case=ONE.name, status="retired", reason=reason)]
    assert len(campaign.dropped) == 2


def test_errors_of_two_arms_retire_neither() -> None:
    campaign = stage(Mishap(what=CUT, arm="trio", run=0), Mishap(what=CUT, arm="uvloop", run=3)).play()
    assert campaign.outcomes == []
    assert len(campaign.dropped) == 2


def test_errors_in_two_cases_retire_in_neither() -> None:
    mishaps = [Mishap(what=CUT, arm="trio", run=0, case=each.name) for each in (SERVER, CLIENT)]
    campaign = stage(*mishaps, cases=(SERVER, CLIENT)).play()
    assert campaign.outcomes == []
    assert len(campaign.dropped) == 2


def test_a_wrong_fact_retires_at_once_and_the_block_goes_on() -> None:
    campaign = stage(Mishap(what=WRONG, arm="trio", run=3)).play()
    assert campaign.outcomes == [Outcome(arm="trio", case=ONE.name, status="retired", reason="TCP_NODELAY is False")]
    assert [block.index for block in campaign.blocks] == [0, 1, 2, 3, 4, 5]
    assert labels(campaign.blocks) == [["asyncio", TWIN, "uvloop"]] * 6
    assert campaign.dropped == []


def test_an_arm_that_is_retired_in_one_case_stays_in_the_others() -> None:
    campaign = stage(Mishap(what=WRONG, arm="trio", case=SERVER.name), cases=(SERVER, ONE)).play()
    assert all(("trio" in block.measurements) == (block.case == ONE.name) for block in campaign.blocks)
    assert [[arm.label for arm in each.arms] for each in campaign.cases] == [
        ["asyncio", "uvloop", TWIN],
        ["asyncio", "trio", "uvloop", TWIN],
    ]


def test_an_arm_that_is_retired_runs_never_again() -> None:
    acted = stage(Mishap(what=WRONG, arm="trio", run=2))
    acted.play()
    assert sum(order.arm == "trio" for order in acted.executor.orders) == 3


@pytest.mark.parametrize(
    "mishaps",
    [[Mishap(what=WRONG, arm="asyncio", run=2)], [Mishap(what=CUT, arm="asyncio", run=run) for run in (1, 2)]],
)
def test_a_retired_baseline_ends_the_campaign(mishaps: list[Mishap]) -> None:
    acted = stage(*mishaps)
    campaign = acted.play()
    reason = str(mishaps[0].what)
    assert campaign.ended == f"the baseline asyncio was retired in {ONE.name}: {reason}"
    assert [outcome.arm for outcome in campaign.outcomes] == ["asyncio"]
    assert acted.saved[-1]["ended"] == campaign.ended
    assert not acted.executor.is_open


def test_a_baseline_that_cannot_be_calibrated_ends_the_campaign_before_the_first_block() -> None:
    acted = stage(Mishap(what=WRONG, calibrating=True))
    campaign = acted.play()
    assert campaign.ended.startswith("the baseline asyncio was retired")
    assert campaign.blocks == []
    assert len(acted.executor.orders) == 1


def test_a_retired_twin_does_not_end_the_campaign() -> None:
    campaign = stage(Mishap(what=WRONG, arm=TWIN, run=0)).play()
    assert campaign.ended == "done"
    assert labels(campaign.blocks) == [["asyncio", "trio", "uvloop"]] * 6


def test_a_case_in_which_the_baseline_is_alone_is_over() -> None:
    acted = stage(Mishap(what=WRONG, arm=TWIN), Mishap(what=WRONG, arm="trio"), contenders=("asyncio", "trio"))
    campaign = acted.play()
    assert campaign.ended == "done"
    assert len([order for order in acted.executor.orders if order.values]) == 3


def test_the_death_of_a_blocks_interpreter_ends_the_campaign_and_keeps_its_blocks() -> None:
    acted = stage(Mishap(what=BlockDiedError("it died"), run=4 * 3 + 2))
    campaign = acted.play()
    assert campaign.ended == "it died"
    assert [block.index for block in campaign.blocks] == [0, 1, 2]
    assert len(acted.saved[-1]["blocks"]) == 3
    assert not acted.executor.is_open


@pytest.mark.parametrize("run", [0, 1, 4, 11, 23])
def test_an_interrupt_keeps_every_finished_block_and_says_so(run: int) -> None:
    acted = stage(Mishap(what=KeyboardInterrupt(), run=run))
    with pytest.raises(KeyboardInterrupt):
        acted.play()
    last = acted.saved[-1]
    assert last["ended"] == acted.campaign.ended == "interrupted"
    assert [block["index"] for block in last["blocks"]] == list(range(run // 4))
    assert last["seconds"] > 0
    assert not acted.executor.is_open


def test_a_baseline_that_fails_once_while_it_is_calibrated_gets_a_second_try() -> None:
    campaign = stage(Mishap(what=CUT, calibrating=True)).play()
    assert (campaign.ended, len(campaign.blocks), campaign.outcomes) == ("done", 6, [])


def test_a_campaign_is_saved_before_anything_runs() -> None:
    acted = stage(Mishap(what=KeyboardInterrupt(), calibrating=True))
    with pytest.raises(KeyboardInterrupt):
        acted.play()
    assert [saved["ended"] for saved in acted.saved] == ["running", "interrupted"]


def test_an_interrupt_while_calibrating_is_one_too() -> None:
    acted = stage(Mishap(what=KeyboardInterrupt(), calibrating=True))
    with pytest.raises(KeyboardInterrupt):
        acted.play()
    assert acted.saved[-1]["ended"] == "interrupted"


def test_an_interrupt_while_a_block_opens_closes_it() -> None:
    class Slow(FakeExecutor):
        def open_block(self) -> None:
            super().open_block()
            raise KeyboardInterrupt

    acted = Stage(executor=Slow())
    with pytest.raises(KeyboardInterrupt):
        acted.play()
    assert not acted.executor.is_open


# Values that are too short


def test_a_short_value_in_the_first_block_raises_the_loops_and_drops_that_block() -> None:
    # The baseline, on which loops are calibrated, is four times slower.
    acted = Stage(executor=FakeExecutor(costs={"trio": 0.00005}, noise=0.0))
    campaign = acted.play()
    (dropped,) = campaign.dropped
    assert dropped.startswith(f"block 0 of {ONE.name}: a value took ")
    settled = campaign.cases[0].loops
    assert f"{settled} connections a value now" in dropped
    assert {each.loops for block in campaign.blocks for each in block.measurements.values()} == {settled}
    assert len(campaign.blocks) == 6
    assert campaign.notes == []


def test_a_short_value_in_a_later_block_is_noted_once_and_kept() -> None:
    def shorten(answer: dict[str, Any]) -> None:
        answer["wall"][0] = 1e-6

    campaign = stage(Mishap(what=shorten, run=9), Mishap(what=shorten, run=14)).play()
    assert campaign.dropped == []
    (note,) = campaign.notes
    assert note.startswith(f"{ONE.name}: some values took less than 50 ms")


def test_short_values_of_a_number_that_was_asked_for_are_kept_and_noted() -> None:
    campaign = stage(cases=(replace(ONE, connections=3),)).play()
    assert campaign.dropped == []
    assert campaign.cases[0].loops == 3
    assert len(campaign.notes) == 1


# The same work


def test_an_arm_with_another_fact_than_the_baseline_is_not_comparable() -> None:
    def older(answer: dict[str, Any]) -> None:
        answer["facts"]["equal"]["tls_version"] = "TLSv1.2"

    campaign = stage(Mishap(what=older, arm="trio", run=1)).play()
    (outcome,) = campaign.outcomes
    assert (outcome.arm, outcome.status) == ("trio", "not comparable")
    assert outcome.reason == "tls_version is TLSv1.2, the baseline's is TLSv1.3"
    assert labels(campaign.blocks) == [["asyncio", TWIN, "uvloop"]] * 6
    assert all(set(block.order) == set(block.measurements) for block in campaign.blocks)


def test_a_baseline_whose_facts_change_ends_the_campaign() -> None:
    def older(answer: dict[str, Any]) -> None:
        answer["facts"]["equal"]["cipher"] = "another"

    campaign = stage(Mishap(what=older, arm="asyncio", run=2)).play()
    assert campaign.ended.startswith("the baseline asyncio was retired")
    assert campaign.outcomes[0].status == "not comparable"


def test_what_the_wire_judges_makes_an_arm_not_comparable_and_keeps_its_trace() -> None:
    def judge(answer: dict[str, Any]) -> None:
        answer["judgement"] = "the client sent no close_notify"

    campaign = stage(Mishap(what=judge, arm="trio")).play()
    (outcome,) = campaign.outcomes
    assert (outcome.arm, outcome.status, outcome.reason) == (
        "trio",
        "not comparable",
        "the client sent no close_notify",
    )
    assert set(campaign.traces[ONE.name]) == set(EVERYBODY)
    assert labels(campaign.blocks) == [["asyncio", TWIN, "uvloop"]] * 6


def test_every_arm_is_traced_once_per_case_but_for_hidden_ones() -> None:
    acted = stage(cases=(SERVER, ONE), hidden=("yardstick",))
    campaign = acted.play()
    traced = Counter((order.client.case.name, order.arm) for order in acted.executor.orders if order.trace)
    assert traced == {(each.name, label): 1 for each in (SERVER, ONE) for label in EVERYBODY}
    assert campaign.traces[ONE.name][TWIN].records == tuple(fake.TRACE["records"])


def test_an_arm_that_failed_before_it_was_traced_is_traced_the_next_time() -> None:
    acted = stage(Mishap(what=CUT, arm="trio"))
    campaign = acted.play()
    assert [order.trace for order in acted.executor.orders if order.arm == "trio"] == [True, True] + [False] * 5
    assert "trio" in campaign.traces[ONE.name]


def test_hidden_arms_run_in_the_same_blocks() -> None:
    campaign = stage(hidden=("yardstick",)).play()
    assert labels(campaign.blocks) == [[*EVERYBODY, "yardstick"]] * 6


def test_the_proof_of_a_fast_block_holds_all_connections_in_the_first_only() -> None:
    acted = stage(cases=(SERVER,), effort=replace(FAST, seconds=1e6))
    acted.play()
    held = [order.at_once for order in acted.executor.orders if order.values]
    assert held == [100] * 4 + [plan.FAST_AT_ONCE] * 20


# Limits of time


def test_a_deadline_grows_with_the_connections_of_an_arm() -> None:
    acted = stage(cases=(ONE, replace(SERVER, concurrency=5000)), effort=FAST)
    acted.play()
    for order in acted.executor.orders:
        connections = order.loops * (order.warmups + max(order.values, 1))
        assert order.deadline == pytest.approx(120.0 + 0.02 * connections)


def test_a_campaign_that_came_to_nothing_can_still_be_encoded() -> None:
    acted = stage(Mishap(what=KeyboardInterrupt(), calibrating=True))
    with pytest.raises(KeyboardInterrupt):
        acted.play()
    again = codec.decode(acted.saved[-1], Campaign)
    assert dataclasses.asdict(again) == dataclasses.asdict(acted.campaign)


# Rounds


def test_all_arms_start_then_take_turns_in_rounds_and_finish() -> None:
    acted = stage(effort=replace(SIX, blocks=1))
    (block,) = acted.play().blocks
    warmups, values = plan.values_of(ONE, SIX)
    assert len(block.rounds) == warmups + values
    assert acted.executor.turns == [arm for one in block.rounds for arm in one]
    order = plan.order_of(1, ONE, 0, acted.campaign.cases[0].arms)
    assert block.rounds == plan.rounds_of(1, ONE, 0, order, warmups + values)


def values_in(campaign: Campaign) -> set[int]:
    return {len(each.wall) for block in campaign.blocks for each in block.measurements.values()}


def test_with_time_to_spare_a_hundred_at_a_time_have_more_values_a_block_and_never_fewer_blocks() -> None:
    found = {}
    for seconds in (15.0, 60.0, 600.0):
        campaign = stage(cases=(SERVER,), effort=replace(SIX, blocks=None, seconds=seconds)).play()
        (values,) = values_in(campaign)
        found[values] = len(campaign.blocks)
        needed = needed_blocks(campaign.cases[0], "asyncio")
    assert list(found) == sorted(found)
    assert (min(found), max(found)) == (1, 5)
    assert min(found.values()) >= needed


def test_with_little_time_one_at_a_time_has_fewer_values_a_block_and_so_blocks_enough() -> None:
    found = {}
    for seconds in (600.0, 15.0, 12.0, 11.0):
        campaign = stage(cases=(ONE,), effort=replace(SIX, blocks=None, values=5, seconds=seconds)).play()
        (values,) = values_in(campaign)
        found[values] = len(campaign.blocks)
        needed = needed_blocks(campaign.cases[0], "asyncio")
    assert list(found) == sorted(found, reverse=True)
    assert max(found) == 5
    assert len(found) > 1
    assert min(found.values()) >= needed


@pytest.mark.parametrize("seconds", [60.0, 40.0, 30.0, 25.0])
def test_cases_share_the_time_so_that_each_has_blocks_enough(seconds: float) -> None:
    campaign = stage(cases=(SERVER, ONE), effort=replace(SIX, blocks=None, values=5, seconds=seconds)).play()
    counts = Counter(block.case for block in campaign.blocks)
    assert all(counts[each.case.name] >= needed_blocks(each, "asyncio") for each in campaign.cases)


@pytest.mark.parametrize("mishaps", [(), (Mishap(what=CUT, arm="trio"), Mishap(what=CUT, arm="uvloop", run=3))])
@pytest.mark.parametrize("slowing", [0.0, 0.03, 0.05])
def test_a_machine_that_slows_down_and_drops_blocks_leaves_each_case_blocks_enough(
    slowing: float, mishaps: Sequence[Mishap]
) -> None:
    acted = Stage(
        cases=(SERVER, ONE),
        effort=replace(SIX, blocks=None, seconds=30.0),
        executor=FakeExecutor(slowing=slowing, mishaps=mishaps),
    )
    campaign = acted.play()
    counts = Counter(block.case for block in campaign.blocks)
    assert len(campaign.dropped) == len(mishaps)
    assert all(counts[each.case.name] >= needed_blocks(each, "asyncio") for each in campaign.cases)
    assert campaign.seconds <= 30.0 * 1.05


def test_a_case_that_has_lost_blocks_catches_up_before_others_take_more_than_they_need() -> None:
    lost = (Mishap(what=CUT, arm="trio", case=SERVER.name), Mishap(what=CUT, arm="uvloop", run=3, case=SERVER.name))
    acted = stage(*lost, cases=(SERVER, ONE), effort=replace(SIX, blocks=None, seconds=24.0))
    campaign = acted.play()
    counts = Counter(block.case for block in campaign.blocks)
    assert len(campaign.dropped) == 2
    assert all(counts[each.case.name] >= needed_blocks(each, "asyncio") for each in campaign.cases)


def test_later_blocks_have_fewer_values_where_the_machine_slows_down() -> None:
    def played(slowing: float) -> list[int]:
        acted = Stage(effort=replace(SIX, blocks=None, seconds=20.0), executor=FakeExecutor(slowing=slowing))
        return [len(block.measurements["asyncio"].wall) for block in acted.play().blocks]

    steady, slowed = played(0.0), played(0.1)
    assert set(steady) == {steady[0]}
    assert slowed[0] == steady[0] > min(slowed)


def test_a_campaign_that_is_continued_keeps_its_number_of_values() -> None:
    acted = stage(cases=(SERVER,), effort=replace(SIX, blocks=None, seconds=100.0))
    before = values_in(acted.play())
    acted.campaign.cases[0].ended = ""
    acted.effort = replace(SIX, blocks=None, seconds=acted.campaign.seconds + 10.0)
    blocks = len(acted.campaign.blocks)
    assert values_in(acted.play()) == before
    assert len(acted.campaign.blocks) > blocks


def test_with_very_many_connections_each_arm_ends_before_the_next_one_starts() -> None:
    acted = stage(effort=replace(SIX, blocks=1), cases=(replace(ONE, concurrency=1000),))
    (block,) = acted.play().blocks
    assert block.rounds == ()
    assert acted.executor.turns == [arm for arm in block.order for _ in range(1)]


def test_who_fails_in_a_turn_costs_the_block_first_and_its_place_then() -> None:
    acted = stage(Mishap(what=CUT, arm="trio", step="turn"), Mishap(what=CUT, arm="trio", run=1, step="turn"))
    campaign = acted.play()
    assert len(campaign.dropped) == 1
    assert [(each.arm, each.status) for each in campaign.outcomes] == [("trio", "retired")]
    assert labels(campaign.blocks) == [["asyncio", TWIN, "uvloop"]] * 6


def test_who_fails_at_the_finish_has_no_number() -> None:
    acted = stage(Mishap(what=FactsError("counts differ"), arm="trio", step="finish"))
    campaign = acted.play()
    assert [(each.arm, each.reason) for each in campaign.outcomes] == [("trio", "counts differ")]
    assert labels(campaign.blocks) == [["asyncio", TWIN, "uvloop"]] * 6


# When there are blocks enough


def aimed(target: float, noise: float, seconds: float = 3000.0) -> Stage:
    effort = replace(SIX, blocks=None, seconds=seconds, field_every=None, target=target)
    acted = Stage(effort=effort, executor=FakeExecutor(noise=noise))
    acted.campaign.target = target
    return acted


def test_a_case_stops_when_its_intervals_are_narrow_enough() -> None:
    campaign = aimed(0.01, noise=0.002).play()
    needed = needed_blocks(campaign.cases[0], "asyncio")
    assert (len(campaign.blocks), campaign.cases[0].ended, campaign.ended) == (needed, "target", "done")


def test_it_looks_at_the_widths_every_four_blocks_only() -> None:
    campaign = aimed(0.01, noise=0.02).play()
    plan_, blocks = campaign.cases[0], campaign.blocks
    needed = needed_blocks(plan_, "asyncio")
    assert plan_.ended == "target"
    assert len(blocks) > needed
    assert (len(blocks) - needed) % 4 == 0
    widest = widest_of(plan_, "asyncio", blocks)
    before = widest_of(plan_, "asyncio", blocks[:-4])
    assert widest is not None
    assert before is not None
    assert widest <= 0.01 < before


def test_a_difference_does_not_stop_it() -> None:
    acted = aimed(0.0001, noise=0.02, seconds=200.0)
    acted.executor.costs = {"trio": 0.0004}
    campaign = acted.play()
    assert (campaign.cases[0].ended, campaign.ended) == ("time cap", "time cap")


def test_each_case_stops_on_its_own_and_says_why() -> None:
    campaign = stage(cases=(SERVER, ONE)).play()
    assert [each.ended for each in campaign.cases] == ["blocks", "blocks"]


# Controls


def test_the_control_makes_more_connections_than_it_counts_and_the_floor_fewer() -> None:
    acted = stage(effort=replace(SIX, blocks=1))
    acted.campaign.cases[0].arms = plan.arms_of(["asyncio"], "asyncio", control=True, floor=True)
    (block,) = acted.play().blocks
    orders = {order.arm: order for order in acted.executor.orders if order.values}
    loops = acted.campaign.cases[0].loops
    assert {arm: (order.loops, order.surplus, order.floor) for arm, order in orders.items()} == {
        "asyncio": (loops, 0, False),
        TWIN: (loops, 0, False),
        "asyncio.control": (loops, loops // 50, False),
        "floor": (max(10, loops // 5), 0, True),
    }
    assert loops % 50 == 0
    assert set(block.measurements) == set(orders)


def test_a_field_block_has_no_floor() -> None:
    acted = stage(effort=replace(SIX, blocks=7, field_every=1))
    acted.campaign.cases[0].arms = plan.arms_of(["asyncio"], "asyncio", floor=True)
    campaign = acted.play()
    assert [(block.field, "floor" in block.measurements) for block in campaign.blocks] == [
        *[(False, True)] * 6,
        (True, False),
        (False, True),
    ]
