"""The floor: the same TLS in memory, full or resumed as the case says, each side's time apart."""

import ssl
import time
from pathlib import Path

import pytest

from loopmark import certs
from loopmark.case import Case, Cores, Role
from loopmark.errors import FactsError, ProtocolError
from loopmark.floor import Floor
from loopmark.registry import Contender, Source
from loopmark.spi import TLSProfile
from loopmark.task import Order, Task
from loopmark.tls import Identity

PLUGIN = """
from loopmark.case import Benchmark, Conversation
from loopmark.service import AnswerOnce, Talk
from loopmark.spi import TLSProfile

benchmarks = {
    "long": Benchmark(
        name="long",
        question="What?",
        conversations={"": Conversation(
            service=lambda: AnswerOnce(b"PING" * 50_000, b"PONG" * 50_000),
            talks=(Talk(parts=(b"PING" * 25_000,) * 2, reply=b"PONG" * 50_000, reply_size=None),),
        )},
        tls=TLSProfile(),
    ),
    "wrong": Benchmark(
        name="wrong",
        question="What?",
        conversations={"": Conversation(
            service=lambda: AnswerOnce(b"PING", b"PANG"),
            talks=(Talk(parts=(b"PING",), reply=b"PONG", reply_size=None),),
        )},
        tls=TLSProfile(),
    ),
    "two": Benchmark(
        name="two",
        question="What?",
        conversations={
            "": Conversation(
                service=lambda: AnswerOnce(b"PING", b"PONG"),
                talks=tuple(Talk(parts=(b"PING",), reply=reply, reply_size=None) for reply in (b"PONG", b"POING")),
            )
        },
        tls=TLSProfile(),
    ),
    "deaf": Benchmark(
        name="deaf",
        question="What?",
        conversations={"": Conversation(
            service=lambda: AnswerOnce(b"PING PING", b"PONG"),
            talks=(Talk(parts=(b"PING",), reply=b"PONG", reply_size=None),),
        )},
        tls=TLSProfile(),
    ),
}
"""


def order_of(identity: Identity, benchmark: Source, profile: TLSProfile) -> Order:
    case = Case(benchmark="x", concurrency=1, role=Role.BOTH, peer=None, cores=Cores.ANY, tls=profile)
    nobody = Contender(name="floor", backend=Source(value="nowhere:nothing"))
    task = Task(contender=nobody, benchmark=benchmark, case=case, identity=identity)
    return Order(arm="floor", server=task, client=task, loops=5, warmups=0, values=1, at_once=1, floor=True)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("client_key", [None, "ed25519"])
def test_the_floor_of_a_resumed_case_resumes(tmp_path: Path, version: str, client_key: str | None) -> None:
    pingpong = Source(value="loopmark.benchmarks.tls_pingpong:BENCHMARK")
    profile = TLSProfile(version=version, tickets=1, resumed=True, client_key=client_key)
    floor = Floor(order_of(certs.ensure(tmp_path, client_key=client_key), pingpong, profile))
    assert floor.facts()["equal"]["session_reused"] is True
    floor.time(5)
    stats = floor._server.session_stats()
    assert (stats["accept_good"], stats["hits"]) == (7, 6)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_floor_shows_the_clients_certificate(tmp_path: Path, version: str) -> None:
    pingpong = Source(value="loopmark.benchmarks.tls_pingpong:BENCHMARK")
    profile = TLSProfile(version=version, client_key="ed25519")
    floor = Floor(order_of(certs.ensure(tmp_path, client_key="ed25519"), pingpong, profile))
    assert floor.facts()["equal"]["verified"] is True
    floor._server.verify_mode = ssl.CERT_NONE
    with pytest.raises(FactsError, match="certificate is not what the case promises"):
        floor.facts()


@pytest.mark.parametrize(("promised", "why"), [(False, "5 resumed, not 5 and 0"), (True, "0 resumed, not 5 and 5")])
def test_handshakes_of_the_other_kind_have_no_number(identity: Identity, promised: bool, why: str) -> None:
    pingpong = Source(value="loopmark.benchmarks.tls_pingpong:BENCHMARK")
    floor = Floor(order_of(identity, pingpong, TLSProfile(tickets=1, resumed=not promised)))
    floor._profile = TLSProfile(tickets=1, resumed=promised)
    with pytest.raises(FactsError, match=why):
        floor.time(5)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_both_sides_cost_something_and_every_handshake_is_a_full_one(identity: Identity, version: str) -> None:
    pingpong = Source(value="loopmark.benchmarks.tls_pingpong:BENCHMARK")
    floor = Floor(order_of(identity, pingpong, TLSProfile(version=version)))
    equal = floor.facts()["equal"]
    assert (equal["tls_version"], equal["session_reused"], equal["verified"]) == (f"TLSv{version}", False, True)
    value = floor.time(5)
    assert min(value.client, value.server) > 0
    stats = floor._server.session_stats()
    assert (stats["accept_good"], stats["hits"]) == (6, 0)


def test_talks_take_turns(identity: Identity, tmp_path: Path) -> None:
    floor = Floor(order_of(identity, plugin(tmp_path, "two"), TLSProfile()))
    floor.time(1)
    with pytest.raises(ProtocolError, match="POING"):
        floor.time(2)


def test_the_two_sides_share_the_processs_cpu_time(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    pingpong = Source(value="loopmark.benchmarks.tls_pingpong:BENCHMARK")
    floor = Floor(order_of(identity, pingpong, TLSProfile()))
    clock = iter([10.0, 16.0])
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    value = floor.time(2)
    assert value.client + value.server == pytest.approx(6.0)


def test_a_conversation_of_many_records_goes_through(identity: Identity, tmp_path: Path) -> None:
    Floor(order_of(identity, plugin(tmp_path, "long"), TLSProfile())).time(1)


def test_a_wrong_reply_is_refused(identity: Identity, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="PANG"):
        Floor(order_of(identity, plugin(tmp_path, "wrong"), TLSProfile())).time(1)


def test_a_conversation_in_which_both_sides_wait_ends(identity: Identity, tmp_path: Path) -> None:
    with pytest.raises(FactsError, match="wait for each other"):
        Floor(order_of(identity, plugin(tmp_path, "deaf"), TLSProfile())).time(1)


def plugin(directory: Path, name: str) -> Source:
    file = directory / "plugin.py"
    file.write_text(PLUGIN, encoding="utf-8")
    return Source(value=f"benchmarks:{name}", plugin=str(file))
