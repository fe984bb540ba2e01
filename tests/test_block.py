"""Arms in real processes: each ends as it should, and what goes wrong fails its arm only."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import psutil
import pytest

from loopmark import block
from loopmark.case import Case, Cores, Role
from loopmark.executor import Interpreters
from loopmark.registry import registry
from loopmark.run import BlockDiedError
from loopmark.task import Order, Task, to_json

CASE = Case(benchmark="tcp_pingpong", concurrency=2, role=Role.BOTH, peer=None, cores=Cores.ANY, tls=None)

PLUGIN = """
import os, signal, sys, threading, time
from loopmark.backends.blocking import Blocking

class Dies(Blocking):
    async def connect(self, address, *, tls, options):
        print("last words of the client", file=sys.stderr, flush=True)
        os._exit(5)

class Killed(Blocking):
    async def connect(self, address, *, tls, options):
        os.kill(os.getpid(), signal.SIGKILL)

class Hangs(Blocking):
    async def connect(self, address, *, tls, options):
        threading.Event().wait()

class Raises(Blocking):
    async def connect(self, address, *, tls, options):
        raise ValueError("no connection today")

class Exits(Blocking):
    async def connect(self, address, *, tls, options):
        sys.exit("leaving")

class ServerDies(Blocking):
    def serve(self, *given, **options):
        print("last words of the server", file=sys.stderr, flush=True)
        os._exit(6)

class ServerRaises(Blocking):
    def serve(self, *given, **options):
        raise OSError("no server today")

class Chatty(Blocking):
    async def connect(self, address, *, tls, options):
        print("noise")
        os.write(1, b"more noise")
        return await super().connect(address, tls=tls, options=options)

backends = {each.__name__: each for each in Blocking.__subclasses__()}
"""

Make = Callable[..., Order]


@pytest.fixture
def order(tmp_path: Path) -> Make:
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    known = registry(path)

    def task(name: str) -> Task:
        return Task(
            contender=known.contender(name), benchmark=known.benchmarks["tcp_pingpong"], case=CASE, identity=None
        )

    def order(server: str = "blocking", client: str = "blocking", **changes: Any) -> Order:
        plain = Order(arm="arm", server=task(server), client=task(client), loops=6, warmups=1, values=2, at_once=2)
        return replace(plain, **changes)

    return order


@pytest.fixture
def executor() -> Iterator[Interpreters]:
    """An executor with an open block, which leaves nobody behind."""
    interpreters = Interpreters()
    interpreters.open_block()
    yield interpreters
    family = children()
    interpreters.close_block()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


both_ways = pytest.mark.parametrize("fresh", [False, True], ids=["forked", "fresh"])


@both_ways
def test_an_arm_is_measured_and_its_processes_are_gone(executor: Interpreters, order: Make, fresh: bool) -> None:
    answer = executor.run(order(fresh=fresh))
    assert (answer["loops"], len(answer["wall"])) == (6, 2)
    assert answer["seconds"] > answer["timed_seconds"]
    (interpreter,) = children()
    assert interpreter.children() == []


@both_ways
def test_a_block_runs_arm_after_arm(executor: Interpreters, order: Make, fresh: bool) -> None:
    for _ in range(2):
        assert "error" not in executor.run(order("asyncio", "asyncio", fresh=fresh))


def test_fresh_processes_are_marked_and_forked_ones_are_not(executor: Interpreters, order: Make) -> None:
    layouts = [executor.run(order(fresh=fresh))["metadata"].get("layout") for fresh in (False, True)]
    assert layouts == [None, "fresh processes"]


def test_what_a_library_prints_does_not_matter(executor: Interpreters, order: Make) -> None:
    for fresh in (False, True):
        assert "error" not in executor.run(order(client="Chatty", fresh=fresh))


@both_ways
@pytest.mark.parametrize(
    ("client", "words"),
    [
        ("Dies", ["ended without a report", "last words of the client"]),
        ("Killed", ["ended without a report"]),
        ("Exits", ["ended without a report", "leaving"]),
        ("Raises", ["other: ValueError: no connection today"]),
    ],
)
def test_a_client_that_dies_fails_its_arm_only(
    executor: Interpreters, order: Make, client: str, words: list[str], fresh: bool
) -> None:
    answer = executor.run(order(client=client, fresh=fresh))
    assert all(word in answer["error"] for word in words), answer
    assert "facts" not in answer
    assert "error" not in executor.run(order())


@both_ways
@pytest.mark.parametrize(
    ("server", "words"), [("ServerDies", "last words of the server"), ("ServerRaises", "no server today")]
)
def test_a_server_that_dies_fails_its_arm_only_and_its_last_words_are_told(
    executor: Interpreters, order: Make, server: str, words: str, fresh: bool
) -> None:
    answer = executor.run(order(server=server, fresh=fresh))
    assert "the server's process ended" in answer["error"]
    assert words in answer["error"]
    assert "error" not in executor.run(order())


@both_ways
def test_an_arm_that_is_stuck_ends_at_its_deadline(executor: Interpreters, order: Make, fresh: bool) -> None:
    answer = executor.run(order(client="Hangs", fresh=fresh, deadline=0.25))
    assert answer["error"] == "did not end within 0.25 s"
    (interpreter,) = children()
    _, alive = psutil.wait_procs(interpreter.children(recursive=True), timeout=60)
    assert not alive
    assert "error" not in executor.run(order())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted on Linux")
def test_a_second_thread_makes_forking_an_error() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with (
            TemporaryFile() as log,
            pytest.raises(RuntimeError, match="threads in the block's interpreter"),
            block._forked(lambda: None, log),
        ):
            pass
    finally:
        done.set()
        thread.join()


def test_an_interpreter_that_dies_ends_the_block_with_its_status(executor: Interpreters, order: Make) -> None:
    (interpreter,) = children()
    interpreter.kill()
    with pytest.raises(BlockDiedError, match="died with exit status -9"):
        executor.run(order())


def test_closing_a_block_ends_what_it_has_started(order: Make) -> None:
    interpreters = Interpreters()
    interpreters.open_block()
    assert interpreters._process is not None
    assert interpreters._process.stdin is not None
    # An order without waiting for its answer.
    interpreters._process.stdin.write(to_json(order(client="Hangs")) + "\n")
    interpreters._process.stdin.flush()
    family: list[psutil.Process] = []
    try:
        (interpreter,) = children()
        while len(family) < 2:
            family = interpreter.children(recursive=True)
    finally:
        interpreters.close_block()
    _, alive = psutil.wait_procs([interpreter, *family], timeout=60)
    assert not alive


def test_closing_twice_or_without_a_block_is_fine() -> None:
    interpreters = Interpreters()
    interpreters.close_block()
    interpreters.open_block()
    interpreters.close_block()
    interpreters.close_block()
    assert children() == []


def test_every_block_is_a_new_interpreter_in_a_session_of_its_own() -> None:
    interpreters = Interpreters()
    seen = set()
    for _ in range(2):
        interpreters.open_block()
        (interpreter,) = children()
        seen.add(interpreter.pid)
        assert os.getsid(interpreter.pid) == interpreter.pid
        interpreters.close_block()
    assert len(seen) == 2
