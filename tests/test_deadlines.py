"""Deadlines grow with what waits in a queue, and end what is stuck."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.callers import calling, task_of

from loopmark.case import Case, Cores, Role
from loopmark.certs import KEYS
from loopmark.deadlines import CONVERSATION, HANDSHAKES, deadlines, of_step, of_traffic
from loopmark.errors import Kind, TrafficError
from loopmark.spi import Backend, Options, TLSProfile
from loopmark.testing import check_backend, require_kept
from loopmark.testing.endpoint import Endpoint
from loopmark.testing.peers import ReferenceServer
from loopmark.tls import Identity

PINGPONG = Case(benchmark="tcp_pingpong", role=Role.BOTH, concurrency=1, peer=None, cores=Cores.ANY, tls=None)


def test_one_conversation_at_a_time_has_the_usual_deadlines() -> None:
    for key in (None, *HANDSHAKES):
        assert deadlines(1, key) == Options()


def test_every_type_of_key_has_its_cost() -> None:
    assert set(HANDSHAKES) == set(KEYS)


def test_a_queue_of_handshakes_with_big_keys_is_not_cut_off_on_a_machine_that_is_ten_times_slower() -> None:
    options = deadlines(2500, "rsa4096")
    queue = 10 * 2500 * 3.82e-3
    assert min(options.handshake_timeout, options.close_timeout, options.deadline) > queue
    assert of_traffic(options, 2500) > queue
    case = replace(PINGPONG, concurrency=2500, tls=TLSProfile(key="rsa4096"))
    assert of_step(options, 2500, case) > of_traffic(options, 2500)


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.sampled_from([None, *HANDSHAKES]))
def test_deadlines_never_shrink_with_more_connections(one: int, other: int, key: str | None) -> None:
    fewer, more = (deadlines(count, key) for count in sorted((one, other)))
    assert fewer.handshake_timeout <= more.handshake_timeout
    assert fewer.close_timeout <= more.close_timeout
    assert fewer.deadline <= more.deadline
    assert fewer.deadline >= CONVERSATION


def test_what_somebody_asks_for_is_what_one_conversation_may_take() -> None:
    options = deadlines(1, "p256", conversation=5.0)
    assert (options.handshake_timeout, options.close_timeout, options.deadline) == (5.0, 2.5, 5.0)


@pytest.mark.parametrize("name", ["asyncio", "asyncio-protocol"])
def test_upgrading_clients_have_no_other_deadline_than_ours(
    load: Callable[[str], Backend], identity: Identity, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # asyncio's own, where nobody gives another one: it would be over at once.
    monkeypatch.setattr("asyncio.constants.SSL_HANDSHAKE_TIMEOUT", -1.0)
    require_kept(check_backend(load(name), identity, only=["client_converses"]))


def test_a_proof_against_a_server_that_never_answers_ends() -> None:
    task = task_of(PINGPONG, "asyncio")
    with calling(task) as caller, ReferenceServer(Endpoint.read_to_end) as silent:
        caller.target = replace(caller.target, address=silent.address, options=Options(deadline=0.1))
        with pytest.raises(TrafficError) as caught:
            caller.prove(1)
    assert caught.value.kind is Kind.TIMEOUT


@pytest.mark.parametrize("verbose", [[], ["-v"]])
def test_drive_gives_up_on_a_server_that_never_answers(verbose: list[str]) -> None:
    with ReferenceServer(Endpoint.read_to_end) as silent:
        command = [sys.executable, "-m", "loopmark", "drive", "tcp_pingpong", "--port", str(silent.address.port)]
        done = subprocess.run(
            [*command, "--deadline", "0.2", "-n", "1", *verbose],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode != 0
    assert "timeout: " in done.stderr
    assert "Traceback" not in done.stderr
