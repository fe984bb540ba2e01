"""Executes a campaign: cases take turns, one block each; what is complete is written at once.

An arm that contradicts its facts, or fails twice, is retired with its reason and the campaign goes on without it. Only
a retired baseline, a dead block interpreter or an interrupt ends it.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from loopmark.case import Case
from loopmark.errors import LoopmarkError
from loopmark.plan import MINIMUM_VALUE, Effort, held_of, is_field_block, loops_of, order_of, values_of
from loopmark.record import Arm, Block, Campaign, CasePlan, Measurement, Outcome, Trace
from loopmark.task import Order, Task


class BlockDiedError(LoopmarkError):
    """A block's interpreter ended by itself; nothing that is measured after that could be trusted."""


class Executor(Protocol):
    """Runs arms in processes; the tests have one with a virtual clock."""

    def open_block(self) -> None:
        """Draw a new memory layout: start a fresh interpreter."""

    def run(self, order: Order) -> dict[str, Any]:
        """Run one arm to its end; the answer is the client's report, or has an `error`. Raises BlockDiedError."""

    def close_block(self) -> None:
        """End the interpreter and whatever it has started."""


class Progress(Protocol):
    """Is told what happens between measurements, never during one."""

    def arm(self, campaign: Campaign, case: Case, block: int, arm: str, position: int, arms: int) -> None:
        """Tell that an arm is about to run."""

    def block(self, campaign: Campaign, left: float) -> None:
        """Tell that a block is over; `left` are the seconds that the campaign may still take."""


Assign = Callable[[Case, Arm], tuple[Task, Task, bool]]
"""Says what server and client of an arm have to do, and whether they must be fresh processes."""


class _BaselineRetiredError(LoopmarkError):
    """Without a baseline there is nothing to compare with."""


@dataclass(slots=True, kw_only=True)
class Conductor:
    """Runs the cases of a campaign, which it fills; `save` writes it after every change that counts."""

    campaign: Campaign
    effort: Effort
    executor: Executor
    assign: Assign
    save: Callable[[Campaign], None]
    progress: Progress
    clock: Callable[[], float] = time.monotonic
    _start: float = 0.0
    _failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    _durations: dict[str, float] = field(default_factory=dict)
    _foreseen: dict[str, float] = field(default_factory=dict)
    _equal: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def conduct(self) -> None:
        """Run until every case has its blocks or the time is up, and say in the campaign how it ended."""
        self._start = self.clock()
        try:
            self._calibrate()
            self.campaign.ended = self._run_blocks()
        except (BlockDiedError, _BaselineRetiredError) as end:
            self.campaign.ended = str(end)
        except KeyboardInterrupt:
            self.campaign.ended = "interrupted"
            raise
        finally:
            self.campaign.seconds = self.clock() - self._start
            self.save(self.campaign)

    def _calibrate(self) -> None:
        """Settle each case's number of loops, once, on the baseline."""
        for plan in self.campaign.cases:
            if plan.loops:
                continue
            baseline = next(arm for arm in plan.arms if arm.label == self.campaign.baseline)
            answer = self._pace(plan, baseline)
            if "error" in answer:
                self._retire(plan, baseline, answer["error"])
            plan.loops = loops_of(plan.case, answer["pace"])
            warmups, values = values_of(plan.case, self.effort)
            arm_seconds = answer["seconds"] + answer["pace"] * plan.loops * (warmups + values)
            self._foreseen[plan.case.name] = len(plan.arms) * arm_seconds

    def _pace(self, plan: CasePlan, arm: Arm) -> dict[str, Any]:
        """Run an arm without values, in a block of its own."""
        loops = max(plan.case.concurrency, 20)
        try:
            self.executor.open_block()
            return self._run(plan, arm, loops=loops, warmups=0, values=0, trace=False, held=1, field_block=False)
        finally:
            self.executor.close_block()

    def _run_blocks(self) -> str:
        """Let the cases take turns; return how it ended."""
        index = dict.fromkeys((plan.case.name for plan in self.campaign.cases), 0)
        complete: Counter[str] = Counter()
        active = list(self.campaign.cases)
        capped = False
        while active:
            for plan in tuple(active):
                name = plan.case.name
                if self._left() < self._duration(name):
                    active.remove(plan)
                    capped = True
                    if not complete[name]:
                        self.campaign.notes.append(
                            f"{name}: no block fitted into the time; one takes about {self._duration(name):.0f} s."
                        )
                    continue
                block = self._run_block(plan, index[name])
                index[name] += 1
                if block is not None and not block.field:
                    complete[name] += 1
                if len(plan.arms) < 2 or complete[name] == self.effort.blocks:
                    active.remove(plan)
        return "time cap" if capped else "done"

    def _duration(self, name: str) -> float:
        """Foresee the seconds of a case's next block: the longest so far, or what the calibration tells."""
        return self._durations.get(name) or self._foreseen.get(name, 0.0)

    def _left(self) -> float:
        return self.effort.seconds - (self.clock() - self._start)

    def _run_block(self, plan: CasePlan, index: int) -> Block | None:
        """Run every arm once; None, and a sentence in the campaign, when the block did not complete."""
        case, start = plan.case, self.clock()
        is_field = is_field_block(index, self.effort)
        order = order_of(self.campaign.seed, case, index, plan.arms)
        measurements: dict[str, Measurement] = {}
        failure = None
        try:
            self.executor.open_block()
            for position, arm in enumerate(order):
                if arm not in plan.arms:
                    continue  # retired meanwhile
                self.progress.arm(self.campaign, case, index, arm.label, position, len(order))
                failure = self._measure(plan, arm, is_field, measurements)
                if failure:
                    break
        finally:
            self.executor.close_block()
        seconds = self.clock() - start
        kind = "field " if is_field else ""
        if failure is None and not is_field:
            failure = self._too_short(plan, measurements)
        if failure:
            self.campaign.dropped.append(f"{kind}block {index} of {case.name}: {failure}")
            self.progress.block(self.campaign, self._left())
            return None
        # The longest so far, so that a field block is foreseen, too.
        self._durations[case.name] = max(seconds, self._durations.get(case.name, 0.0))
        self._compare_facts(plan, measurements)
        block = Block(
            case=case.name,
            index=index,
            field=is_field,
            order=tuple(arm.label for arm in order if arm.label in measurements),
            measurements=measurements,
            seconds=seconds,
        )
        self.campaign.blocks.append(block)
        self.campaign.seconds = self.clock() - self._start
        self.save(self.campaign)
        self.progress.block(self.campaign, self._left())
        return block

    def _measure(self, plan: CasePlan, arm: Arm, is_field: bool, measurements: dict[str, Measurement]) -> str | None:
        """Run one arm into `measurements`; return why the block is lost, if it is."""
        name = plan.case.name
        warmups, values = values_of(plan.case, self.effort)
        trace = not arm.hidden and arm.label not in self.campaign.traces.get(name, {})
        answer = self._run(
            plan,
            arm,
            loops=plan.loops,
            warmups=warmups,
            values=values,
            trace=trace,
            held=held_of(plan.case, self.effort, first=trace),
            field_block=is_field,
        )
        self.campaign.measured_seconds += answer.get("timed_seconds", 0.0)
        self.campaign.proof_seconds += answer.get("proof_seconds", 0.0)
        if "error" in answer:
            self._failures[name, arm.label] += 1
            if answer.get("facts") or self._failures[name, arm.label] == 2:
                self._retire(plan, arm, answer["error"])
                return None
            return f"{arm.label}: {answer['error']}"
        if trace:
            seen = Trace(**{**answer["trace"], "records": tuple(answer["trace"]["records"])})
            self.campaign.traces.setdefault(name, {})[arm.label] = seen
            if answer["judgement"]:
                self._retire(plan, arm, answer["judgement"], status="not comparable")
                return None
        measurements[arm.label] = Measurement.reported(arm.label, answer)
        return None

    def _run(
        self,
        plan: CasePlan,
        arm: Arm,
        *,
        loops: int,
        warmups: int,
        values: int,
        trace: bool,
        held: int,
        field_block: bool,
    ) -> dict[str, Any]:
        server, client, fresh = self.assign(plan.case, arm)
        if field_block:
            server, client = dataclasses.replace(server, cpu=None), dataclasses.replace(client, cpu=None)
        return self.executor.run(
            Order(
                arm=arm.label,
                server=server,
                client=client,
                loops=loops,
                warmups=warmups,
                values=values,
                trace=trace,
                at_once=held,
                fresh=fresh or field_block,
                pinned=not field_block,
                deadline=_deadline(loops * (warmups + max(values, 1))),
            )
        )

    def _too_short(self, plan: CasePlan, measurements: dict[str, Measurement]) -> str | None:
        """Raise the loops when a value of the first block is too short; where they are settled, only note it."""
        if not measurements:
            return None
        name, case = plan.case.name, plan.case
        shortest = min(min(each.wall) * each.loops for each in measurements.values())
        if shortest >= MINIMUM_VALUE:
            return None
        if case.connections is not None or case.burst or any(block.case == name for block in self.campaign.blocks):
            note = f"{name}: some values took less than {MINIMUM_VALUE * 1e3:g} ms, which is short for the clocks."
            if note not in self.campaign.notes:
                self.campaign.notes.append(note)
            return None
        old, plan.loops = plan.loops, loops_of(case, shortest / plan.loops)
        return f"a value took {shortest * 1e3:.0f} ms only; {plan.loops} connections a value now, after {old}"

    def _compare_facts(self, plan: CasePlan, measurements: dict[str, Measurement]) -> None:
        """Retire whoever did other work than the baseline."""
        name = plan.case.name
        if name not in self._equal:
            self._equal[name] = measurements[self.campaign.baseline].facts["equal"]
        expected = self._equal[name]
        for arm in plan.arms:
            equal = measurements[arm.label].facts["equal"]
            wrong = [
                f"{fact} is {equal[fact]}, the baseline's is {expected[fact]}"
                for fact in expected
                if equal[fact] != expected[fact]
            ]
            if wrong:
                del measurements[arm.label]
                self._retire(plan, arm, "; ".join(wrong), status="not comparable")

    def _retire(self, plan: CasePlan, arm: Arm, reason: str, *, status: str = "retired") -> None:
        """Take an arm out of a case, with what it has measured there, so that all that stays has equal counts."""
        name = plan.case.name
        self.campaign.outcomes.append(Outcome(arm=arm.label, case=name, status=status, reason=reason))
        plan.arms = tuple(each for each in plan.arms if each != arm)
        self.campaign.blocks = [
            block.without(arm.label) if block.case == name else block for block in self.campaign.blocks
        ]
        if arm.label == self.campaign.baseline:
            raise _BaselineRetiredError(f"the baseline {arm.label} was retired in {name}: {reason}")


def _deadline(connections: int) -> float:
    """Seconds until an arm counts as stuck: 20 ms for every connection, and a minute."""
    return 60.0 + 0.02 * connections
