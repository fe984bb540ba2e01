"""Names of cases: every axis is in them, the contender never, and no two cases share one."""

import re
from dataclasses import fields, replace
from importlib import import_module
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from loopmark.case import PRIMARY, Benchmark, Case, ClosePolicy, Cores, Metric, Role, stored_name
from loopmark.errors import UsageError
from loopmark.spi import Feature, TLSProfile

CASE = Case(
    benchmark="tls_pingpong", concurrency=100, role=Role.SERVER, peer="uvloop", cores=Cores.SEPARATE, tls=TLSProfile()
)

# Few of each, so that two cases often differ in one axis only.
WORDS = st.sampled_from(["a", "b-c", "anyio+d", "1.3"])
COUNTS = st.integers(min_value=1, max_value=3)
ALONE = (Role.BOTH, Role.PAIR)

TLS_PINGPONG: Benchmark = import_module("loopmark.benchmarks.tls_pingpong").BENCHMARK
TCP_PINGPONG: Benchmark = import_module("loopmark.benchmarks.tcp_pingpong").BENCHMARK


@st.composite
def cases(draw: st.DrawFn) -> Case:
    role = draw(st.sampled_from(Role))
    return Case(
        benchmark=draw(WORDS),
        concurrency=draw(COUNTS),
        role=role,
        peer=None if role in ALONE else draw(WORDS),
        cores=draw(st.sampled_from(Cores)),
        tls=draw(st.none() | st.builds(TLSProfile, version=WORDS, key=WORDS, group=WORDS)),
        burst=draw(st.booleans()),
        connections=draw(st.none() | COUNTS),
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
    ],
)
def test_names_read_as_documented(case: Case, name: str) -> None:
    assert case.name == name


def test_a_name_never_holds_the_contender() -> None:
    # A case does not know its contender, so that the same case has the same name in every contender's file.
    assert not {"contender", "arm", "label", "backend", "loop"} & {field.name for field in fields(Case)}


@pytest.mark.parametrize("case", [CASE, replace(CASE, burst=True), replace(CASE, connections=7)])
def test_pyperf_gets_one_plain_line(case: Case) -> None:
    for metric in Metric:
        assert re.fullmatch(r"[!-~]+( \[(client|server) cpu\])?", stored_name(case.name, metric))


def test_metrics_have_their_own_names_and_wall_is_plain() -> None:
    names = [stored_name("case[c=1]", metric) for metric in Metric]
    assert names == ["case[c=1]", "case[c=1] [client cpu]", "case[c=1] [server cpu]"]


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
    ("case", "loops"),
    [(CASE, 300), (replace(CASE, burst=True), 100), (replace(CASE, connections=500), 500)],
)
def test_a_value_has_three_rounds_of_all_or_one_burst_or_what_was_asked_for(case: Case, loops: int) -> None:
    assert case.minimum_loops == loops


@pytest.mark.parametrize(
    ("benchmark", "needs", "close"),
    [
        (TLS_PINGPONG, {Feature.TLS}, ClosePolicy.BOTH_NOTIFY),
        (TCP_PINGPONG, {Feature.TCP}, ClosePolicy.FIN),
    ],
    ids=lambda value: value.name if isinstance(value, Benchmark) else "",
)
def test_needs_and_close_policy_follow_from_tls(benchmark: Benchmark, needs: set[Feature], close: ClosePolicy) -> None:
    assert benchmark.needs("") == needs
    assert benchmark.close_policy("") is close


@pytest.mark.parametrize("benchmark", [TLS_PINGPONG, TCP_PINGPONG], ids=lambda each: each.name)
def test_the_two_sides_of_a_benchmark_fit_each_other(benchmark: Benchmark) -> None:
    conversation = benchmark.conversation("")
    reply = conversation.service().receive(b"".join(conversation.talk.parts))
    conversation.talk.check(reply.data)
