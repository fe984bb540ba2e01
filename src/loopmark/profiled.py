"""One side of a case under a profiler: the client's process, and the server's where that is the one that is profiled.

Run as `python -m loopmark.profiled call ORDER WISH PARENT_PID`, which starts the server as its child; the answer is one
JSON line. A server under cProfile or py-spy is started as `python -m loopmark.profiled serve CLOCK ...`, before the
words with which it would be started otherwise.
"""

import contextlib
import ctypes
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from loopmark import procfs
from loopmark.caller import Caller, Value, report
from loopmark.callstats import Profiler
from loopmark.errors import VoidError
from loopmark.floor import WARM_UP, Floor
from loopmark.peer import Handle, die_with_parent, serve, settle, spawned
from loopmark.profiling import How, Wish
from loopmark.task import Order, order_from, task_from
from loopmark.turns import Turns

T = TypeVar("T")

ROUNDS = 5
"""Values without a profiler, each beside one of the floor: a shared machine's speed wanders."""

ATTEMPTS = 3

QUESTION = "functions"
"""What the profiled server is asked for its snapshot with."""

PR_SET_PTRACER, ANYBODY = 0x59616D61, ctypes.c_ulong(-1)


def _fulfil(order: Order, wish: Wish, server: Handle) -> dict[str, Any]:
    """Prove the work, then do what is wished for; all is per unit of the case, in seconds."""
    cpus = procfs.affinity()
    caller = Caller(order.client, server)
    caller.prove(order.at_once)
    match wish.how:
        case How.PLAIN:
            return _plain(caller, order, wish)
        case How.FUNCTIONS:
            return _functions(caller, wish)
        case How.SAMPLES:
            return _samples(caller, wish, cpus)


def _plain(caller: Caller, order: Order, wish: Wish) -> dict[str, Any]:
    """Take values without a profiler, and the floor's beside them."""
    count = _count(caller, wish.seconds / ROUNDS)
    floor = Floor(order) if wish.floor else None
    conversations = _conversations(floor, wish.seconds / ROUNDS) if floor else 0
    pid = caller.server.pid if wish.side == "server" else os.getpid()
    _settle(caller)
    values: list[Value] = []
    floors: list[float] = []
    user = kernel = 0.0
    for _ in range(ROUNDS):
        before = _times(pid)
        values.append(_again(lambda: caller.time(count)))
        after = _times(pid)
        if before and after:
            user, kernel = user + after[0] - before[0], kernel + after[1] - before[1]
        if floor:
            least = floor.time(conversations)
            floors.append((least.server if wish.side == "server" else least.client) / conversations)
    return {
        "units": count * ROUNDS,
        "wall": [value.wall / count for value in values],
        "cpu": [(value.server_cpu if wish.side == "server" else value.client_cpu) / count for value in values],
        "floor": floors,
        "kernel": kernel / (user + kernel) if user + kernel else None,
    }


def _functions(caller: Caller, wish: Wish) -> dict[str, Any]:
    """Take one value under cProfile; return what it counted before and after."""
    if wish.side == "server":
        snapshot: Callable[[], dict[str, Any]] = lambda: caller.server.ask(QUESTION)  # noqa: E731  # one of two
    else:
        profiler = Profiler(cpu_clock=wish.cpu_clock)
        profiler.start()
        snapshot = profiler.snapshot
    count = _count(caller, wish.seconds)
    _settle(caller)

    def enclosed() -> dict[str, Any]:
        before = snapshot()
        caller.time(count)
        return {"units": count, "before": before, "after": snapshot()}

    return _again(enclosed)


def _samples(caller: Caller, wish: Wish, cpus: frozenset[int] | None) -> dict[str, Any]:
    """Go on until the sampling profiler has had its time; return how it ended and what it said."""
    count = _count(caller, min(0.5, wish.seconds))
    _settle(caller)
    may_be_traced()
    pid = caller.server.pid if wish.side == "server" else os.getpid()
    units, end = 0, time.monotonic() + wish.patience
    with tempfile.TemporaryFile() as words:
        with subprocess.Popen([*wish.sampler, str(pid)], stdin=subprocess.DEVNULL, stdout=words, stderr=words) as tool:
            if cpus and hasattr(os, "sched_setaffinity"):
                # It has inherited our core.
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(tool.pid, cpus)
            while tool.poll() is None:
                if time.monotonic() > end:
                    tool.kill()
                _again(lambda: caller.time(count))
                units += count
        words.seek(0)
        return {"units": units, "status": tool.returncode, "words": words.read().decode(errors="replace")[-4000:]}


def _again(work: Callable[[], T]) -> T:
    """Do it; again where something outside of both sides has spoilt it, a halt of the machine for one."""
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(VoidError):
            return work()
    return work()


def _count(caller: Caller, seconds: float) -> int:
    """Return how many units take about so long; those that are made to find out warm both sides up."""
    concurrency = caller.case.concurrency
    count = caller.case.minimum_loops
    while True:
        wall = _again(lambda: caller.time(count)).wall  # noqa: B023  # called at once
        if wall >= seconds / 10:
            break
        count *= 4
    return max(caller.case.minimum_loops, math.ceil(count * seconds / wall / concurrency) * concurrency)


def _conversations(floor: Floor, seconds: float) -> int:
    value = floor.time(WARM_UP)
    return max(WARM_UP, round(WARM_UP * seconds / (value.client + value.server)))


def _settle(caller: Caller) -> None:
    settle()
    caller.server.ask("settle")


def _times(pid: int) -> tuple[float, float] | None:
    """Return a process's CPU seconds in user space and in the kernel, as the kernel accounts them; None off Linux."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # Fields 14 and 15 of proc_pid_stat(5). The second is the name in parentheses, which may hold anything.
    user, kernel = stat.rpartition(")")[2].split()[11:13]
    ticks = os.sysconf("SC_CLK_TCK")
    return int(user) / ticks, int(kernel) / ticks


def may_be_traced() -> None:
    """Let a sampling profiler that is not our ancestor read this process, where Yama forbids that by default."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANYBODY)


def _serve(clock: str, task: str) -> NoReturn:
    """Be a server that may be traced or, with a `clock`, is profiled from its start."""
    may_be_traced()
    control: Any = sys.stdin.buffer
    answers = sys.stdout.buffer
    if clock != "none":
        profiler = Profiler(cpu_clock=clock == "cpu")

        def is_not_ours(line: bytes) -> bool:
            if line.strip().decode() != QUESTION:
                return True
            answers.write(json.dumps(profiler.snapshot()).encode() + b"\n")
            answers.flush()
            return False

        # Not a generator: the frame of one that waits would be on top of whatever cProfile sees run meanwhile.
        control = filter(is_not_ours, control)
        profiler.start()
    serve(task_from(task), control, answers)


def _call(order: Order, wish: Wish) -> None:
    # What a library prints must not mix with the report.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    clock = {How.PLAIN: None, How.FUNCTIONS: "cpu" if wish.cpu_clock else "wall", How.SAMPLES: "none"}[wish.how]
    under = (sys.executable, "-P", "-m", "loopmark.profiled", "serve", clock) if clock and wish.side == "server" else ()
    with spawned(order.server, under=under) as server, out:
        turns = Turns(sys.stdin.fileno(), out)
        report(turns, lambda: turns.tell(_fulfil(order, wish, server)))


def _main() -> None:
    die_with_parent(int(sys.argv[-1]))
    if sys.argv[1] == "serve":
        _serve(sys.argv[2], sys.argv[-2])
    _call(order_from(sys.argv[2]), Wish.read(sys.argv[3]))


if __name__ == "__main__":
    _main()
