"""What is measured, how often and in which order."""

import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from loopmark import plan
from loopmark.case import Benchmark, Case, Conversation, Cores, Lookup, Role, Traffic
from loopmark.errors import UsageError
from loopmark.plan import DEFAULT, FAST, MAXIMUM_CONCURRENCY, RIGOROUS, Effort
from loopmark.record import Arm, Kind
from loopmark.service import AnswerOnce, Talk
from loopmark.spi import TLSProfile

QUESTION = Benchmark(
    name="tls_pingpong",
    question="What?",
    conversations={
        "": Conversation(
            service=lambda: AnswerOnce(b"PING", b"PONG"),
            talks=(Talk(parts=(b"PING",), reply=b"PONG", reply_size=None),),
        )
    },
    tls=TLSProfile(),
)
ONE = Case(benchmark="tls_pingpong", concurrency=1, role=Role.BOTH, peer=None, cores=Cores.SHARED, tls=None)

concurrencies = st.integers(1, MAXIMUM_CONCURRENCY)
paces = st.floats(1e-7, 10.0)
efforts = st.builds(
    Effort,
    mode=st.just("default"),
    seconds=st.just(300.0),
    blocks=st.none(),
    values=st.integers(1, 10),
    field_every=st.integers(1, 20),
)


def case(concurrency: int, *, burst: bool = False, connections: int | None = None) -> Case:
    return replace(ONE, concurrency=concurrency, burst=burst, connections=connections)


def cases(
    *,
    cores: int = 2,
    roles: Sequence[Role] = (),
    concurrencies: Sequence[int] = (),
    connections: Sequence[int] = (),
) -> list[Case]:
    axes = plan.Axes(roles=tuple(roles), concurrencies=tuple(concurrencies), connections=tuple(connections))
    return plan.cases_of(QUESTION, "", axes, peer="peer", cores=cores)


# Loops


@given(concurrency=concurrencies, pace=paces)
def test_loops_are_whole_rounds_of_all_workers_at_least_three(concurrency: int, pace: float) -> None:
    loops = plan.loops_of(case(concurrency), pace)
    assert loops % concurrency == 0
    assert loops >= 3 * concurrency


@given(concurrency=concurrencies, pace=paces)
def test_a_value_is_planned_to_last_long_enough_and_not_a_round_longer(concurrency: int, pace: float) -> None:
    loops = plan.loops_of(case(concurrency), pace)
    planned = plan.MINIMUM_VALUE * plan.CALIBRATION_MARGIN
    assert loops * pace >= planned * (1 - 1e-9)
    assert loops == 3 * concurrency or (loops - concurrency) * pace < planned * (1 + 1e-9)


@given(concurrency=concurrencies, pace=paces)
def test_a_burst_is_one_whole_burst_at_any_pace(concurrency: int, pace: float) -> None:
    assert plan.loops_of(case(concurrency, burst=True), pace) == concurrency


@given(concurrency=concurrencies, connections=st.integers(1, 10**6), pace=paces)
def test_connections_that_were_asked_for_are_not_calibrated(concurrency: int, connections: int, pace: float) -> None:
    assert plan.loops_of(case(concurrency, connections=connections), pace) == connections


# Values


def test_one_at_a_time_has_a_warm_up_and_five_values() -> None:
    assert plan.values_of(case(1), DEFAULT) == (1, 5)


def test_from_a_hundred_at_a_time_on_one_value_does() -> None:
    assert plan.values_of(case(99), DEFAULT) == (1, 5)
    assert plan.values_of(case(100), DEFAULT) == (0, 1)


def fitting(concurrency: int, seconds: float, *, effort: Effort = DEFAULT, **other: Any) -> int:
    return plan.values_that_fit(
        case(concurrency, **other), effort, seconds=seconds, pace=plan.Pace(start=1.0, value=0.5)
    )


def test_a_hundred_at_a_time_have_as_many_values_as_the_block_has_time_for_and_five_at_most() -> None:
    # Half of the time is for more blocks.
    assert [fitting(100, seconds) for seconds in (1.0, 2.0, 3.8, 4.8, 5.0, 7.0, 200.0)] == [1, 1, 1, 2, 3, 5, 5]
    assert fitting(100, 100.0, effort=FAST) == 1


def test_as_many_blocks_as_were_asked_for_may_take_all_the_time() -> None:
    assert [fitting(100, seconds, effort=RIGOROUS) for seconds in (1.9, 2.4, 2.5, 3.5)] == [1, 2, 3, 5]


def test_short_values_are_fewer_where_there_would_be_too_few_blocks() -> None:
    kept = 1 - plan.UNFORESEEN
    assert [fitting(1, seconds / kept) for seconds in (0.5, 1.0, 1.9, 2.1, 2.6, 3.6, 100.0)] == [1, 1, 1, 2, 3, 5, 5]


def test_time_to_spare_is_for_more_blocks_wherever_more_values_would_not_help() -> None:
    assert [fitting(concurrency, 100.0) for concurrency in (1, 10, 99)] == [5, 5, 5]
    assert [fitting(101, seconds) for seconds in (0.5, 100.0)] == [1, 1]
    assert fitting(1000, 100.0, burst=True) == 1


def at_a_time(**limits: Any) -> list[tuple[int, Role]]:
    found = plan.cases_of(QUESTION, "", limits.pop("axes", plan.Axes()), peer="peer", cores=2, **limits)
    return [(case.concurrency, case.role) for case in found]


def test_a_fast_campaign_has_fewer_connections_at_a_time_unless_it_is_told_how_many() -> None:
    usual = [(100, Role.SERVER), (100, Role.CLIENT), (1, Role.BOTH)]
    assert at_a_time() == at_a_time(usual_up_to=DEFAULT.usual_up_to) == usual
    assert at_a_time(usual_up_to=FAST.usual_up_to) == [(20, Role.SERVER), (20, Role.CLIENT), (1, Role.BOTH)]
    assert at_a_time(usual_up_to=20, axes=plan.Axes(concurrencies=(100, 1))) == usual


def test_who_has_no_warm_up_value_has_untimed_connections() -> None:
    assert [plan.untimed_of(case(concurrency), DEFAULT) for concurrency in (1, 10, 100, 1000)] == [0, 0, 300, 3000]
    assert plan.untimed_of(case(1000, burst=True), DEFAULT) == 1000
    assert [plan.untimed_of(case(concurrency), FAST) for concurrency in (1, 10, 100, 1000)] == [20] * 4


def test_a_fast_block_has_one_value() -> None:
    assert [plan.values_of(case(concurrency), FAST)[1] for concurrency in (1, 10, 100, 1000)] == [1] * 4


def test_a_proof_holds_all_connections_but_in_fast_blocks_after_the_first() -> None:
    assert plan.held_of(case(1000), DEFAULT, first=False) == 1000
    assert plan.held_of(case(1000), FAST, first=True) == 1000
    assert plan.held_of(case(1000), FAST, first=False) == plan.FAST_AT_ONCE
    assert plan.held_of(case(5), FAST, first=False) == 5


@given(concurrency=concurrencies, effort=efforts)
def test_every_arm_has_at_least_one_value_and_never_more_than_asked_for(concurrency: int, effort: Effort) -> None:
    warmups, values = plan.values_of(case(concurrency), effort)
    assert warmups in (0, 1)
    assert 1 <= values <= effort.values


# Arms and order


def test_the_baseline_runs_twice_and_hidden_arms_are_marked() -> None:
    assert plan.arms_of(["asyncio", "trio"], "asyncio", hidden=["yardstick"]) == (
        Arm(label="asyncio", contender="asyncio"),
        Arm(label="trio", contender="trio"),
        Arm(label="asyncio.twin", contender="asyncio", kind=Kind.TWIN),
        Arm(label="yardstick", contender="yardstick", kind=Kind.HIDDEN),
    )


ARMS = plan.arms_of(["asyncio", "trio", "uvloop"], "asyncio")


@given(seed=st.integers(0), index=st.integers(0, 10**6))
def test_an_order_holds_every_arm_once(seed: int, index: int) -> None:
    order = plan.order_of(seed, ONE, index, ARMS)
    assert sorted(arm.label for arm in order) == sorted(arm.label for arm in ARMS)


def test_an_order_depends_on_seed_case_and_block_and_on_nothing_else() -> None:
    def orders(seed: int, of: Case, first: int) -> list[tuple[Arm, ...]]:
        return [plan.order_of(seed, of, index, ARMS) for index in range(first, first + 20)]

    assert orders(1, ONE, 0) == orders(1, ONE, 0)
    assert orders(1, ONE, 0) != orders(2, ONE, 0)
    assert orders(1, ONE, 0) != orders(1, case(2), 0)
    assert orders(1, ONE, 0) != orders(1, ONE, 1)


# Field blocks


def test_a_default_campaign_has_a_field_block_after_every_sixth_other() -> None:
    assert [complete for complete in range(21) if plan.is_field_block(complete, DEFAULT, 6)] == [6, 12, 18]
    assert [complete for complete in range(21) if plan.is_field_block(complete, DEFAULT, 9)] == [9, 15]


def test_a_fast_campaign_has_no_field_blocks() -> None:
    assert not any(plan.is_field_block(index, FAST, 6) for index in range(100))


def test_a_rigorous_campaign_has_sixty_blocks_within_an_hour() -> None:
    assert (RIGOROUS.blocks, RIGOROUS.seconds) == (60, 3600.0)


# Cases


def test_the_default_cases_make_the_two_tables() -> None:
    assert [each.name for each in cases()] == [
        "tls_pingpong[c=100,role=server,peer=peer,cores=separate,tls=1.3,key=p256,group=X25519]",
        "tls_pingpong[c=100,role=client,peer=peer,cores=separate,tls=1.3,key=p256,group=X25519]",
        "tls_pingpong[c=1,role=both,cores=shared,tls=1.3,key=p256,group=X25519]",
    ]


def test_roles_that_were_asked_for_replace_the_usual_ones() -> None:
    asked = cases(roles=[Role.BOTH], concurrencies=[10, 1])
    assert [(each.concurrency, each.role, each.cores) for each in asked] == [
        (10, Role.BOTH, Cores.SEPARATE),
        (1, Role.BOTH, Cores.SHARED),
    ]


def test_connections_alone_are_bursts_in_both_roles() -> None:
    asked = cases(connections=[1000, 1500])
    assert [(each.concurrency, each.role, each.burst) for each in asked] == [
        (1000, Role.SERVER, True),
        (1000, Role.CLIENT, True),
        (1500, Role.SERVER, True),
        (1500, Role.CLIENT, True),
    ]


def test_connections_beside_a_concurrency_are_the_size_of_a_value() -> None:
    (one,) = cases(concurrencies=[10], connections=[30], roles=[Role.CLIENT])
    assert (one.concurrency, one.connections, one.burst) == (10, 30, False)


@pytest.mark.parametrize(("cores", "placed"), [(0, Cores.ANY), (1, Cores.SHARED), (2, Cores.SEPARATE)])
def test_many_at_a_time_have_a_core_for_each_side_where_there_are_two(cores: int, placed: Cores) -> None:
    (one,) = cases(cores=cores, concurrencies=[10], roles=[Role.SERVER])
    assert one.cores is placed


def test_one_at_a_time_nobody_is_pinned_where_the_system_cannot() -> None:
    (one,) = cases(cores=0, concurrencies=[1])
    assert one.cores is Cores.ANY


@pytest.mark.parametrize("number", [0, -1, MAXIMUM_CONCURRENCY + 1, 10**30])
def test_absurd_numbers_are_refused_with_the_range(number: int) -> None:
    for ask in (partial(cases, concurrencies=[number]), partial(cases, connections=[number])):
        with pytest.raises(UsageError, match=f"{number} connections at a time: give 1 to {MAXIMUM_CONCURRENCY}"):
            ask()


def test_the_greatest_concurrency_is_still_allowed() -> None:
    assert cases(concurrencies=[MAXIMUM_CONCURRENCY])[0].concurrency == MAXIMUM_CONCURRENCY


def test_fewer_connections_than_three_rounds_are_refused_with_what_to_type() -> None:
    assert cases(concurrencies=[10], connections=[30])
    with pytest.raises(UsageError, match="type -n 30 or more, or -n 29 without -c"):
        cases(concurrencies=[10], connections=[29])


# Other benchmarks, and other axes

TALK = Talk(parts=(b"PING",), reply=b"PONG", reply_size=None)
LOOKUP = Lookup(host="localhost", family=socket.AF_INET, addresses=frozenset({"127.0.0.1"}))
KINDS = Benchmark(
    name="kinds",
    question="What?",
    conversations={
        traffic.value: Conversation(talks=(TALK,), traffic=traffic, answer=lambda data: data, lookups=(LOOKUP,))
        for traffic in Traffic
    },
    tls=None,
    usual=((10, (Role.CLIENT,)),),
    roles=(Role.CLIENT, Role.BOTH, Role.PAIR),
)


def kinds(variant: str = "churn", **axes: Any) -> list[Case]:
    return plan.cases_of(KINDS, variant, plan.Axes(**axes), peer="peer", cores=2)


@pytest.mark.parametrize("traffic", Traffic)
def test_every_case_has_the_name_of_its_conversation(traffic: Traffic) -> None:
    asked = kinds(traffic, concurrencies=(1, 10))
    assert [each.name.startswith(f"kinds[{traffic},c=") for each in asked] == [True, True]


def test_an_unknown_conversation_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match="unknown case kinds:chrun; there are kinds:churn, kinds:messages, "):
        kinds("chrun")


def test_only_new_connections_can_be_bursts() -> None:
    assert kinds("churn", connections=(1000,))[0].burst
    for traffic in set(Traffic) - {Traffic.CHURN}:
        with pytest.raises(UsageError, match="kinds has no bursts: give -c together with -n"):
            kinds(traffic, connections=(1000,))


def test_a_burst_has_the_roles_that_there_are() -> None:
    assert [each.role for each in kinds(connections=(1000,))] == [Role.CLIENT]


def test_a_role_that_makes_no_sense_is_refused_with_those_that_do() -> None:
    with pytest.raises(UsageError, match=r"kinds has no role server; there are client, both$"):
        kinds(roles=(Role.SERVER,))


@pytest.mark.parametrize(
    ("roles", "concurrency", "expected"),
    [
        ((Role.SERVER, Role.CLIENT, Role.BOTH), 50, [Role.SERVER, Role.CLIENT]),
        ((Role.SERVER, Role.CLIENT, Role.BOTH), 1, [Role.BOTH]),
        ((Role.CLIENT, Role.BOTH), 50, [Role.CLIENT]),
        ((Role.BOTH,), 50, [Role.BOTH]),
        ((Role.SERVER,), 1, [Role.SERVER]),
    ],
)
def test_an_unusual_load_has_its_roles_as_far_as_there_are_any(
    roles: tuple[Role, ...], concurrency: int, expected: list[Role]
) -> None:
    axes = plan.Axes(concurrencies=(concurrency,))
    found = plan.cases_of(replace(KINDS, roles=roles, usual=()), "churn", axes, peer="peer", cores=2)
    assert [each.role for each in found] == expected


def test_a_round_trip_time_is_in_every_case() -> None:
    assert {each.rtt for each in kinds(concurrencies=(1, 10), rtt=20.0)} == {20.0}


def test_of_idle_connections_a_quarter_is_there_before() -> None:
    (one,) = kinds("idle", concurrencies=(2000,))
    assert one.held == 500
    assert {each.held for each in kinds("churn", concurrencies=(1, 2000))} == {None}


OWN = TLSProfile()
OLDER = TLSProfile(tickets=1, resumed=True)


@pytest.mark.parametrize(
    ("axes", "own", "profiles"),
    [
        ({}, OWN, [OWN]),
        ({}, OLDER, [OLDER]),
        (
            {"versions": ("1.2", "1.3"), "keys": ("p256", "rsa2048")},
            OWN,
            [replace(OWN, version=version, key=key) for version in ("1.2", "1.3") for key in ("p256", "rsa2048")],
        ),
        ({"group": "prime256v1"}, OWN, [replace(OWN, group="prime256v1")]),
        ({"cipher": "AES"}, OWN, [replace(OWN, cipher="AES")]),
        ({"client_key": "p256"}, OWN, [replace(OWN, client_key="p256")]),
        ({"tickets": 2}, OWN, [replace(OWN, tickets=2)]),
        # Without a ticket nothing can be resumed; whoever asks for none is told so by `tls.check`.
        ({"resumed": True}, OWN, [OLDER]),
        ({"resumed": True, "tickets": 0}, OWN, [replace(OLDER, tickets=0)]),
        ({"keys": ("rsa2048",)}, OLDER, [replace(OLDER, key="rsa2048")]),
        ({"tickets": 0}, OLDER, [replace(OLDER, tickets=0)]),
    ],
)
def test_what_is_asked_for_of_tls_replaces_the_benchmarks_own(
    axes: dict[str, Any], own: TLSProfile, profiles: list[TLSProfile]
) -> None:
    assert list(plan.Axes(**axes).profiles(own)) == profiles


def test_without_tls_there_is_nothing_to_replace() -> None:
    assert plan.Axes(versions=("1.2", "1.3"), resumed=True).profiles(None) == (None,)


def test_every_way_of_doing_tls_is_a_case() -> None:
    axes = plan.Axes(versions=("1.2", "1.3"), keys=("p256", "ed25519"), concurrencies=(1, 10), roles=(Role.CLIENT,))
    found = plan.cases_of(QUESTION, "", axes, peer="peer", cores=2)
    assert len({each.name for each in found}) == 8


@pytest.mark.parametrize("unit", ["round trip", "request", "lookup"])
def test_messages_are_planned_for_much_faster_contenders(unit: str) -> None:
    assert plan.margin_of(ONE, unit) == plan.WIDE_MARGIN > plan.margin_of(ONE, "connection")
    assert plan.loops_of(ONE, 1e-5, margin=plan.WIDE_MARGIN) > plan.loops_of(ONE, 1e-5)


def test_references_are_arms_that_only_serve_and_resume_nothing() -> None:
    arms = plan.arms_of(["asyncio"], "asyncio", references=["nginx"])
    assert [arm.kind for arm in arms if arm.label == "nginx"] == [Kind.REFERENCE]
    server = replace(ONE, role=Role.SERVER, peer="peer")
    assert plan.takes_references(server)
    assert plan.takes_references(replace(server, tls=OWN))
    assert not plan.takes_references(replace(server, tls=OLDER))
    assert not plan.takes_references(replace(server, role=Role.CLIENT))
    assert not plan.takes_references(ONE)


# Rounds


def test_every_round_has_an_order_of_its_own_warm_up_included() -> None:
    rounds = plan.rounds_of(1, case(1), 0, ARMS, 6)
    assert len(rounds) == 6
    assert all(sorted(one) == sorted(arm.label for arm in ARMS) for one in rounds)
    assert len(set(rounds)) > 1


def test_the_orders_of_rounds_depend_on_seed_case_block_and_round_only() -> None:
    assert plan.rounds_of(1, case(1), 3, ARMS, 6) == plan.rounds_of(1, case(1), 3, ARMS, 6)
    others = [plan.rounds_of(*each, ARMS, 6) for each in ((2, case(1), 3), (1, case(10), 3), (1, case(1), 4))]
    assert plan.rounds_of(1, case(1), 3, ARMS, 6) not in others


def test_every_arm_is_as_often_in_every_place_of_a_round() -> None:
    arms = ARMS[:3]
    rounds = [one for index in range(200) for one in plan.rounds_of(1, case(1), index, arms, 6)]
    counts = Counter(rounds)
    assert len(counts) == 6
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-6


def test_with_very_many_connections_each_arm_has_the_memory_for_itself() -> None:
    assert plan.rounds_of(1, case(100), 0, ARMS, 6)
    assert plan.rounds_of(1, case(101), 0, ARMS, 6) == ()


# The positive control, and the looks at the width


@given(st.floats(1e-6, 0.1), st.sampled_from([1, 10, 30, 100, 1000]))
def test_with_a_control_a_value_is_a_multiple_of_the_concurrency_and_of_fifty(pace: float, concurrency: int) -> None:
    loops = plan.loops_of(case(concurrency), pace, control=True)
    assert loops % concurrency == loops % plan.CONTROL_SHARE == 0
    assert loops >= plan.loops_of(case(concurrency), pace)


def test_only_the_control_does_more_than_it_counts() -> None:
    done = {arm.kind: plan.surplus_of(arm, 300) for arm in plan.arms_of(["a"], "a", control=True, floor=True)}
    assert done == {Kind.CONTENDER: 0, Kind.TWIN: 0, Kind.CONTROL: 6, Kind.FLOOR: 0}


def test_widths_are_looked_at_from_the_fewest_blocks_on_and_then_every_fourth() -> None:
    assert [blocks for blocks in range(30) if plan.is_time_to_look(blocks, 9)] == [9, 13, 17, 21, 25, 29]
