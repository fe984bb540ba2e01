"""The client's process: what it proves, and that every count and clock that does not fit fails the arm."""

import io
import json
import os
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, repeat
from pathlib import Path
from typing import Any, cast

import pytest
from tests.callers import Doctored, calling, in_process, order_of, task_of

from loopmark import certs
from loopmark.caller import Caller, Value, report
from loopmark.case import Case, Cores, Role
from loopmark.errors import FactsError, TrafficError, VoidError
from loopmark.factcheck import check_facts
from loopmark.gauges import Clocks
from loopmark.peer import Handle
from loopmark.readings import Readings
from loopmark.registry import Contender, registry
from loopmark.resumption import resume_from_now_on
from loopmark.spi import Address, Facts, Options, TLSProfile
from loopmark.tls import Identity
from loopmark.traffic import churn
from loopmark.turns import Pauses, Turns

TLS = Case(benchmark="tls_pingpong", concurrency=2, role=Role.BOTH, peer=None, cores=Cores.ANY, tls=TLSProfile())
PLAIN = replace(TLS, benchmark="tcp_pingpong", tls=None)

PLUGIN = """
import asyncio
from loopmark.backends.asyncio_streams import AsyncioStreams

class IgnoresItsLoop(AsyncioStreams):
    def run(self, main):
        return asyncio.run(main())

class MakesAnother(AsyncioStreams):
    def run(self, main):
        self.loop_factory().close()
        return asyncio.run(main())

class Loop(asyncio.SelectorEventLoop):
    pass

loops = {"zippy": Loop}
backends = {"LOOP-ignored": IgnoresItsLoop, "LOOP-other": MakesAnother}
"""


@pytest.fixture
def zippy(tmp_path: Path) -> Callable[[str], Contender]:
    """Contenders on a third party's loop, which they do not really use."""
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    return registry(path).contender


# The proof


@pytest.mark.parametrize("contender", ["blocking", "asyncio", "asyncio-protocol"])
def test_the_proof_brings_the_facts_of_both_sides(contender: str, identity: Identity) -> None:
    with calling(task_of(TLS, contender, identity)) as caller:
        facts = caller.prove(2)
    assert facts["equal"] | {"cipher": None, "backlog": None, "openssl": None} == {
        "nodelay": True,
        "tls_version": "TLSv1.3",
        "cipher": None,
        "session_reused": False,
        "verified": True,
        "backlog": None,
        "openssl": None,
    }
    assert facts["client"].keys() == facts["server"].keys() == {"loop", "transport"}
    assert facts["client"]["loop"] == facts["server"]["loop"]


def test_on_plain_connections_there_are_no_facts_of_tls() -> None:
    with calling(task_of(PLAIN)) as caller:
        equal = caller.prove(2)["equal"]
    assert (equal["tls_version"], equal["cipher"], equal["verified"]) == (None, None, None)


def test_a_server_of_another_tls_version_fails_the_proof(identity: Identity) -> None:
    old = replace(TLS, tls=TLSProfile(version="1.2"))
    task = task_of(TLS, "blocking", identity)
    with calling(task, replace(task, case=old)) as caller, pytest.raises(TrafficError, match="tls: "):
        caller.prove(2)


def test_a_server_of_another_authority_fails_the_proof(identity: Identity, stranger: Identity) -> None:
    task = task_of(TLS, "blocking", identity)
    with calling(task, replace(task, identity=stranger)) as caller, pytest.raises(TrafficError, match="certificate: "):
        caller.prove(2)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("zippy-ignored", "without having asked the given factory"), ("zippy-other", "but the factory made")],
)
def test_another_loop_than_the_given_one_fails_the_proof(
    name: str, complaint: str, zippy: Callable[[str], Contender]
) -> None:
    with calling(task_of(PLAIN, zippy(name)), task_of(PLAIN)) as caller, pytest.raises(FactsError, match=complaint):
        caller.prove(2)


def test_another_loop_in_the_server_fails_the_proof(zippy: Callable[[str], Contender]) -> None:
    # The server ends over it, and so leaves its client's connections open: that is one more process's end.
    (answer,) = in_process(replace(order_of(task_of(PLAIN)), server=task_of(PLAIN, zippy("zippy-ignored"))))
    assert answer == {"error": "the server's process ended"}


@pytest.mark.parametrize(("open_", "shaken"), [(3, 2), (2, 3)])
def test_a_server_that_has_not_open_what_is_held_fails_the_proof(caller: Caller, open_: int, shaken: int) -> None:
    caller.server = cast("Handle", Doctored(caller.server, {"open": open_, "handshakes": shaken}, first=0))
    with pytest.raises(FactsError, match=f"holds 2 connections open, but the server has {open_}, {shaken} shaken"):
        caller._await_open(2, 0)


OURS = Facts(
    loop="loop",
    transport="transport",
    nodelay=True,
    tls_version="TLSv1.3",
    cipher="AES",
    session_reused=False,
    verified=True,
)
THEIRS = {
    "nodelay": True,
    "tls_version": "TLSv1.3",
    "cipher": "AES",
    "backlog": 4096,
    "openssl": ssl.OPENSSL_VERSION,
}


def test_facts_that_agree_are_put_together() -> None:
    facts = check_facts(OURS, THEIRS | {"loop": "theirs"}, profile=TLSProfile(), nodelay=True)
    assert (facts["equal"]["backlog"], facts["server"]["loop"], facts["client"]["loop"]) == (4096, "theirs", "loop")


@pytest.mark.parametrize(
    ("ours", "theirs", "complaint"),
    [
        ({}, {"tls_version": "TLSv1.2"}, "tls_version is TLSv1.3, the server's TLSv1.2"),
        ({}, {"cipher": "NULL"}, "cipher is AES, the server's NULL"),
        ({}, {"nodelay": False}, "nodelay is True, the server's False"),
        ({}, {"openssl": "OpenSSL 0.9"}, "the server's OpenSSL 0.9"),
        ({"nodelay": False}, {"nodelay": False}, "TCP_NODELAY is False"),
        ({"verified": False}, {}, "has not verified"),
        ({"verified": None}, {}, "has not verified"),
        ({"session_reused": True}, {}, "resumed an older session"),
    ],
)
def test_a_fact_that_does_not_fit_is_told(ours: dict[str, Any], theirs: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FactsError, match=complaint):
        check_facts(replace(OURS, **ours), THEIRS | theirs, profile=TLSProfile(), nodelay=True)


RESUMED = TLSProfile(tickets=1, resumed=True)


@pytest.mark.parametrize(
    ("profile", "ours", "theirs", "complaint"),
    [
        (RESUMED, {}, {}, "the handshake was a full one instead of resuming an older session"),
        (TLSProfile(tickets=1), {"session_reused": True}, {}, "resumed an older session instead of being a full one"),
        (TLSProfile(cipher="CHACHA"), {}, {}, "the cipher is AES instead of CHACHA"),
        (TLSProfile(client_key="p256"), {}, {"verified": False}, "the server has not verified the client's certific"),
    ],
)
def test_a_fact_that_contradicts_the_profile_is_told(
    profile: TLSProfile, ours: dict[str, Any], theirs: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(FactsError, match=complaint):
        check_facts(replace(OURS, **ours), THEIRS | theirs, profile=profile, nodelay=True)


@pytest.mark.parametrize(
    ("profile", "ours", "theirs"),
    [
        (RESUMED, {"session_reused": True}, {}),
        # The counters of either side's OpenSSL see what these libraries do not let us see.
        (RESUMED, {"session_reused": None}, {}),
        (TLSProfile(), {"session_reused": None}, {}),
        (TLSProfile(cipher="AES"), {}, {}),
        (TLSProfile(client_key="p256"), {}, {"verified": True}),
        (TLSProfile(client_key="p256"), {}, {}),
        (TLSProfile(), {}, {"verified": False}),
    ],
)
def test_facts_that_fit_the_profile_are_no_fault(
    profile: TLSProfile, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    assert check_facts(replace(OURS, **ours), THEIRS | theirs, profile=profile, nodelay=True)["equal"]


def test_a_server_that_verifies_no_client_fails_the_proof(tmp_path: Path) -> None:
    task = task_of(
        replace(TLS, tls=TLSProfile(client_key="ed25519")), "blocking", certs.ensure(tmp_path, client_key="ed25519")
    )
    with calling(task, replace(task, case=TLS)) as caller, pytest.raises(FactsError, match="not verified the client's"):
        caller.prove(2)


def test_a_client_that_shows_no_certificate_fails_the_proof_where_it_must(tmp_path: Path) -> None:
    identity = certs.ensure(tmp_path, client_key="ed25519")
    task = task_of(TLS, "blocking", identity)
    server = replace(task, case=replace(TLS, tls=TLSProfile(client_key="ed25519")))
    with calling(task, server) as caller, pytest.raises(TrafficError, match=r"(tls|eof|reset): "):
        caller.prove(2)


def test_a_server_without_tickets_fails_the_proof_of_resumption(identity: Identity) -> None:
    task = task_of(replace(TLS, tls=RESUMED), "blocking", identity)
    with (
        calling(task, replace(task, case=TLS)) as caller,
        pytest.raises(FactsError, match="gave no session ticket, so that nothing can be resumed"),
    ):
        caller.prove(2)


@pytest.fixture
def resuming(identity: Identity) -> Iterator[Caller]:
    """A client that resumes although its case has full handshakes."""
    with calling(task_of(replace(TLS, tls=TLSProfile(tickets=1)), "blocking", identity)) as caller:
        assert caller.target.tls is not None
        resume_from_now_on(caller.target.tls, caller.target.address, caller.target.talk, caller.task.options)
        yield caller


def test_a_client_that_resumes_unasked_fails_the_proof(resuming: Caller) -> None:
    with pytest.raises(FactsError, match="the handshake resumed an older session instead of being a full one"):
        resuming.prove(2)


def test_handshakes_that_resumed_unasked_fail_the_value_by_the_servers_counters(resuming: Caller) -> None:
    with pytest.raises(FactsError, match="handshakes that resumed a session: 6 instead of 0"):
        resuming.time(6)


def test_handshakes_that_should_have_resumed_fail_the_value_by_the_servers_counters(identity: Identity) -> None:
    # Without the proof nobody has got a session.
    with (
        calling(task_of(replace(TLS, tls=RESUMED), "blocking", identity)) as caller,
        pytest.raises(FactsError, match="handshakes that resumed a session: 0 instead of 6"),
    ):
        caller.time(6)


def test_a_trace_shows_one_conversation_and_is_judged(identity: Identity) -> None:
    with calling(task_of(TLS, "blocking", identity)) as caller:
        traced = caller.trace()
    assert traced["judgement"] is None
    assert traced["trace"]["group"] == "X25519"


# What a value must fulfil


@pytest.fixture
def caller(identity: Identity) -> Iterator[Caller]:
    with calling(task_of(TLS, "blocking", identity)) as caller:
        yield caller


def test_a_value_has_the_times_of_all_its_connections(caller: Caller) -> None:
    value = caller.time(6)
    assert value.wall > 0
    assert value.client_cpu > 0
    assert value.server_cpu > 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"accepted": 1}, "connections that the server accepted: 7 instead of 6"),
        ({"accepted": -1}, "connections that the server accepted: 5 instead of 6"),
        ({"served": -1}, "conversations that the server finished: 5 instead of 6"),
        ({"handshakes": -6}, "handshakes that the server completed: 0 instead of 6"),
    ],
)
def test_a_count_of_the_server_that_does_not_fit_fails_the_value(
    caller: Caller, change: dict[str, int], complaint: str
) -> None:
    # The first question comes before the value.
    caller.server = cast("Handle", Doctored(caller.server, change, first=1))
    with pytest.raises(FactsError, match=complaint):
        caller.time(6)


def test_missing_replies_fail_the_value(caller: Caller) -> None:
    async def lazy(*given: Any, connections: int, concurrency: int) -> int:
        return await churn(*given, connections=connections, concurrency=concurrency) - 1

    caller.backend.churn = lazy
    with pytest.raises(FactsError, match="replies that the client received: 5 instead of 6"):
        caller.time(6)


def test_connections_that_were_never_made_fail_the_value(caller: Caller) -> None:
    async def liar(*given: Any, connections: int, concurrency: int) -> int:
        return connections

    caller.backend.churn = liar
    with pytest.raises(FactsError, match="0 instead of 6"):
        caller.time(6)


def tell(monkeypatch: pytest.MonkeyPatch, **counters: Iterator[int | None]) -> None:
    ask = Handle.ask

    def told(server: Handle, question: str) -> dict[str, Any]:
        return {**ask(server, question), **{name: next(numbers) for name, numbers in counters.items()}}

    monkeypatch.setattr(Handle, "ask", told)


def test_an_overflow_of_the_accept_queue_voids_the_value(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, drops=count(3), overflows=count(5))
    with pytest.raises(VoidError, match="the accept queue overflowed"):
        caller.time(6)


def test_neither_late_resets_at_its_socket_nor_overflows_of_others_void_a_value(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, drops=count(3), overflows=repeat(5))
    assert caller.time(6).wall > 0
    tell(monkeypatch, drops=repeat(3), overflows=count(5))
    assert caller.time(6).wall > 0


def test_no_cpu_time_lies_outside_of_the_wall_time_however_long_a_reading_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = count()

    def now(*_: int) -> float:
        return float(next(ticks))

    monkeypatch.setattr("loopmark.gauges.time.process_time", now)
    clocks = Clocks(now, now, now, now)
    clocks.start(1)
    clocks.stop()
    assert max(clocks.client_cpu, clocks.server_so_far) <= clocks.wall


def test_an_unknown_number_of_overflows_voids_nothing(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, drops=repeat(None), overflows=repeat(None))
    assert caller.time(6).wall > 0


def clock_of(*readings: float) -> Callable[[], float]:
    """A clock that shows each reading once, and the last one from then on."""
    left = list(readings)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_more_cpu_time_of_the_server_than_wall_time_fails_the_value(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller.task = replace(caller.task, cpu=0)
    # The test's own process is not really pinned, and has threads.
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    caller._server_clock = clock_of(1.0, 1.0, 1.0, 1e6)
    with pytest.raises(VoidError, match="on one core the server used"):
        caller.time(6)


def test_a_clock_that_is_read_late_while_the_pace_is_looked_for_retires_nobody(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller.task = replace(caller.task, cpu=0)
    seconds = count(0, 1000)
    monkeypatch.setattr(time, "process_time", lambda: next(seconds))
    assert caller.pace(20) > 0


def test_more_cpu_time_of_the_client_than_wall_time_fails_the_value(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller.task = replace(caller.task, cpu=0)
    caller._server_clock = clock_of(1.0)
    seconds = count(0, 1000)
    monkeypatch.setattr(time, "process_time", lambda: next(seconds))
    with pytest.raises(VoidError, match=r"on one core the client used 1000\.0"):
        caller.time(6)


def test_processes_that_are_not_pinned_may_use_more_cpu_time_than_wall_time(caller: Caller) -> None:
    caller._server_clock = clock_of(1.0, 1.0, 1.0, 1e6)
    assert caller.time(6).server_cpu == 1e6 - 1.0


def test_the_servers_time_ends_when_it_rests_not_when_the_client_is_done(caller: Caller) -> None:
    caller._server_clock = clock_of(1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 9.0)
    assert caller.time(6).server_cpu == 3.0


def test_a_server_that_never_rests_is_told(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    steps = count()
    caller._server_clock = lambda: float(next(steps))
    with pytest.raises(FactsError, match="never comes to rest"):
        caller.time(6)


# What is made of values


class NoMetadata:
    def get_metadata(self) -> dict[str, Any]:
        return {}


def measured(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, values: Sequence[Value], *, warmups: int = 0, surplus: int = 0
) -> tuple[dict[str, Any], list[int]]:
    """Have an arm take these values for ten connections each; return what it tells, and how many it really made."""
    left, made = iter(values), list[int]()

    def timed(_: Caller, count: int) -> Value:
        made.append(count)
        return next(left)

    def worker(name: str, take: Callable[[int], float], loops: int, warmups: int, values: int, cpu: int | None) -> Any:
        for _ in range(warmups + values):
            take(loops)
        return NoMetadata()

    monkeypatch.setattr(Caller, "time", timed)
    monkeypatch.setattr("loopmark.caller.pyperf_worker", worker)
    tokens, block = os.pipe()
    os.write(block, b"." * 10)
    try:
        answer = caller.measure(
            Turns(tokens, io.StringIO()),
            {},
            loops=10,
            warmups=warmups,
            values=len(values) - warmups,
            surplus=surplus,
        )
    finally:
        os.close(tokens)
        os.close(block)
    return answer, made


def test_each_figure_of_a_value_is_stored_per_connection_under_its_own_name(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [
        Value(wall=60.0, client_cpu=30.0, server_cpu=20.0, client_memory=1000.0, server_memory=500.0),
        Value(wall=70.0, client_cpu=40.0, server_cpu=10.0, client_memory=2000.0, server_memory=700.0),
        Value(wall=80.0, client_cpu=50.0, server_cpu=5.0, client_memory=3000.0, server_memory=900.0),
    ]
    answer, _ = measured(caller, monkeypatch, values, warmups=1)
    assert answer["loops"] == 10
    assert answer["warmups"] == [6.0]
    assert (answer["wall"], answer["client_cpu"], answer["server_cpu"]) == ([7.0, 8.0], [4.0, 5.0], [1.0, 0.5])
    assert (answer["client_memory"], answer["server_memory"]) == ([200.0, 300.0], [70.0, 90.0])


def test_the_surplus_of_the_positive_control_is_made_and_not_counted(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, made = measured(caller, monkeypatch, [Value(wall=51.0, client_cpu=1.0, server_cpu=1.0)], surplus=1)
    assert made == [11]
    assert answer["wall"] == [5.1]


class Settles:
    """A server's handle, for those who only read of its process."""

    pid = 2

    def __init__(self) -> None:
        self.collections = iter((20, 27))

    def ask(self, question: str) -> dict[str, Any]:
        return {"collections": next(self.collections)}


def test_what_a_side_used_is_what_was_added_per_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    used = {os.getpid(): iter([(10, 4, 6, 0.5), (30, 8, 16, 1.5)]), 2: iter([(5, None, 1, 0.0), (7, None, 4, 3.0)])}
    memory = {os.getpid(): iter([100.0, 150.0]), 2: iter([None, 70.0])}
    collections = iter((3, 5))
    monkeypatch.setattr("loopmark.readings._usage", lambda pid: next(used[pid]))
    monkeypatch.setattr("loopmark.readings._collections", lambda: next(collections))
    monkeypatch.setattr("loopmark.readings.procfs.private_kib", lambda pid: next(memory[pid]))
    readings = Readings(cast("Handle", Settles()))
    readings.settle()
    sides = readings.result(20)
    assert sides["client"] == {
        "minor_faults": 1.0,
        "voluntary_switches": 0.2,
        "involuntary_switches": 0.5,
        "run_delay": 0.05,
        "collections": 2,
        "private_kib": 50.0,
    }
    assert sides["server"] == {
        "minor_faults": 0.1,
        "voluntary_switches": None,
        "involuntary_switches": 0.15,
        "run_delay": 0.15,
        "collections": 7,
        "private_kib": None,
    }


# A whole arm


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_arm_reports_what_a_campaign_stores(identity: Identity, concurrency: int) -> None:
    order = order_of(task_of(replace(TLS, concurrency=concurrency), "blocking", identity), trace=True)
    proof, *turns, readings = in_process(order)
    timed = [turn["timed_seconds"] for turn in turns]
    assert len(timed) == 3
    answer = {**proof, **readings}
    assert (answer["loops"], len(answer["wall"]), len(answer["warmups"])) == (6, 2, 1)
    assert len(answer["client_cpu"]) == len(answer["server_cpu"]) == 2
    assert sum(timed) == pytest.approx(6 * (sum(answer["wall"]) + sum(answer["warmups"])))
    assert answer["peak"] == concurrency
    assert answer["judgement"] is None
    for side in ("client", "server"):
        assert answer[side].keys() == {
            "minor_faults",
            "voluntary_switches",
            "involuntary_switches",
            "run_delay",
            "collections",
            "private_kib",
        }
    assert answer["metadata"]["loops"] == 6


def test_an_order_without_values_finds_the_pace(identity: Identity) -> None:
    (answer,) = in_process(order_of(task_of(TLS, "blocking", identity), values=0, warmups=0))
    assert answer["pace"] > 0
    assert "wall" not in answer


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (FactsError("no"), {"error": "no", "facts": True}),
        (VoidError("no"), {"error": "no", "void": True}),
        (ConnectionResetError("gone"), {"error": "reset: ConnectionResetError: gone"}),
        (ZeroDivisionError("oh"), {"error": "other: ZeroDivisionError: oh"}),
    ],
)
def test_a_failure_is_told(error: Exception, answer: dict[str, Any]) -> None:
    def fail() -> None:
        raise error

    told = io.StringIO()
    report(Turns(-1, told), fail)
    assert json.loads(told.getvalue()) == answer


def test_the_clock_of_an_arm_stands_still_while_it_is_stopped() -> None:
    pauses = Pauses()
    turns = Turns(-1, io.StringIO(), pauses)
    before = turns.clock()
    pauses.add(1000.0)
    pauses.add(500.0)
    assert pauses.seconds == 1500.0
    assert -1500.0 <= turns.clock() - before < -1400.0


def test_a_client_whose_block_has_gone_takes_no_further_value(identity: Identity) -> None:
    order = order_of(task_of(TLS, "blocking", identity))
    proof, turn = in_process(order, turns=1, status=1)
    assert (set(proof), set(turn)) == ({"facts", "proof_seconds", "serving"}, {"timed_seconds"})


# What is used of pyperf without being documented there


def test_pyperfs_worker_takes_exactly_the_loops_and_values_that_it_is_told() -> None:
    code = """
        import json
        from loopmark.caller import pyperf_worker
        asked = []
        def take(loops):
            asked.append(loops)
            return loops * len(asked) / 1000
        run = pyperf_worker("name[c=1]", take, 42, 2, 3, None)
        print(json.dumps([asked, run.values, run.warmups, run.get_loops(), run.get_metadata()]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=100, check=True
    )
    asked, values, warmups, loops, metadata = json.loads(done.stdout)
    assert asked == [42] * 5
    assert values == pytest.approx([0.003, 0.004, 0.005])
    assert warmups == [[42, pytest.approx(0.001)], [42, pytest.approx(0.002)]]
    assert loops == 42
    assert metadata.keys() >= {"name", "loops", "python_version", "date", "duration"}
    assert metadata["name"] == "name[c=1]"
    assert done.stderr == ""


def test_the_address_is_the_one_that_the_server_tells(caller: Caller) -> None:
    assert caller.target.address == caller.server.address != Address("", 0)
    assert caller.target.options == Options()
