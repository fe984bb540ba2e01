"""The server's process: it gets ready, answers, and ends when nobody is left to ask."""

import io
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from loopmark import peer
from loopmark.case import Case, Cores, Role
from loopmark.errors import FactsError
from loopmark.ledger import Ledger
from loopmark.peer import Handle, LoopWitness, ServerEndedError, spawned
from loopmark.registry import registry
from loopmark.service import AnswerOnce
from loopmark.spi import Address, Facts, Options, Server, TLSProfile
from loopmark.task import Task, task_from, to_json
from loopmark.tls import Identity, server_context

CASE = Case(benchmark="tcp_pingpong", concurrency=2, role=Role.BOTH, peer=None, cores=Cores.ANY, tls=None)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


def task_of(contender: str = "blocking", options: Options | None = None) -> Task:
    known = registry()
    return Task(
        contender=known.contender(contender),
        benchmark=known.benchmarks["tcp_pingpong"],
        case=CASE,
        identity=None,
        options=options or Options(),
    )


@pytest.fixture(params=["blocking", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Handle]:
    with spawned(task_of(request.param)) as handle:
        handle.wait_until_ready()
        yield handle


def talk(address: Address) -> bytes:
    """Have one conversation over a plain socket, to the end of the stream."""
    with socket.create_connection(address, timeout=30) as sock, sock.makefile("rb") as replies:
        sock.sendall(b"PING")
        return replies.read()


def test_a_server_is_ready_when_it_says_where_it_listens(server: Handle) -> None:
    assert server.address.host == "127.0.0.1"
    assert talk(server.address) == b"PONG"
    assert psutil.Process(server.pid).ppid() == os.getpid()
    assert server.counted


def test_a_server_counts_what_it_has_served(server: Handle) -> None:
    before = server.ask("counts")
    for _ in range(3):
        talk(server.address)
    after = server.ask("counts")
    assert [after[name] - before[name] for name in ("accepted", "served", "open")] == [3, 3, 0]
    assert after["handshakes"] is None


def test_settling_keeps_the_counts(server: Handle) -> None:
    talk(server.address)
    assert server.ask("settle")["accepted"] == 1


def test_facts_are_read_off_the_newest_connection_while_it_is_open(server: Handle) -> None:
    assert "loop" not in server.ask("facts")
    with socket.create_connection(server.address, timeout=30) as sock, sock.makefile("rb") as replies:
        # Half of the request: once that is counted as open, the server knows of the connection.
        sock.sendall(b"PI")
        while not server.ask("counts")["open"]:
            pass
        facts = server.ask("facts")
        sock.sendall(b"NG")
        assert replies.read() == b"PONG"
    assert (facts["nodelay"], facts["tls_version"]) == (True, None)
    assert facts["loop"]
    assert facts["transport"]


@linux
@pytest.mark.parametrize("backlog", [7, 4096, 100_000])
def test_the_backlog_that_is_read_back_is_what_the_kernel_gave(backlog: int) -> None:
    somaxconn = int(Path("/proc/sys/net/core/somaxconn").read_text())
    with spawned(task_of(options=Options(backlog=backlog))) as handle:
        handle.wait_until_ready()
        assert handle.ask("facts")["backlog"] == min(backlog, somaxconn)


def start(task: Task) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "loopmark.peer", to_json(task), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("contender", ["blocking", "asyncio"])
def test_a_server_ends_when_its_channel_ends(contender: str) -> None:
    with start(task_of(contender)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_a_server_ends_with_a_conversation_under_way() -> None:
    with spawned(task_of("asyncio")) as handle:
        handle.wait_until_ready()
        process = psutil.Process(handle.pid)
        sock = socket.create_connection(handle.address, timeout=30)
        sock.sendall(b"PI")
    with sock:
        assert not process.is_running()


@linux
def test_a_server_ends_when_its_parent_is_killed() -> None:
    # The parent in between hands down our channel, so that it stays open when the parent is gone.
    parent = (
        "import os, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'loopmark.peer', sys.argv[1], str(os.getpid())])"
    )
    command = [sys.executable, "-c", parent, to_json(task_of())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        handle = Handle(questions=process.stdin, answers=process.stdout)  # type: ignore[arg-type]  # buffered pipes are
        handle.wait_until_ready()
        server = psutil.Process(handle.pid)
        process.kill()
        _, alive = psutil.wait_procs([server], timeout=60)
        assert not alive
        handle.close()


def test_a_server_whose_parent_is_gone_already_does_not_start() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loopmark.peer", to_json(task_of()), "1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_server_that_is_killed_is_a_clear_error_for_whoever_asks(server: Handle) -> None:
    process = psutil.Process(server.pid)
    process.kill()
    process.wait()
    with pytest.raises(ServerEndedError, match="the server's process ended"):
        server.ask("counts")


def test_a_server_that_cannot_start_says_why_and_is_a_clear_error() -> None:
    broken = replace(task_of(), host="192.0.2.1")
    with start(broken) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        handle = Handle(questions=process.stdin, answers=process.stdout)  # type: ignore[arg-type]  # buffered pipes are
        with pytest.raises(ServerEndedError, match="the server's process ended"):
            handle.wait_until_ready()
        assert process.stderr is not None
        assert b"OSError" in process.stderr.read()
        assert process.wait(timeout=60) == 1


def test_a_port_in_use_is_no_server() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        spawned(replace(task_of(), port=taken.getsockname()[1]), stderr=subprocess.DEVNULL) as handle,
        pytest.raises(ServerEndedError),
    ):
        handle.wait_until_ready()


def test_a_task_survives_the_way_to_another_process(identity: Identity) -> None:
    options = Options(nodelay=False, go_ahead=b"go\xff", source="127.0.0.2")
    task = replace(task_of("uvloop"), identity=identity, cpu=3, port=77, options=options)
    assert task_from(to_json(task)) == task


def test_facts_are_read_once_the_library_knows_that_the_handshake_is_over(identity: Identity) -> None:
    plain = Facts(loop="none", transport="mem", nodelay=True)
    answers = iter((ValueError("too early"), plain, replace(plain, tls_version="TLSv1.3"), plain))

    def read() -> Facts:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    ledger = Ledger(lambda: AnswerOnce(b"PING", b"PONG"))
    ledger.accept(read)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = peer._Answers(
            ledger,
            Server(listeners=(listener,)),
            server_context(TLSProfile(), identity),
            LoopWitness(registry().contender("blocking").load()),
            io.BytesIO(b"facts\n"),
            io.BytesIO(),
            counted=True,
        )
        assert answering._facts()["tls_version"] == "TLSv1.3"


# Placement


def test_a_core_that_may_not_be_used_is_an_error() -> None:
    with pytest.raises((FactsError, OSError)):
        peer.place(100_000)


def test_nobody_is_moved_without_a_core() -> None:
    peer.place(None)


# The witness of loops


class Loop:
    pass


class Other:
    pass


def name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def test_a_loop_of_the_factory_is_fine() -> None:
    backend = registry().contender("asyncio").load()
    backend.loop_factory = Loop
    witness = LoopWitness(backend)
    assert isinstance(backend.loop_factory(), Loop)
    witness.check(name_of(Loop))


def test_another_loop_than_the_factorys_is_caught() -> None:
    backend = registry().contender("asyncio").load()
    backend.loop_factory = Loop
    witness = LoopWitness(backend)
    backend.loop_factory()
    with pytest.raises(FactsError, match=r"runs on .*Other, but the factory made .*Loop"):
        witness.check(name_of(Other))


def test_a_factory_that_is_never_asked_is_caught() -> None:
    backend = registry().contender("asyncio").load()
    backend.loop_factory = Loop
    witness = LoopWitness(backend)
    with pytest.raises(FactsError, match="without having asked the given factory"):
        witness.check(name_of(Loop))


def test_without_a_factory_any_loop_is_fine() -> None:
    LoopWitness(registry().contender("blocking").load()).check("none")
