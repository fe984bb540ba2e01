"""Where one side's CPU time goes: measured without a profiler, beside the floor, under cProfile, and sampled.

Each of these is a run of its own in fresh processes, because a profiler changes what it looks at.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from loopmark import pyspy
from loopmark.callstats import Stats, between
from loopmark.case import Case, Cores
from loopmark.errors import DamagedError, LoopmarkError, UsageError
from loopmark.executor import PINNED_MALLOC
from loopmark.task import Order, Task, to_json

PATIENCE = 90.0
"""Seconds that py-spy may take besides sampling: with compiled code it reads the symbols of every library first."""

SIDES = ("server", "client")


class How(StrEnum):
    """What a run is for."""

    PLAIN = "plain"
    FUNCTIONS = "functions"
    SAMPLES = "samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one run has to do, beside its order; `seconds` is how long the traffic should last."""

    how: How
    side: str
    seconds: float
    floor: bool = False
    cpu_clock: bool = False
    """cProfile's clock is the process's CPU time, else wall time."""
    sampler: tuple[str, ...] = ()
    """The sampling profiler's words, but for the process's id."""
    patience: float = 0.0
    """Seconds after which the sampling profiler is given up."""

    def to_json(self) -> str:
        """Write it on one line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def read(cls, text: str) -> "Wish":
        """Read what `to_json` wrote; only our own processes write it, so nothing is checked."""
        raw = json.loads(text)
        return cls(**{**raw, "how": How(raw["how"]), "sampler": tuple(raw["sampler"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who is profiled: one side of one case, and what both sides are told to do."""

    contender: str
    side: str
    case: Case
    unit: str
    """What all figures are per."""
    server: Task
    client: Task
    has_floor: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """The side without a profiler: seconds per unit, medians over a few values."""

    units: int
    wall: float
    cpu: float
    kernel: float | None
    """The part of the CPU time that is spent in the kernel, 0 to 1; None where that is not told."""
    floors: tuple[float, ...] = ()
    """The same side's handshake and messages in memory, as parts of the CPU time that was measured beside each: a
    machine's speed wanders. Empty for a case without a floor."""

    @property
    def floor(self) -> float | None:
        """Return the floor in seconds per unit."""
        return self.cpu * median(self.floors) if self.floors else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """The side under cProfile; the figures of `stats` are for all `units` together."""

    units: int
    stats: Stats
    cpu_clock: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The side as py-spy has seen it, in a flame graph that is a file now."""

    path: Path
    is_native: bool
    """Frames of compiled code are in it."""
    samples: int
    handshake: int
    """Those within a TLS handshake, as far as Python's ssl module makes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """All that was found about one subject; a sentence in place of what could not be had."""

    subject: Subject
    plain: Plain
    functions: Functions | str
    samples: Samples | str


class Runner(Protocol):
    """Runs orders; the tests have one without processes."""

    def run(self, order: Order, wish: Wish) -> dict[str, Any]:
        """Return what `loopmark.profiled` answers; raises LoopmarkError with its reason when it failed."""


def profile(
    subject: Subject,
    runner: Runner,
    *,
    seconds: float,
    tool: pyspy.Tool | None,
    output: Path,
    tell: Callable[[str], None],
) -> Profile:
    """Make all runs, each for about so many seconds of traffic; the flame graph goes to `output`, a new file."""
    order = _order(subject, seconds)
    tell(f"{subject.contender} as {subject.side} without a profiler")
    plain = _plain(runner.run(order, Wish(how=How.PLAIN, side=subject.side, seconds=seconds, floor=subject.has_floor)))
    tell("the same under cProfile")
    functions = _functions(subject, runner, order, seconds)
    samples: Samples | str = f"No flame graph: {pyspy.MISSING}."
    if tool is not None:
        tell("the same under py-spy")
        samples = _sampled(subject, runner, order, seconds, tool, output)
    return Profile(subject=subject, plain=plain, functions=functions, samples=samples)


def check_output(output: Path) -> None:
    """Raise UsageError unless a flame graph can become this file."""
    if output.exists():
        raise UsageError(f"{output} exists: give another name with --output FILE, or move it away")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"{output.parent} is no directory: make it, or give another name with --output FILE")


def _order(subject: Subject, seconds: float) -> Order:
    concurrency = subject.case.concurrency
    return Order(
        arm=subject.contender,
        server=subject.server,
        client=subject.client,
        loops=0,
        warmups=0,
        values=0,
        at_once=concurrency,
        fresh=True,
        # A profiler slows down, and rounds of very many connections are as long as they are.
        deadline=PATIENCE + 60.0 + 20.0 * seconds + 0.1 * concurrency,
    )


def _plain(answer: dict[str, Any]) -> Plain:
    return Plain(
        units=answer["units"],
        wall=median(answer["wall"]),
        cpu=median(answer["cpu"]),
        kernel=answer["kernel"],
        floors=tuple(floor / beside for floor, beside in zip(answer["floor"], answer["cpu"], strict=False)),
    )


def _functions(subject: Subject, runner: Runner, order: Order, seconds: float) -> Functions | str:
    """Run under cProfile.

    On one core the other side's time would be in wall time, and one at a time the two wait for each other.
    """
    cpu_clock = subject.case.cores is Cores.SHARED or subject.case.concurrency == 1
    wish = Wish(how=How.FUNCTIONS, side=subject.side, seconds=seconds, cpu_clock=cpu_clock)
    answer = runner.run(order, wish)
    stats = between(answer["before"], answer["after"], cpu_clock=cpu_clock)
    if stats.threads:
        return (
            f"No table of functions: {subject.contender} starts threads ({stats.threads} while it was profiled), which "
            "cProfile cannot tell apart; a flame graph has them all."
        )
    return Functions(units=answer["units"], stats=stats, cpu_clock=cpu_clock)


def _sampled(
    subject: Subject, runner: Runner, order: Order, seconds: float, tool: pyspy.Tool, output: Path
) -> Samples | str:
    """Run under py-spy: with the frames of compiled code, or else without them; return why there is no flame graph."""
    words = ""
    with tempfile.TemporaryDirectory(prefix="loopmark-") as directory:
        graph = Path(directory) / "graph.svg"
        for native in (True, False) if tool.is_native else (False,):
            command = pyspy.command(tool, graph, seconds, native=native)
            wish = Wish(
                how=How.SAMPLES, side=subject.side, seconds=seconds, sampler=command, patience=PATIENCE + 5.0 * seconds
            )
            answer = runner.run(order, wish)
            words = answer["words"]
            if answer["status"] == -signal.SIGKILL:
                words = f"it did not end within {wish.patience:.0f} s"
            if answer["status"] == 0 and graph.exists():
                try:
                    return _kept(graph.read_text(encoding="utf-8"), output, is_native=native)
                except (DamagedError, UnicodeDecodeError) as error:
                    return f"No flame graph: {error}."
            if pyspy.is_refused(words):
                break
    return f"No flame graph: {pyspy.refusal(words)}."


def _kept(svg: str, output: Path, *, is_native: bool) -> Samples:
    counted = pyspy.counted(svg)
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(svg)
    except FileExistsError:
        check_output(output)
        raise
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}; give another name with --output FILE") from error
    return Samples(path=output, is_native=is_native, samples=counted.samples, handshake=counted.handshake)


class Processes:
    """Runs orders in real processes, which have a session of their own and never outlive the call."""

    def run(self, order: Order, wish: Wish) -> dict[str, Any]:
        """Run one order to its end; raises LoopmarkError when it fails or does not end in time."""
        command = [sys.executable, "-P", "-m", "loopmark.profiled", "call"]
        return _answer([*command, to_json(order), wish.to_json(), str(os.getpid())], order.deadline, wish.how)


def _answer(command: Sequence[str], deadline: float, what: str) -> dict[str, Any]:
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **PINNED_MALLOC},
            start_new_session=True,
        ) as process,
    ):
        try:
            report, _ = process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            raise LoopmarkError(f"profiling ({what}) did not end within {deadline:.0f} s") from None
        finally:
            # Whatever it has started, however it ended.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        lines = report.splitlines()
        answer: dict[str, Any] = json.loads(lines[0]) if lines else {"error": "the process ended without a report"}
        if "error" in answer:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-1:]
            raise LoopmarkError("; ".join([f"profiling ({what}): {answer['error']}", *last]))
        return answer
