"""What cProfile counts, per function: named without local paths, between two moments, and without waiting.

cProfile's clock is wall time, so a loop that waits for something to do seems to work. The CPU clock would not, but a
system call for each reading makes small functions appear several times as dear as they are. So it is read only where
client and server take turns anyway; elsewhere the time that the process did not run is taken out: from where it waits,
and so far as others had its core meanwhile, from all in proportion.
"""

import cProfile
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from types import CodeType, FrameType
from typing import Any

from loopmark import procfs

HANDSHAKE = "_ssl._SSLSocket.do_handshake"
"""OpenSSL's handshake as Python calls it, for SSLSocket and SSLObject alike."""

OPENSSL = "_ssl."
"""How the names of all calls into OpenSSL begin."""

WAITING = {
    *("select.epoll.poll", "select.poll.poll", "select.kqueue.control", "select.devpoll.poll", "select.select"),
    "time.sleep",
}
"""Where a process waits that has nothing to do. A loop in compiled code waits where cProfile does not see it."""

ALL_THREADS = sys.version_info >= (3, 12)
"""Whether an enabled cProfile sees all threads."""

_METHOD = re.compile(r"<method '(.+)' of '(.+)' objects>")
_BUILT_IN = re.compile(r"<(?:built-in method|built-in function|function|slot wrapper) (.+?)(?: at 0x[0-9a-fA-F]+)?>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """Seconds in one function itself, and with all that it called; a coroutine is called each time it goes on."""

    name: str
    calls: int
    own: float
    cumulative: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What happened between two moments, in seconds of CPU time as far as that could be told."""

    functions: tuple[Function, ...]
    """By own time."""
    cpu: float
    unseen: float
    """In no function that cProfile knows: compiled loops, and what calls from compiled code into compiled code."""
    delay: float | None
    """For so long the process could have run but had no core; None where that is not told."""
    threads: int
    """How many were started; they cannot be told apart, so that the functions mean something only where it is 0."""

    def share(self, prefix: str) -> float:
        """Return the part of the CPU time that functions of this name, or beginning so, have themselves."""
        own = sum(each.own for each in self.functions if each.name.startswith(prefix))
        return own / self.cpu if self.cpu else 0.0


class Profiler:
    """cProfile in this process: of the main thread, and since Python 3.12 of all threads as if they were one."""

    def __init__(self, *, cpu_clock: bool) -> None:
        if cpu_clock:
            self._profile = cProfile.Profile(time.process_time_ns, 1e-9)
        else:
            self._profile = cProfile.Profile()
        self._threads = 0

    def start(self) -> None:
        """Begin in the main thread, before it runs what is to be profiled; what counts is what two snapshots enclose.

        Where all threads are seen as one, the first snapshot enables the profiler, when only its own thread runs: calls
        and returns that cross each other spoil what comes later.
        """
        threading.setprofile(self._count)
        if not ALL_THREADS:
            self._profile.enable()

    def stop(self) -> None:
        """End for good."""
        threading.setprofile(None)
        self._profile.disable()

    def _count(self, frame: FrameType, event: str, argument: object) -> None:
        """Be called by each new thread, at first."""
        del frame, event, argument
        self._threads += 1
        sys.setprofile(None)

    def snapshot(self) -> dict[str, Any]:
        """Return the clocks and, by name, each function's calls, own and cumulative seconds so far, as JSON has it.

        `above` has the functions that a waiting one was called by, directly or not. Before Python 3.12 another thread
        than the main one can neither stop the profiler, nor is it seen by it.
        """
        may_stop = ALL_THREADS or threading.current_thread() is threading.main_thread()
        if may_stop:
            self._profile.disable()
        known = _modules()
        found: dict[str, list[float]] = {}
        callers: dict[str, set[str]] = {}
        for entry in self._profile.getstats():
            name = named(entry.code, known)
            figures = found.setdefault(name, [0, 0.0, 0.0])
            for index, figure in enumerate((entry.callcount, entry.inlinetime, entry.totaltime)):
                figures[index] += figure
            for callee in entry.calls or ():
                callers.setdefault(named(callee.code, known), set()).add(name)
        above = {name: sorted(_above(name, callers)) for name in found if waits(name)}
        clocks: dict[str, Any] = {
            "cpu": time.process_time(),
            "wall": time.perf_counter(),
            "delay": procfs.run_delay("self"),
        }
        clocks["switches"] = procfs.context_switches("self")
        if may_stop:
            self._profile.enable()
        return {**clocks, "threads": self._threads, "functions": found, "above": above}


def waits(name: str) -> bool:
    """Tell whether a function is one that waits, or a loop in compiled code, which waits where nobody sees it."""
    return name in WAITING or _is_compiled_loop(name)


def _is_compiled_loop(name: str) -> bool:
    # Cython's functions are not seen: their time is their caller's, which has next to none where the loop is Python.
    return name.endswith((".run_until_complete", ".run_forever")) or name.startswith("Runner.run (asyncio/runners.py:")


def _above(name: str, callers: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    todo = [name]
    while todo:
        more = callers.get(todo.pop(), set()) - found
        found |= more
        todo += more
    return found


def between(before: Mapping[str, Any], after: Mapping[str, Any], *, cpu_clock: bool) -> Stats:
    """Return what happened between two snapshots of one profiler."""
    functions = []
    for name, figures in after["functions"].items():
        calls, own, cumulative = (
            new - old for new, old in zip(figures, before["functions"].get(name, (0, 0.0, 0.0)), strict=True)
        )
        if calls or own > 0:
            functions.append(Function(name=name, calls=calls, own=own, cumulative=cumulative))
    wall, cpu = after["wall"] - before["wall"], after["cpu"] - before["cpu"]
    delay, preempted = _delays(before, after)
    stats = without_waiting(functions, cpu if cpu_clock else wall, cpu, preempted=preempted, above=after["above"])
    return replace(stats, delay=delay, threads=after["threads"] - before["threads"])


def _delays(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[float | None, float]:
    """Return the seconds without a core, and how many of them fell into work rather than into waking up.

    The kernel tells their sum only. It is divided by how often a core was taken away and how often given up.
    """
    if None in (before["delay"], after["delay"], before["switches"], after["switches"]):
        return None, 0.0
    delay: float = after["delay"] - before["delay"]
    given, taken = (new - old for new, old in zip(after["switches"], before["switches"], strict=True))
    return delay, delay * taken / (given + taken) if given + taken else 0.0


def without_waiting(
    functions: Sequence[Function], elapsed: float, cpu: float, *, preempted: float, above: Mapping[str, Sequence[str]]
) -> Stats:
    """Take the time that the process did not run from where it waited.

    `elapsed` is what the profiler's clock has seen, `cpu` the CPU time of the process, both in seconds. Of the
    difference, `preempted` seconds are taken from all in proportion; the others from the functions that wait, then from
    what lies in no function, and what is left from all again. `above` has the functions that called those that wait.
    """
    # A loop in compiled code is as little seen as what lies in no function.
    seen = [each for each in functions if not _is_compiled_loop(each.name)]
    waiting = {each.name: each.own for each in seen if each.name in WAITING}
    unseen = max(0.0, elapsed - sum(each.own for each in seen))
    idle = max(0.0, elapsed - cpu)
    waited = max(0.0, idle - preempted)
    taken = min(waited, sum(waiting.values()))
    share = taken / sum(waiting.values()) if taken else 0.0
    cut = {name: own * share for name, own in waiting.items()}
    in_loops = min(waited - taken, unseen)
    from_above = {**cut, **{each.name: in_loops for each in functions if _is_compiled_loop(each.name)}}
    busy = sum(each.own for each in seen) - taken + unseen - in_loops
    left = idle - taken - in_loops
    scale = max(0.0, busy - left) / busy if busy else 1.0

    def kept(each: Function) -> Function:
        own = each.own - cut.get(each.name, 0.0)
        below = sum(gone for name, gone in from_above.items() if each.name == name or each.name in above.get(name, ()))
        return replace(each, own=scale * own, cumulative=scale * max(own, each.cumulative - below))

    return Stats(
        functions=tuple(sorted(map(kept, seen), key=lambda each: (-each.own, each.name))),
        cpu=cpu,
        unseen=scale * (unseen - in_loops),
        delay=None,
        threads=0,
    )


def named(code: CodeType | str, modules: Mapping[str, str]) -> str:
    """Name a function: `Class.method (package/module.py:12)`, and one of compiled code `module.Class.method`."""
    if not isinstance(code, str):
        return f"{code.co_qualname} ({shortened(code.co_filename, modules)}:{code.co_firstlineno})"
    if match := _METHOD.fullmatch(code):
        return f"{match[2]}.{match[1]}"
    if match := _BUILT_IN.fullmatch(code):
        return match[1]
    return re.sub(r" at 0x[0-9a-fA-F]+", "", code)


def shortened(file: str, modules: Mapping[str, str]) -> str:
    """Return a file's name within its package; of one that belongs to no module, the last part only."""
    if file.startswith("<"):
        return file
    return modules.get(file) or PurePath(file).name


def _modules() -> dict[str, str]:
    """Return, by the files of all modules, their names within their packages."""
    found = {}
    for name, module in tuple(sys.modules.items()):
        file, spec = getattr(module, "__file__", None), getattr(module, "__spec__", None)
        if isinstance(file, str) and (name != "__main__" or spec):
            path = (spec.name if spec else name).replace(".", "/")
            found[file] = f"{path}/__init__.py" if hasattr(module, "__path__") else f"{path}.py"
    return found
