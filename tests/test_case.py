"""Names of cases: every axis is in them, the contender never, and no two cases share one. What conversations need."""

import re
import socket
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from loopmark.case import (
    PRIMARY,
    PRIMARY_MEMORY,
    UNITS,
    Benchmark,
    Case,
    ClosePolicy,
    Conversation,
    Cores,
    Lookup,
    Metric,
    Role,
    Traffic,
    stored_name,
)
from loopmark.errors import UsageError
from loopmark.service import AnswerOnce, Talk
from loopmark.spi import Feature, TLSProfile

CASE = Case(
    benchmark="tls_pingpong", concurrency=100, role=Role.SERVER, peer="uvloop", cores=Cores.SEPARATE, tls=TLSProfile()
)
TO_ITSELF = replace(CASE, concurrency=1, role=Role.BOTH, peer=None, cores=Cores.ANY)

# Few of each, so that two cases often differ in one axis only.
WORDS = st.sampled_from(["a", "b-c", "anyio+d", "1.3"])
SIDES = ("client", "server")
COUNTS = st.integers(min_value=1, max_value=3)
ALONE = (Role.BOTH, Role.PAIR)

PROFILES = st.builds(
    TLSProfile,
    version=WORDS,
    key=WORDS,
    group=WORDS,
    cipher=st.none() | WORDS,
    tickets=st.integers(0, 2),
    resumed=st.booleans(),
    client_key=st.none() | WORDS,
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    role = draw(st.sampled_from(Role))
    return Case(
        benchmark=draw(WORDS),
        concurrency=draw(COUNTS),
        role=role,
        peer=None if role in ALONE else draw(WORDS),
        cores=draw(st.sampled_from(Cores)),
        tls=draw(st.none() | PROFILES),
        burst=draw(st.booleans()),
        connections=draw(st.none() | COUNTS),
        variant=draw(st.just("") | WORDS),
        rtt=draw(st.none() | st.sampled_from([0.5, 1.0, 20.0])),
        held=draw(st.none() | COUNTS),
    )


@given(cases(), cases())
def test_two_different_cases_never_share_a_name(one: Case, other: Case) -> None:
    assert (one.name == other.name) is (one == other)


@given(cases(), st.data())
def test_cases_that_differ_in_one_axis_never_share_a_name(case: Case, data: st.DataObject) -> None:
    axis = data.draw(st.sampled_from(fields(Case))).name
    changes: dict[str, Any] = {axis: getattr(data.draw(cases()), axis)}
    assume((changes.get("peer", case.peer) is None) is (changes.get("role", case.role) in ALONE))
    other = replace(case, **changes)
    assert (case.name == other.name) is (case == other)


TLS_AXES: dict[str, Any] = {
    "version": "1.2",
    "key": "rsa2048",
    "group": "prime256v1",
    "cipher": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "tickets": 1,
    "resumed": True,
    "client_key": "p256",
}

OTHERS: dict[str, list[Any]] = {
    "benchmark": ["tcp_pingpong"],
    "concurrency": [10],
    "role": [Role.CLIENT],
    "peer": ["asyncio"],
    "cores": [Cores.SHARED, Cores.ANY],
    "tls": [None, *(replace(TLSProfile(), **{axis: value}) for axis, value in TLS_AXES.items())],
    "burst": [True],
    "connections": [100, 500],
    "variant": ["1KiB"],
    "rtt": [20.0, 0.5],
    "held": [25],
}


def test_the_axes_below_are_all_that_a_case_has() -> None:
    assert set(OTHERS) == {field.name for field in fields(Case)}
    assert {field.name for field in fields(TLSProfile)} == TLS_AXES.keys()


@pytest.mark.parametrize("burst", [False, True])
@pytest.mark.parametrize(("axis", "value"), [(axis, value) for axis, values in OTHERS.items() for value in values])
def test_every_axis_is_in_the_name(axis: str, value: object, burst: bool) -> None:
    case = replace(CASE, burst=burst)
    changes: dict[str, Any] = {axis: value}
    changed = replace(case, **changes)
    assert (changed.name == case.name) is (changed == case)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        (CASE, "tls_pingpong[c=100,role=server,peer=uvloop,cores=separate,tls=1.3,key=p256,group=X25519]"),
        (replace(CASE, connections=500, tls=None), "tls_pingpong[c=100,n=500,role=server,peer=uvloop,cores=separate]"),
        (
            replace(CASE, role=Role.BOTH, peer=None, concurrency=1, cores=Cores.SHARED, tls=None),
            "tls_pingpong[c=1,role=both,cores=shared]",
        ),
        (replace(CASE, role=Role.PAIR, peer=None, tls=None), "tls_pingpong[c=100,role=pair,cores=separate]"),
        (replace(CASE, burst=True, tls=None), "tls_pingpong[burst=100,role=server,peer=uvloop,cores=separate]"),
        (replace(CASE, variant="1KiB", tls=None), "tls_pingpong[1KiB,c=100,role=server,peer=uvloop,cores=separate]"),
        (replace(CASE, rtt=20.0, tls=None), "tls_pingpong[c=100,role=server,peer=uvloop,cores=separate,rtt=20ms]"),
        (replace(CASE, held=25, tls=None), "tls_pingpong[c=100,held=25,role=server,peer=uvloop,cores=separate]"),
        (
            replace(TO_ITSELF, tls=TLSProfile(tickets=1, resumed=True, client_key="p256")),
            "tls_pingpong[c=1,role=both,cores=any,tls=1.3,key=p256,group=X25519,tickets=1,resumed,client-key=p256]",
        ),
    ],
)
def test_names_read_as_documented(case: Case, name: str) -> None:
    assert case.name == name


def test_a_name_never_holds_the_contender() -> None:
    # A case does not know its contender, so that the same case has the same name in every contender's file.
    assert not {"contender", "arm", "label", "backend", "loop"} & {field.name for field in fields(Case)}


@pytest.mark.parametrize("case", [CASE, replace(CASE, burst=True), replace(CASE, variant="a")])
def test_pyperf_gets_one_plain_line(case: Case) -> None:
    for metric in Metric:
        assert re.fullmatch(r"[!-~]+( \[(client|server) (cpu|memory)\])?", stored_name(case.name, metric))


def test_metrics_have_their_own_names_and_wall_is_plain() -> None:
    names = [stored_name("case[c=1]", metric) for metric in Metric]
    assert names == ["case[c=1]", *(f"case[c=1] [{side} {what}]" for what in ("cpu", "memory") for side in SIDES)]


@pytest.mark.parametrize(
    ("role", "peer"), [(Role.BOTH, "uvloop"), (Role.PAIR, "uvloop"), (Role.SERVER, None), (Role.CLIENT, None)]
)
def test_only_contenders_that_play_both_sides_have_no_peer(role: Role, peer: str | None) -> None:
    with pytest.raises(UsageError, match=f"role {role} and peer {peer} do not go together"):
        replace(CASE, role=role, peer=peer)


@pytest.mark.parametrize(
    ("role", "metric"),
    [
        (Role.SERVER, Metric.SERVER_CPU),
        (Role.CLIENT, Metric.CLIENT_CPU),
        (Role.BOTH, Metric.WALL),
        (Role.PAIR, Metric.SERVER_CPU),
    ],
)
def test_each_role_is_judged_by_one_metric(role: Role, metric: Metric) -> None:
    assert replace(CASE, role=role, peer=None if role in ALONE else "uvloop").primary is metric
    assert PRIMARY.keys() == set(Role)


@pytest.mark.parametrize(
    ("role", "metric"),
    [
        (Role.SERVER, Metric.SERVER_MEMORY),
        (Role.CLIENT, Metric.CLIENT_MEMORY),
        (Role.BOTH, Metric.SERVER_MEMORY),
        (Role.PAIR, Metric.SERVER_MEMORY),
    ],
)
def test_what_is_held_is_judged_by_memory(role: Role, metric: Metric) -> None:
    case = replace(CASE, role=role, peer=None if role in ALONE else "uvloop", held=25)
    assert case.primary is metric
    assert case.metrics == tuple(Metric)
    assert PRIMARY_MEMORY.keys() == set(Role)


def test_other_cases_have_times_only() -> None:
    assert CASE.metrics == (Metric.WALL, Metric.CLIENT_CPU, Metric.SERVER_CPU)


@pytest.mark.parametrize(
    ("case", "loops"),
    [
        (CASE, 300),
        (replace(CASE, burst=True), 100),
        (replace(CASE, connections=500), 500),
        (replace(CASE, held=25), 75),
    ],
)
def test_a_value_has_three_rounds_of_all_or_one_burst_or_what_is_not_held_or_what_was_asked_for(
    case: Case, loops: int
) -> None:
    assert case.minimum_loops == loops


# Conversations

TALK = Talk(parts=(b"PING",), reply=b"PONG", reply_size=None)
HALVED = replace(TALK, parts=(b"PING", b""))
LOOKUP = Lookup(host="localhost", family=socket.AF_INET, addresses=frozenset({"127.0.0.1"}))


def asked(
    conversation: Conversation, *, encrypted: bool, serving: bool = True, calling: bool = True
) -> tuple[set[Feature], ClosePolicy | None]:
    """Say what a benchmark with this one conversation needs, and how its connections end."""
    tls = TLSProfile() if encrypted else None
    benchmark = Benchmark(name="b", question="?", conversations={"a": conversation}, tls=tls)
    return set(benchmark.needs("a", serving=serving, calling=calling)), benchmark.close_policy("a")


@pytest.mark.parametrize(
    ("conversation", "needs", "close"),
    [
        (Conversation(talks=(TALK,)), set(), (ClosePolicy.FIN, ClosePolicy.BOTH_NOTIFY)),
        (
            Conversation(talks=(TALK,), traffic=Traffic.MESSAGES),
            set(),
            (ClosePolicy.CLIENT_FIN, ClosePolicy.CLIENT_NOTIFY),
        ),
        (
            Conversation(talks=(TALK,), traffic=Traffic.POOL, slots=3),
            {Feature.LIMITER},
            (ClosePolicy.CLIENT_FIN, ClosePolicy.CLIENT_NOTIFY),
        ),
        (Conversation(talks=(TALK,), traffic=Traffic.IDLE), set(), (ClosePolicy.FIN, ClosePolicy.BOTH_NOTIFY)),
        (
            Conversation(talks=(TALK,), needs=frozenset({Feature.FILES})),
            {Feature.FILES},
            (ClosePolicy.FIN, ClosePolicy.BOTH_NOTIFY),
        ),
    ],
    ids=["churn", "messages", "pool", "idle", "files"],
)
@pytest.mark.parametrize("encrypted", [False, True])
def test_needs_and_close_policy_follow_from_traffic_and_tls(
    conversation: Conversation, needs: set[Feature], close: tuple[ClosePolicy, ClosePolicy], encrypted: bool
) -> None:
    found = asked(conversation, encrypted=encrypted)
    assert found == ({Feature.TLS if encrypted else Feature.TCP, *needs}, close[encrypted])


def test_datagrams_need_neither_tcp_nor_a_close() -> None:
    assert asked(Conversation(talks=(TALK,), answer=lambda data: data, traffic=Traffic.DATAGRAMS), encrypted=False) == (
        {Feature.DATAGRAMS},
        None,
    )


def test_lookups_need_a_resolver_and_a_connection_for_their_proof() -> None:
    found = asked(Conversation(talks=(TALK,), lookups=(LOOKUP,), traffic=Traffic.LOOKUPS), encrypted=False)
    assert found == ({Feature.RESOLVER, Feature.TCP}, None)


def test_a_go_ahead_needs_an_upgrade_on_both_sides() -> None:
    conversation = Conversation(talks=(TALK,), go_ahead=b"GO")
    for serving in (True, False):
        needs, _ = asked(conversation, encrypted=True, serving=serving, calling=not serving)
        assert needs == {Feature.TLS, Feature.START_TLS}


def test_who_ends_its_stream_first_needs_half_close_and_another_policy() -> None:
    assert asked(Conversation(talks=(HALVED,)), encrypted=False) == (
        {Feature.TCP, Feature.HALF_CLOSE},
        ClosePolicy.HALF_CLOSE,
    )


def test_the_needs_of_all_talks_are_needed() -> None:
    needs, _ = asked(Conversation(talks=(TALK, HALVED)), encrypted=False)
    assert needs == {Feature.TCP, Feature.HALF_CLOSE}


@pytest.mark.parametrize(
    ("needs", "serving", "calling"),
    [
        (Feature.FILES, True, False),
        (Feature.SENDFILE, True, False),
        (Feature.LIMITER, False, True),
        (Feature.RESOLVER, False, True),
    ],
)
def test_some_needs_are_of_one_side_only(needs: Feature, serving: bool, calling: bool) -> None:
    conversation = Conversation(talks=(TALK,), needs=frozenset({needs}))
    assert (needs in asked(conversation, encrypted=False, calling=False)[0]) is serving
    assert (needs in asked(conversation, encrypted=False, serving=False)[0]) is calling


def test_every_kind_of_traffic_has_a_unit() -> None:
    assert UNITS.keys() == set(Traffic)


BENCHMARK = Benchmark(
    name="b",
    question="?",
    conversations={"x": Conversation(talks=(TALK,)), "y": Conversation(talks=(TALK, HALVED))},
    tls=None,
)


def test_conversations_are_named_as_they_are_asked_for() -> None:
    assert BENCHMARK.variants == ("b:x", "b:y")
    assert replace(BENCHMARK, conversations={"": Conversation(talks=(TALK,))}).variants == ("b",)


@pytest.mark.parametrize("variant", ["", "z", "xy"])
def test_an_unknown_conversation_is_refused_with_those_that_exist(variant: str) -> None:
    for ask in (BENCHMARK.conversation, BENCHMARK.close_policy, BENCHMARK.needs):
        with pytest.raises(UsageError, match=f"unknown case b:{variant}; there are b:x, b:y"):
            ask(variant)


def test_the_first_talk_is_the_one_for_the_proof() -> None:
    assert BENCHMARK.conversation("y").talk is TALK


def test_a_conversation_without_a_service_says_so() -> None:
    with pytest.raises(UsageError, match="no service"):
        BENCHMARK.conversation("x").service()
    assert isinstance(Conversation(service=lambda: AnswerOnce(b"a", b"b"), talks=(TALK,)).service(), AnswerOnce)
