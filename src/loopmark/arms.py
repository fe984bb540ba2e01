"""Runs the arms of one block: they start and prove their work, take their values in turns, and finish.

An arm that contradicts its facts, or fails twice, is retired with its reason, and the block goes on without it.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from loopmark import deadlines
from loopmark.case import Case, Role
from loopmark.errors import LoopmarkError
from loopmark.plan import Effort, alive_together, held_of, loops_for, surplus_of, untimed_of, values_of
from loopmark.record import Arm, Campaign, CasePlan, Kind, Measurement, Trace
from loopmark.task import Order, Task


class BlockDiedError(LoopmarkError):
    """A block's interpreter ended by itself; nothing that is measured after that could be trusted."""


class Executor(Protocol):
    """Runs arms in processes; the tests have one with a virtual clock."""

    def open_block(self) -> None:
        """Draw a new memory layout: start a fresh interpreter."""

    def start(self, order: Order) -> dict[str, Any]:
        """Start an arm, which proves its work; the answer is its facts, or has an `error`. Raises BlockDiedError."""

    def round(self, arms: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Let started arms take their next values; the answers, by arm, are `timed_seconds`, or have an `error`."""

    def finish(self, arm: str) -> dict[str, Any]:
        """End an arm that has taken its values; the answer is all of its readings, or has an `error`."""

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


VOID_IN_A_ROW = 3
"""So many spoilt values of one arm, in one block after the other, are no accident."""


class Retire(Protocol):
    """Takes an arm out of a case."""

    def __call__(self, plan: CasePlan, arm: Arm, reason: str, *, status: str = "retired") -> None:
        """Retire it, with what it has measured there."""


@dataclass(slots=True, kw_only=True)
class Arms:
    """Runs the arms of every block of a campaign."""

    campaign: Campaign
    effort: Effort
    executor: Executor
    assign: Assign
    progress: Progress
    retire: Retire
    _void: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Values in a row, of an arm in a case, that something outside has spoilt."""

    def measure(
        self,
        plan: CasePlan,
        index: int,
        order: Sequence[Arm],
        rounds: Sequence[Sequence[str]],
        measurements: dict[str, Measurement],
        *,
        values: int,
        is_field: bool,
    ) -> str | None:
        """Let all arms start, take so many values in rounds, and finish; return why the block is lost, if it is.

        Those that are alive together do all of that before the next ones start.
        """
        started: dict[str, dict[str, Any]] = {}
        warmups, _ = values_of(plan.case, self.effort)
        turns = rounds or [[arm.label for arm in order]] * (warmups + values)
        for group in alive_together(plan.case, order):
            for arm in group:
                if failure := self._start_one(plan, index, order, arm, started, values=values, is_field=is_field):
                    return failure
            for one in turns:
                arms = {arm.label: arm for arm in group if arm in plan.arms}
                labels = [label for label in one if label in arms]
                if not labels:
                    continue
                if rounds:
                    place = [arm.label for arm in order].index(labels[0])
                    self.progress.arm(self.campaign, plan.case, index, labels[0], place, len(order))
                for label, answer in self.executor.round(labels).items():
                    self.campaign.measured_seconds += answer.get("timed_seconds", 0.0)
                    if failure := self._check(plan, arms[label], answer):
                        return failure
            for arm in group:
                if arm in plan.arms:
                    answer = {**started[arm.label], **self.executor.finish(arm.label)}
                    if failure := self._check(plan, arm, answer):
                        return failure
                    if arm in plan.arms:
                        self._void.pop((plan.case.name, arm.label), None)
                        measurements[arm.label] = Measurement.reported(arm.label, answer)
        return None

    def _start_one(
        self,
        plan: CasePlan,
        index: int,
        order: Sequence[Arm],
        arm: Arm,
        started: dict[str, dict[str, Any]],
        *,
        values: int,
        is_field: bool,
    ) -> str | None:
        """Start an arm, and keep its answer; return why the block is lost, if it is."""
        self.progress.arm(self.campaign, plan.case, index, arm.label, order.index(arm), len(order))
        started[arm.label] = self._start_arm(plan, arm, values, is_field)
        failure = self._check(plan, arm, started[arm.label])
        if failure and plan.case.role is Role.PAIR:
            # A block of so many pairs is too dear to be lost; two that do not understand each other fail again.
            started[arm.label] = self._start_arm(plan, arm, values, is_field)
            failure = self._check(plan, arm, started[arm.label])
        return failure

    def _start_arm(self, plan: CasePlan, arm: Arm, values: int, is_field: bool) -> dict[str, Any]:
        """Start an arm for a block; keep its trace, once, which may retire it."""
        name = plan.case.name
        warmups, _ = values_of(plan.case, self.effort)
        seen_before = arm.label in self.campaign.traces.get(name, {})
        trace = arm.kind not in (Kind.HIDDEN, Kind.FLOOR) and not seen_before
        answer = self.start(
            plan,
            arm,
            loops=loops_for(arm, plan.loops),
            warmups=warmups,
            values=values,
            trace=trace,
            held=held_of(plan.case, self.effort, first=trace),
            untimed=untimed_of(plan.case, self.effort),
            is_field=is_field,
        )
        self.campaign.proof_seconds += answer.get("proof_seconds", 0.0)
        if "trace" in answer:
            seen = Trace(**{**answer["trace"], "records": tuple(answer["trace"]["records"])})
            self.campaign.traces.setdefault(name, {})[arm.label] = seen
            if answer["judgement"]:
                self.retire(plan, arm, answer["judgement"], status="not comparable")
        return answer

    def _check(self, plan: CasePlan, arm: Arm, answer: Mapping[str, Any]) -> str | None:
        """Retire an arm that contradicts its facts or fails again; return why the block is lost, if it is."""
        if "error" not in answer:
            return None
        if answer.get("void") is True:
            self._void[plan.case.name, arm.label] += 1
            if self._void[plan.case.name, arm.label] < VOID_IN_A_ROW:
                return f"{arm.label}: {answer['error']}"
            self.retire(plan, arm, f"{answer['error']}, {VOID_IN_A_ROW} times in a row")
            return None
        if answer.get("facts") is True or arm.label in plan.failed:
            self.retire(plan, arm, answer["error"])
            return None
        plan.failed += (arm.label,)
        return f"{arm.label}: {answer['error']}"

    def start(
        self,
        plan: CasePlan,
        arm: Arm,
        *,
        loops: int,
        warmups: int,
        values: int,
        trace: bool,
        held: int,
        untimed: int,
        is_field: bool,
    ) -> dict[str, Any]:
        """Start an arm, which proves its work and then waits for its turns; without values it tells its pace."""
        server, client, fresh = self.assign(plan.case, arm)
        if is_field:
            server, client = dataclasses.replace(server, cpu=None), dataclasses.replace(client, cpu=None)
        return self.executor.start(
            Order(
                arm=arm.label,
                server=server,
                client=client,
                loops=loops,
                surplus=surplus_of(arm, loops) if values else 0,
                warmups=warmups,
                values=values,
                trace=trace,
                at_once=held,
                untimed=untimed,
                floor=arm.kind is Kind.FLOOR,
                fresh=fresh or is_field,
                pinned=not is_field,
                deadline=deadlines.of_step(client.options, max(loops, held), plan.case),
            )
        )
