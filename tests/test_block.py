"""Arms in real processes: each ends as it should, and what goes wrong fails its arm only."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from loopmark import processes
from loopmark.arms import BlockDiedError
from loopmark.case import Case, Cores, Role
from loopmark.executor import Interpreters
from loopmark.lastwords import LastWords
from loopmark.registry import Source, registry
from loopmark.spi import TLSProfile
from loopmark.task import Order, Task, to_json
from loopmark.tls import Identity

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

class Busy(Blocking):
    async def connect(self, address, *, tls, options):
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return await super().connect(address, tls=tls, options=options)

class Later(Busy):
    # Does something else once its work is proven.
    connections = 0

    async def connect(self, address, *, tls, options):
        self.connections += 1
        if self.connections > 4:
            self.act()
        return await super().connect(address, tls=tls, options=options)

class DiesLater(Later):
    def act(self):
        os._exit(5)

class HangsLater(Later):
    def act(self):
        threading.Event().wait()

class ServerDiesLater(Blocking):
    def serve(self, accept, *given, **options):
        accepted = []
        def count(facts):
            accepted.append(facts)
            if len(accepted) > 5:
                os._exit(6)
            return accept(facts)
        return super().serve(count, *given, **options)

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

class Talks(Blocking):
    def serve(self, *given, **options):
        for _ in range(1024):
            os.write(2, b"x" * 65535 + b"\\n")
        os.write(2, b"the last words of many\\n")
        return super().serve(*given, **options)

class TalksForEver(Blocking):
    def serve(self, *given, **options):
        def talk():
            # Now and then it rests, or nobody could tell when its work for a value is done.
            while not threading.Event().wait(0.02):
                os.write(2, b"x" * 65536)
        threading.Thread(target=talk, daemon=True).start()
        return super().serve(*given, **options)

class TalksAndDies(Talks):
    def serve(self, *given, **options):
        super().serve(*given, **options)
        os._exit(7)

backends = {each.__name__: each for each in [*Blocking.__subclasses__(), *Later.__subclasses__(), TalksAndDies]}
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
    answer = run(executor, order(fresh=fresh))
    assert (answer["loops"], len(answer["wall"])) == (6, 2)
    assert answer["seconds"] > answer["timed_seconds"] > 0
    (interpreter,) = children()
    assert interpreter.children() == []


def run(executor: Interpreters, order: Order) -> dict[str, Any]:
    """Let one arm start, take all of its values and finish; stop at its first error."""
    answer = executor.start(order)
    for _ in range(order.warmups + order.values):
        if "error" not in answer:
            answer |= executor.round([order.arm])[order.arm]
    return answer if "error" in answer or not order.values else {**answer, **executor.finish(order.arm)}


@both_ways
def test_a_block_runs_arm_after_arm(executor: Interpreters, order: Make, fresh: bool) -> None:
    for _ in range(2):
        assert "error" not in run(executor, order("asyncio", "asyncio", fresh=fresh))


def test_fresh_processes_are_marked_and_forked_ones_are_not(executor: Interpreters, order: Make) -> None:
    layouts = [run(executor, order(fresh=fresh))["metadata"].get("layout") for fresh in (False, True)]
    assert layouts == [None, "fresh processes"]


def test_what_a_library_prints_does_not_matter(executor: Interpreters, order: Make) -> None:
    for fresh in (False, True):
        assert "error" not in run(executor, order(client="Chatty", fresh=fresh))


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
    answer = run(executor, order(client=client, fresh=fresh))
    assert all(word in answer["error"] for word in words), answer
    assert "facts" not in answer
    assert "error" not in run(executor, order())


@both_ways
@pytest.mark.parametrize(
    ("server", "words"), [("ServerDies", "last words of the server"), ("ServerRaises", "no server today")]
)
def test_a_server_that_dies_fails_its_arm_only_and_its_last_words_are_told(
    executor: Interpreters, order: Make, server: str, words: str, fresh: bool
) -> None:
    answer = run(executor, order(server=server, fresh=fresh))
    assert "the server's process ended" in answer["error"]
    assert words in answer["error"]
    assert "error" not in run(executor, order())


@both_ways
def test_64_mib_of_a_servers_log_fill_no_disk_and_cost_no_arm(executor: Interpreters, order: Make, fresh: bool) -> None:
    assert "error" not in run(executor, order(server="Talks", fresh=fresh))
    answer = run(executor, order(server="TalksAndDies", fresh=fresh))
    assert answer["error"].endswith(": the last words of many")
    assert len(answer["error"]) < 200


def test_a_server_that_writes_for_ever_is_no_matter(executor: Interpreters, order: Make) -> None:
    assert executor.start(replace(order(server="TalksForEver"), arm="loud")).get("error") is None
    assert "error" not in run(executor, order())
    assert "error" not in executor.round(["loud"])["loud"]


@both_ways
def test_an_arm_that_is_stuck_ends_at_its_deadline(executor: Interpreters, order: Make, fresh: bool) -> None:
    answer = run(executor, order(client="Hangs", fresh=fresh, deadline=0.25))
    assert answer["error"] == "did not end within 0.25 s"
    (interpreter,) = children()
    _, alive = psutil.wait_procs(interpreter.children(recursive=True), timeout=60)
    assert not alive
    assert "error" not in run(executor, order())


@both_ways
def test_the_arms_of_a_block_are_alive_together_and_take_turns(
    executor: Interpreters, order: Make, fresh: bool
) -> None:
    arms = {name: replace(order(name, name, fresh=fresh), arm=name) for name in ("asyncio", "blocking")}
    for each in arms.values():
        assert "error" not in executor.start(each)
    for names in (["asyncio", "blocking"], ["blocking", "asyncio"], ["asyncio", "blocking"]):
        answers = executor.round(names)
        assert list(answers) == names if fresh else sorted(answers) == sorted(names)
        assert all(answer["timed_seconds"] > 0 for answer in answers.values())
    answers = {name: executor.finish(name) for name in arms}
    assert [len(answer["wall"]) for answer in answers.values()] == [2, 2]


def start_both(executor: Interpreters, one: Order, other: Order) -> None:
    for name, each in (("one", one), ("other", other)):
        assert "error" not in executor.start(replace(each, arm=name))


def test_forked_arms_take_their_values_at_the_same_time_and_none_counts_the_time_of_others(
    executor: Interpreters, order: Make
) -> None:
    start_both(executor, order(client="Busy"), order(client="Busy"))
    for names in (["one", "other"], ["other", "one"], ["one", "other"]):
        start = time.perf_counter()
        timed = sum(answer["timed_seconds"] for answer in executor.round(names).values())
        # Each has worked for 0.12 s, while the other one was in the middle of its value.
        assert 0.24 <= timed <= time.perf_counter() - start
    assert [executor.finish(name)["metadata"]["slice"] for name in ("one", "other")] == [
        processes.SLICE,
        processes.SLICE,
    ]


def test_an_arm_that_takes_a_value_alone_is_never_stopped(executor: Interpreters, order: Make) -> None:
    assert "slice" not in run(executor, order(client="Busy"))["metadata"]


def test_arms_that_cannot_be_stopped_take_their_values_one_after_the_other(executor: Interpreters, order: Make) -> None:
    start_both(executor, order(fresh=True), order(fresh=True))
    for _ in range(3):
        assert list(executor.round(["other", "one"])) == ["other", "one"]
    assert "slice" not in executor.finish("one")["metadata"]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"client": "DiesLater"}, "ended without a report"),
        ({"server": "ServerDiesLater", "client": "Busy"}, "(eof|reset): "),
        ({"client": "HangsLater", "deadline": 0.3}, "did not end within 0.3 s"),
    ],
)
def test_an_arm_that_fails_in_the_middle_of_its_value_leaves_the_others_theirs(
    executor: Interpreters, order: Make, names: dict[str, Any], reason: str
) -> None:
    start_both(executor, order(**names), order(client="Busy"))
    answers = executor.round(["one", "other"])
    assert re.search(reason, answers["one"]["error"])
    assert answers["other"]["timed_seconds"] > 0
    for _ in range(2):
        assert "error" not in executor.round(["other"])["other"]
    assert len(executor.finish("other")["wall"]) == 2


def test_a_block_is_closed_in_the_middle_of_a_round(executor: Interpreters, order: Make) -> None:
    start_both(executor, order(client="HangsLater"), order(client="HangsLater"))
    family = children()

    def ask() -> None:
        with pytest.raises(BlockDiedError):
            executor.round(["one", "other"])

    asking = threading.Thread(target=ask)
    asking.start()
    while not any(process.status() == psutil.STATUS_STOPPED for process in family):
        pass
    executor.close_block()
    asking.join()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


@both_ways
def test_an_arm_that_fails_leaves_the_others_their_turns(executor: Interpreters, order: Make, fresh: bool) -> None:
    assert "error" not in executor.start(replace(order(fresh=fresh), arm="good"))
    assert "error" in executor.start(replace(order(client="Dies", fresh=fresh), arm="bad"))
    for _ in range(3):
        assert "error" not in executor.round(["good"])["good"]
    assert len(executor.finish("good")["wall"]) == 2


@both_ways
def test_the_floor_takes_its_turns_in_memory(
    executor: Interpreters, order: Make, identity: Identity, fresh: bool
) -> None:
    case = replace(CASE, benchmark="tls_pingpong", tls=TLSProfile())
    plain = order(fresh=fresh, floor=True)
    client = replace(
        plain.client, case=case, identity=identity, benchmark=Source(value="loopmark.benchmarks.tls_pingpong:BENCHMARK")
    )
    answer = run(executor, replace(plain, client=client))
    assert (
        answer["facts"]["equal"].items()
        >= {"tls_version": "TLSv1.3", "session_reused": False, "verified": True}.items()
    )
    assert answer["wall"] == pytest.approx(
        [ours + theirs for ours, theirs in zip(answer["client_cpu"], answer["server_cpu"], strict=True)]
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted on Linux")
def test_a_second_thread_makes_forking_an_error() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with (
            closing(LastWords()) as log,
            pytest.raises(RuntimeError, match="threads in the block's interpreter"),
            processes.forked(lambda: None, log, []),
        ):
            pass
    finally:
        done.set()
        thread.join()


def test_an_interpreter_that_dies_ends_the_block_with_its_status(executor: Interpreters, order: Make) -> None:
    (interpreter,) = children()
    interpreter.kill()
    with pytest.raises(BlockDiedError, match="died with exit status -9"):
        run(executor, order())


def test_closing_a_block_ends_what_it_has_started(order: Make) -> None:
    interpreters = Interpreters()
    interpreters.open_block()
    assert interpreters._process is not None
    assert interpreters._process.stdin is not None
    # An order without waiting for its answer.
    interpreters._process.stdin.write(json.dumps({"start": to_json(order(client="Hangs"))}) + "\n")
    interpreters._process.stdin.flush()
    family: list[psutil.Process] = []
    try:
        (interpreter,) = psutil.Process().children()
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


def test_a_scheduler_that_reads_no_more_ends_the_block_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "loopmark.block", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")
