"""Counts instructions instead of taking time: each side of each arm in a few fresh processes under callgrind.

Everything that makes Python do the same thing differently is pinned: the seed of its hashes, malloc, the collected
and frozen heap, who runs when (see `loopmark.counted`). What an arm does once, and not once per connection, is in both
of two counts with different numbers of connections, and so not in their difference.

One thing cannot be pinned. CPython looks up attributes through a cache that is indexed by addresses, where two names
that are needed all the time may keep displacing each other, and anything may shift addresses: a variable of the
environment, a new line of code. So an arm is counted in several memory layouts, and the least of them stands for it.
"""

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from loopmark import callgrind
from loopmark.arms import Assign
from loopmark.case import Case, Cores
from loopmark.counts import MODE, Count, Counts, sides_of
from loopmark.executor import PINNED_MALLOC
from loopmark.record import Arm, Campaign, CasePlan, Kind, Outcome
from loopmark.task import Order, Task, to_json

ENVIRONMENT = {**PINNED_MALLOC, "PYTHONHASHSEED": "0"}

CONNECTIONS, WITH_TLS = 300, 100
"""Counted at least in every layout: so many that one garbage collection more or less is no matter."""

LAYOUTS = 3
"""Memory layouts in which every arm is counted; the baseline's twin has others than all the rest."""

AT_ONCE = 4
"""Arms that are counted at the same time at most, each on a core of its own: each needs some 300 MiB."""

ATTEMPTS = 2

DEADLINE = 600.0
"""Seconds that an arm may take in any case: it gives way to everything else on its core."""


def counting(campaign: Campaign, valgrind: str) -> Counts:
    """Turn a campaign into one that counts, with this version of valgrind.

    Of its arms the contenders and the twins are left, and both processes of an arm are on one core.
    """
    campaign.mode = MODE
    campaign.label = f"{campaign.label[:46]}-{MODE}"
    campaign.machine["valgrind"] = valgrind
    for plan in campaign.cases:
        plan.case = dataclasses.replace(plan.case, cores=Cores.SHARED)
        plan.arms = tuple(arm for arm in plan.arms if arm.kind in (Kind.CONTENDER, Kind.TWIN))
        plan.loops = connections_of(plan.case)
    return Counts(campaign=campaign)


def connections_of(case: Case) -> int:
    """Return how many connections are counted: a multiple of the concurrency, three rounds at least."""
    enough = max(CONNECTIONS if case.tls is None else WITH_TLS, 3 * case.concurrency)
    return _rounds(enough, case)


def _rounds(connections: int, case: Case) -> int:
    return -(-connections // case.concurrency) * case.concurrency


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One side of one arm of one case, in one memory layout."""

    plan: CasePlan
    arm: Arm
    side: str
    layout: int


class Counter(Protocol):
    """Runs orders; the tests have one without processes."""

    def count(self, order: Order, side: str, layout: int) -> dict[str, Any]:
        """Return an arm's `facts`, `judgement` and `instructions` per connection, or its `error`; for any thread."""

    def end(self) -> None:
        """End whatever runs; nothing is started any more."""


@dataclass(slots=True, kw_only=True)
class Conductor:
    """Counts all that there is to count, several arms at a time; says after each one what it was, and saves."""

    counts: Counts
    assign: Assign
    counter: Counter
    cores: Sequence[int]
    """Those that may be used."""
    save: Callable[[Counts], None]
    tell: Callable[[Job, int, int], None]
    """Is told what was done, and how many of how many that were."""
    _answers: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = field(default_factory=dict)

    def conduct(self) -> None:
        """Count; interrupted or not, everything that was started is ended."""
        campaign = self.counts.campaign
        jobs = list(_jobs(campaign))
        free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for core in self.cores[:AT_ONCE]:
            free.put(core)
        campaign.ended = "interrupted"
        with ThreadPoolExecutor(free.qsize()) as pool:
            running = {pool.submit(self._attempt, job, free): job for job in jobs}
            try:
                while running:
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for each in done:
                        job = running.pop(each)
                        self._keep(job, each.result())
                        self.tell(job, len(jobs) - len(running), len(jobs))
                        self.save(self.counts)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                self.counter.end()
        campaign.ended = "done"
        self.save(self.counts)

    def _attempt(self, job: Job, free: "queue.SimpleQueue[int]") -> dict[str, Any]:
        core = free.get()
        try:
            for _ in range(ATTEMPTS):
                answer = self.counter.count(self._order(job, core), job.side, job.layout)
                if "error" not in answer or answer.get("facts") is True:
                    break
            return answer
        finally:
            free.put(core)

    def _order(self, job: Job, core: int) -> Order:
        case, loops = job.plan.case, job.plan.loops
        server, client, _ = self.assign(case, job.arm)
        first = _rounds(loops // 3, case)
        return Order(
            arm=job.arm.label,
            server=_slowed(server, case, core),
            client=_slowed(client, case, core),
            loops=loops,
            warmups=first,
            values=1,
            at_once=case.concurrency,
            trace=True,
            fresh=True,
            deadline=DEADLINE + 0.02 * callgrind.SLOWDOWN * (case.concurrency + 3 * first + loops),
        )

    def _keep(self, job: Job, answer: dict[str, Any]) -> None:
        """Keep an answer; with the last of its layouts, an arm's side has its count, or its reason to have none."""
        campaign, case, arm = self.counts.campaign, job.plan.case.name, job.arm.label
        answers = self._answers.setdefault((case, arm, job.side), {})
        answers[job.layout] = answer
        if len(answers) < LAYOUTS:
            return
        for status, word in (("retired", "error"), ("not comparable", "judgement")):
            for each in answers.values():
                if reason := each.get(word):
                    reason = f"as {job.side} under callgrind: {reason}"
                    campaign.outcomes.append(Outcome(arm=arm, case=case, status=status, reason=reason))
                    return
        count = Count(
            case=case,
            arm=arm,
            side=job.side,
            layouts=tuple(answers[layout]["instructions"] for layout in sorted(answers)),
            connections=job.plan.loops,
            facts=answer["facts"],
        )
        self.counts.counts.append(count)
        order = [(each.plan.case.name, each.arm.label, each.side) for each in _jobs(campaign)]
        self.counts.counts.sort(key=lambda each: order.index((each.case, each.arm, each.side)))


def _jobs(campaign: Campaign) -> Iterator[Job]:
    for plan in campaign.cases:
        for arm in plan.arms:
            others = LAYOUTS if arm.kind is Kind.TWIN else 0
            for side in sides_of(plan):
                for layout in range(others, others + LAYOUTS):
                    yield Job(plan=plan, arm=arm, side=side, layout=layout)


def _padding(layout: int) -> dict[str, str]:
    """Return variables that move whatever Python allocates after them, differently in each layout."""
    return {f"LOOPMARK_PADDING_{number}": "x" * 37 * number for number in range(layout)}


def _slowed(task: Task, case: Case, core: int) -> Task:
    """Give a task the case as it is counted, a core, and the time that it takes there."""
    options = dataclasses.replace(
        task.options,
        handshake_timeout=task.options.handshake_timeout * callgrind.SLOWDOWN,
        close_timeout=task.options.close_timeout * callgrind.SLOWDOWN,
        deadline=task.options.deadline * callgrind.SLOWDOWN,
    )
    return dataclasses.replace(task, case=case, cpu=core, options=options)


class Valgrind:
    """Counts in real processes; each arm's have a session of their own."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._is_over = False

    def count(self, order: Order, side: str, layout: int) -> dict[str, Any]:
        """Run an arm with one side under callgrind."""
        with tempfile.TemporaryDirectory(prefix="loopmark-") as directory:
            out = Path(directory) / side
            command = [sys.executable, "-P", "-m", "loopmark.counted", to_json(order), side, str(out), str(os.getpid())]
            under = callgrind.command(out) if side == "client" else ()
            answer = self._run([*under, *command], {**ENVIRONMENT, **_padding(layout)}, order.deadline)
            if "error" in answer:
                return answer
            try:
                few, many = callgrind.between_marks(out)
            except (callgrind.CallgrindError, ValueError) as error:
                return {"error": f"callgrind did not count from mark to mark: {error}"}
            return {**answer, "instructions": (many - few) / order.loops}

    def end(self) -> None:
        """Kill every session that runs: nothing in it has anything left to say."""
        self._is_over = True
        for pid in list(self._running):
            _kill(pid)

    def _run(self, command: Sequence[str], environment: Mapping[str, str], deadline: float) -> dict[str, Any]:
        with (
            tempfile.TemporaryFile() as log,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
            ) as process,
        ):
            self._running.add(process.pid)
            if self._is_over:
                _kill(process.pid)
            try:
                report, _ = process.communicate(timeout=deadline)
            except subprocess.TimeoutExpired:
                _kill(process.pid)
                return {
                    "error": f"did not end within {deadline:g} s; what is counted gives way to all else on its core"
                }
            finally:
                self._running.discard(process.pid)
            lines = report.splitlines()
            answer: dict[str, Any] = json.loads(lines[0]) if lines else {"error": "its process ended without a report"}
            if "error" in answer:
                log.seek(0)
                words = log.read().decode(errors="replace").strip().splitlines()
                answer["error"] = "; ".join([answer["error"], *words[-1:]])
            return answer


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
