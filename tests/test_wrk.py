"""wrk as a second opinion: what it prints is read, and what it says of a real server is said of that server."""

import os
import shutil
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.test_nginx import needs_nginx, running, task_of

from loopmark import wrk
from loopmark.case import Case, Role
from loopmark.errors import LoopmarkError
from loopmark.record import Arm, CasePlan, Kind
from loopmark.registry import Contender, Source
from loopmark.spi import TLSProfile
from loopmark.task import Task
from loopmark.tls import Identity
from loopmark.wrk import call, parse, second_opinion

GOOD = """\
Running 2s test @ https://127.0.0.1:40329/page.txt
  1 threads and 10 connections
  3281 requests in 2.02s, 64.87MB read
Requests/sec:   1625.26
Transfer/sec:     32.13MB
"""

WRK = shutil.which("wrk")
needs_wrk = pytest.mark.skipif(WRK is None, reason="wrk is not installed; type: apt install wrk")


def test_the_rate_is_read() -> None:
    assert (parse(GOOD).rate, parse(GOOD).failed, str(parse(GOOD))) == (1625.26, 0, "1,625")


@given(st.tuples(*[st.integers(0, 10**6)] * 5))
def test_everything_that_went_wrong_is_added_up(numbers: tuple[int, ...]) -> None:
    connect, read, write, timeout, refused = numbers
    errors = f"  Socket errors: connect {connect}, read {read}, write {write}, timeout {timeout}\n"
    refusals = f"  Non-2xx or 3xx responses: {refused}\n"
    text = GOOD.replace("Requests/sec", errors + refusals + "Requests/sec")
    assert parse(text).failed == sum(numbers)


@given(st.text())
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(LoopmarkError, match="wrk says"):
        parse(text)


@needs_wrk
@needs_nginx
def test_wrk_is_on_its_core_and_we_stay_where_we_were(identity: Identity) -> None:
    assert WRK is not None
    before = os.sched_getaffinity(0)
    with running(task_of(identity)) as server:
        said = call(WRK, server.address, "/files/page.txt", tls=True, connections=2, seconds=1, cpu=min(before))
        counts = server.ask("counts")
    assert os.sched_getaffinity(0) == before
    assert said.rate > 0
    assert said.failed == 0
    # Every request had a connection of its own.
    assert counts["accepted"] >= counts["served"] > 0


@needs_wrk
@needs_nginx
def test_a_page_that_is_not_there_counts_as_failed(identity: Identity) -> None:
    assert WRK is not None
    with running(task_of(identity)) as server:
        assert call(WRK, server.address, "/other", tls=True, connections=2, seconds=1).failed > 0


@needs_wrk
@needs_nginx
def test_the_sentence_has_every_server_that_is_compared(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrk, "SECONDS", 1)
    task = task_of(identity)
    broken = replace(task, contender=Contender(name="broken", backend=Source(value="loopmark.missing:serve")))
    arms = (
        Arm(label="nginx", contender="nginx", kind=Kind.REFERENCE),
        Arm(label="broken", contender="broken"),
        Arm(label="broken.twin", contender="broken", kind=Kind.TWIN),
    )

    def assign(case: Case, arm: Arm) -> tuple[Task, Task, bool]:
        server = task if arm.label == "nginx" else broken
        return server, task, False

    said = second_opinion(CasePlan(case=task.case, arms=arms, loops=0), assign)
    assert said is not None
    assert "wrk -t 1 -c 10 -d 1s" in said
    assert "broken nothing" in said
    assert "twin" not in said
    assert "nginx " in said
    assert "failed" not in said


@needs_wrk
def test_a_benchmark_that_asks_for_no_second_opinion_gets_none() -> None:
    task = task_of(None)
    arms = (Arm(label="nginx", contender="nginx", kind=Kind.REFERENCE),)
    assert second_opinion(CasePlan(case=task.case, arms=arms, loops=0), lambda case, arm: (task, task, False)) is None


@needs_wrk
@pytest.mark.parametrize(
    "changes",
    [
        {"role": Role.CLIENT},
        {"rtt": 20.0},
        {"tls": TLSProfile(tickets=1, resumed=True)},
        {"tls": TLSProfile(client_key="p256")},
    ],
)
def test_what_wrk_cannot_do_it_is_not_asked(identity: Identity, changes: dict[str, Any]) -> None:
    task = task_of(identity)
    arms = (Arm(label="nginx", contender="nginx", kind=Kind.REFERENCE),)
    planned = CasePlan(case=replace(task.case, **changes), arms=arms, loops=0)
    assert second_opinion(planned, lambda case, arm: (task, task, False)) is None


def test_without_wrk_nothing_is_said(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    task = task_of(identity)
    arms = (Arm(label="nginx", contender="nginx", kind=Kind.REFERENCE),)
    assert second_opinion(CasePlan(case=task.case, arms=arms, loops=0), lambda case, arm: (task, task, False)) is None
