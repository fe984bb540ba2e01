"""A round-trip time other than zero: arms whose two sides live apart, and how many round trips they make."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopmark import network
from loopmark.case import Case, Cores, Role
from loopmark.cli.options import RoundTripTime
from loopmark.errors import UsageError
from loopmark.executor import Interpreters
from loopmark.registry import Source, registry
from loopmark.spi import Options, TLSProfile
from loopmark.task import Order, Task
from loopmark.tls import Identity

RTT = 50.0


@pytest.fixture(scope="module")
def _possible() -> None:
    try:
        with network.Link(RTT):
            pass
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def executor(_possible: None) -> Iterator[Interpreters]:
    interpreters = Interpreters()
    interpreters.open_block()
    yield interpreters
    interpreters.close_block()


def order_of(
    contender: str,
    identity: Identity,
    *,
    benchmark: str = "tcp_pingpong",
    tls: TLSProfile | None = None,
    **changes: Any,
) -> Order:
    known = registry()
    source = Source(value=f"loopmark.benchmarks.{benchmark}:BENCHMARK")
    case = Case(benchmark=benchmark, concurrency=1, role=Role.BOTH, peer=None, cores=Cores.ANY, tls=tls, rtt=RTT)
    go_ahead = source.load().conversation("").go_ahead
    task = Task(
        contender=known.contender(contender),
        benchmark=source,
        case=case,
        identity=identity if tls else None,
        options=Options(go_ahead=go_ahead),
    )
    plain = Order(arm="arm", server=task, client=task, loops=1, warmups=0, values=3, at_once=1)
    return replace(plain, **changes)


def measure(executor: Interpreters, order: Order) -> dict[str, Any]:
    answer = executor.start(order)
    for _ in range(order.values):
        assert "error" not in answer, answer
        answer |= executor.round([order.arm])[order.arm]
    return {**answer, **executor.finish(order.arm)}


NEW, OLD = TLSProfile(version="1.3"), TLSProfile(version="1.2")

ROUND_TRIPS: list[tuple[str, TLSProfile | None, int]] = [
    ("tcp_pingpong", None, 2),
    ("tls_pingpong", NEW, 3),
    ("tls_pingpong", OLD, 4),
    ("tls_pingpong", replace(NEW, resumed=True, tickets=1), 3),
    ("tls_pingpong", replace(OLD, resumed=True, tickets=1), 3),
    ("tls_upgrade", NEW, 4),
]
NAMES = ["tcp", "tls1.3", "tls1.2", "resumed1.3", "resumed1.2", "upgraded1.3"]


@pytest.mark.parametrize("contender", ["asyncio", "uvloop-protocol", "trio", "anyio+asyncio", "blocking"])
@pytest.mark.parametrize(("benchmark", "profile", "trips"), ROUND_TRIPS, ids=NAMES)
def test_a_connection_takes_as_many_round_trips_as_its_protocol_has(
    executor: Interpreters, identity: Identity, contender: str, benchmark: str, profile: TLSProfile | None, trips: int
) -> None:
    question = Source(value=f"loopmark.benchmarks.{benchmark}:BENCHMARK").load()
    backend = registry().contender(contender).load()
    if missing := question.needs("") - backend.features:
        pytest.skip(f"it has no {', '.join(missing)}")
    answer = measure(executor, order_of(contender, identity, benchmark=benchmark, tls=profile, trace=True))
    assert answer["judgement"] is None
    # No packet is early, so the lower bound is certain; on a busy machine one value of three may meet the upper one.
    assert min(answer["wall"]) * 1000 >= trips * RTT
    assert min(answer["wall"]) * 1000 < (trips + 1) * RTT


def test_fresh_processes_live_apart_like_forked_ones(executor: Interpreters, identity: Identity) -> None:
    answer = measure(executor, order_of("asyncio", identity, fresh=True, pinned=False))
    assert min(answer["wall"]) * 1000 >= 2 * RTT


def test_what_the_link_is_made_of_is_a_fact(executor: Interpreters, identity: Identity) -> None:
    answer = executor.start(order_of("blocking", identity))
    assert answer["facts"]["equal"]["link"] in ("netem", "TUN relay")


def test_without_a_round_trip_time_there_is_no_link(executor: Interpreters, identity: Identity) -> None:
    order = order_of("blocking", identity)
    tasks = [replace(task, case=replace(task.case, rtt=None)) for task in (order.server, order.client)]
    answer = measure(executor, replace(order, server=tasks[0], client=tasks[1]))
    assert "link" not in answer["facts"]["equal"]
    assert min(answer["wall"]) * 1000 < RTT


@pytest.mark.parametrize(("text", "milliseconds"), [("20ms", 20), ("0.02s", 20), (" 1.5ms ", 1.5), ("1s", 1000)])
def test_a_round_trip_time_is_read_with_its_unit(text: str, milliseconds: float) -> None:
    assert RoundTripTime().convert(text, None, None) == milliseconds


@pytest.mark.parametrize("text", ["20", "", "ms", "0ms", "-5ms", "2s", "0.5ms", "nanms", "infs", "20 min", "1e9ms"])
def test_what_is_no_round_trip_time_is_refused_with_one_that_is(text: str) -> None:
    with pytest.raises(click.UsageError, match="give something like 20ms"):
        RoundTripTime().convert(text, None, None)


@given(st.integers(min_value=1, max_value=1000))
def test_seconds_and_milliseconds_are_the_same_time(milliseconds: int) -> None:
    read = [RoundTripTime().convert(text, None, None) for text in (f"{milliseconds}ms", f"{milliseconds / 1000}s")]
    assert read == [milliseconds, milliseconds]
