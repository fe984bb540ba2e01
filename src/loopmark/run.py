"""Executes a campaign: cases take turns, one block each; what is complete is written at once.

An arm that contradicts its facts, or fails twice, is retired with its reason and the campaign goes on without it. Only
a retired baseline, a dead block interpreter or an interrupt ends it.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopmark.arms import Arms, Assign, BlockDiedError, Executor, Progress
from loopmark.errors import LoopmarkError
from loopmark.judgement import needed_blocks, widest_of
from loopmark.plan import (
    MINIMUM_VALUE,
    SMOKE,
    SMOKE_LOOPS,
    UNFORESEEN,
    Effort,
    Pace,
    is_field_block,
    is_time_to_look,
    loops_of,
    margin_of,
    order_of,
    rounds_of,
    untimed_of,
    values_of,
    values_that_fit,
)
from loopmark.record import Arm, Block, Campaign, CasePlan, Kind, Measurement, Outcome


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
    _arms: Arms = field(init=False)
    _paces: dict[str, Pace] = field(default_factory=dict)
    """What the calibration tells of an arm in a block of a case."""
    _values: dict[str, int] = field(default_factory=dict)
    """How many values an arm takes in the next block of a case."""
    _planned: dict[str, int] = field(default_factory=dict)
    """How many it takes where time does not run short."""

    _tried: dict[str, int] = field(default_factory=dict)
    """After how many complete blocks of a case the last one in the field was begun."""

    def __post_init__(self) -> None:
        self._arms = Arms(
            campaign=self.campaign,
            effort=self.effort,
            executor=self.executor,
            assign=self.assign,
            progress=self.progress,
            retire=self._retire,
        )

    def conduct(self) -> None:
        """Run until every case has its blocks or the time is up, and say in the campaign how it ended.

        One that has blocks already is continued: orders, loops and time go on from where they were.
        """
        self._start = self.clock() - self.campaign.seconds
        # Whatever happens from here on, the directory that was made for it says what it was to be.
        self.save(self.campaign)
        try:
            self._calibrate()
            self.campaign.ended = self._run_blocks()
        except (BlockDiedError, _BaselineRetiredError) as end:
            self.campaign.ended = str(end)
        except KeyboardInterrupt:
            self.campaign.ended = "interrupted"
            raise
        finally:
            # An interrupt may have come while the last one was being closed.
            self.executor.close_block()
            self._save()

    def _save(self) -> None:
        self.campaign.seconds = self.clock() - self._start
        self.save(self.campaign)

    def _calibrate(self) -> None:
        """Settle each case's number of loops, once, on the baseline."""
        for plan in self.campaign.cases:
            before = [block for block in self.campaign.blocks if block.case == plan.case.name]
            usual = values_of(plan.case, self.effort)[1]
            self._values[plan.case.name] = _values_in(before[-1]) if before else usual
            if plan.loops:
                continue
            if self.effort.mode == SMOKE.mode or plan.case.held is not None:
                # Nothing is compared, or memory is, so that a value may be short.
                plan.loops = max(plan.case.minimum_loops, SMOKE_LOOPS)
                continue
            baseline = next(arm for arm in plan.arms if arm.label == self.campaign.baseline_of(plan))
            answer = self._pace(plan, baseline)
            if "error" in answer and not answer.get("facts"):
                # Once is no reason to end a campaign, here as in its blocks.
                answer = self._pace(plan, baseline)
            if "error" in answer:
                self._retire(plan, baseline, answer["error"])
            margin = margin_of(plan.case, plan.unit)
            plan.loops = loops_of(plan.case, answer["pace"], margin=margin, control=bool(plan.labels(Kind.CONTROL)))
            warmups, _ = values_of(plan.case, self.effort)
            untimed = untimed_of(plan.case, self.effort) + plan.loops * warmups
            pace = Pace(start=answer["seconds"] + answer["pace"] * untimed, value=answer["pace"] * plan.loops)
            room = self._room(plan) / len(plan.arms)
            values = values_that_fit(plan.case, self.effort, seconds=room, pace=pace)
            self._planned[plan.case.name] = self._values[plan.case.name] = values
            self._paces[plan.case.name] = pace

    def _room(self, plan: CasePlan) -> float:
        """Return the seconds that a block of a case may take for there to be just blocks enough of every case.

        It has an equal share of what those leave that are settled already.
        """
        left = self.effort.seconds - (self.clock() - self._start)
        others = 0
        for each in self.campaign.cases:
            if each.case.name in self._paces:
                left -= self._fewest(each) * self._duration(each) / (1 - UNFORESEEN)
            else:
                others += 1
        return max(left, 0.0) / others / self._fewest(plan)

    def _fewest(self, plan: CasePlan) -> int:
        return self.effort.blocks or needed_blocks(plan, self.campaign.baseline_of(plan))

    def _pace(self, plan: CasePlan, arm: Arm) -> dict[str, Any]:
        """Run an arm without values, in a block of its own."""
        loops = max(plan.case.concurrency, 20)
        try:
            self.executor.open_block()
            return self._arms.start(
                plan, arm, loops=loops, warmups=0, values=0, trace=False, held=1, untimed=loops, is_field=False
            )
        finally:
            self.executor.close_block()

    def _run_blocks(self) -> str:
        """Let the cases take turns; return how it ended."""
        complete = Counter(block.case for block in self.campaign.blocks if not block.field)
        active = [plan for plan in self.campaign.cases if not plan.ended]
        capped = False
        while active:
            # Whoever is behind comes first: what ended a campaign that is continued may have come between two cases.
            for plan in sorted(active, key=lambda each: each.next_block):
                name = plan.case.name
                self._keep_up(active, complete)
                if len(plan.arms) < 2:
                    active.remove(plan)
                elif complete[name] >= self._fewest(plan) and self._missing(active, complete).total():
                    # Who has lost a block has the time first: too few blocks are worth nothing.
                    continue
                elif why := self._enough(plan, complete[name]):
                    plan.ended = why
                    active.remove(plan)
                elif self._left() < self._duration(plan):
                    active.remove(plan)
                    capped = True
                    plan.ended = "time cap"
                    if not complete[name]:
                        self.campaign.notes.append(
                            f"{name}: no block fitted into the time; one takes about {self._duration(plan):.0f} s."
                        )
                else:
                    block = self._run_block(plan)
                    complete[name] += block is not None and not block.field
        return "time cap" if capped else "done"

    def _enough(self, plan: CasePlan, complete: int) -> str | None:
        """Tell why a case has blocks enough: by number, or by the width of its intervals, never by where they lie.

        Stopping on significance finds differences that are none.
        """
        if self.effort.blocks is not None and complete >= self.effort.blocks:
            return "blocks"
        target, baseline = self.campaign.target, self.campaign.baseline_of(plan)
        if target is None or not is_time_to_look(complete, needed_blocks(plan, baseline)):
            return None
        name = plan.case.name
        blocks = [block for block in self.campaign.blocks if block.case == name and not block.field]
        widest = widest_of(plan, baseline, blocks)
        return "target" if widest is not None and widest <= target else None

    def _keep_up(self, active: Sequence[CasePlan], complete: Counter[str]) -> None:
        """Let blocks have fewer values where else a machine that has become slower would leave a case too few blocks.

        Blocks that were dropped leave less time, too.
        """
        missing = self._missing(active, complete)
        for plan in active:
            name, pace = plan.case.name, self._paces.get(plan.case.name)
            if pace is None or not missing[name]:
                continue
            left = self._left() - sum(missing[each.case.name] * self._duration(each) for each in active if each != plan)
            room = left / missing[name] / len(plan.arms)
            slowed = pace.slowed(self._slowness(plan, field=False))
            # Nothing is unforeseen any more: how slow it is has been seen.
            values = values_that_fit(plan.case, self.effort, seconds=room, pace=slowed, unforeseen=0)
            self._values[name] = min(self._planned[name], values)

    def _missing(self, active: Sequence[CasePlan], complete: Counter[str]) -> Counter[str]:
        """Return how many blocks each case still lacks of the fewest that give it intervals."""
        return Counter({each.case.name: max(0, self._fewest(each) - complete[each.case.name]) for each in active})

    def _slowness(self, plan: CasePlan, *, field: bool) -> float:
        """Return how many times longer than the calibration tells the slowest block so far has taken.

        Of field blocks, which take longer, only where one is next.
        """
        pace = self._paces[plan.case.name]
        blocks = (each for each in self.campaign.blocks if each.case == plan.case.name and (field or not each.field))
        return max((each.seconds / len(each.order) / pace.seconds(_values_in(each)) for each in blocks), default=1.0)

    def _duration(self, plan: CasePlan) -> float:
        """Foresee the seconds of a case's next block: as slow as the slowest so far, or what the calibration tells."""
        name = plan.case.name
        if pace := self._paces.get(name):
            return self._slowness(plan, field=self._is_field(plan)) * len(plan.arms) * pace.seconds(self._values[name])
        return max((block.seconds for block in self.campaign.blocks if block.case == name), default=0.0)

    def _is_field(self, plan: CasePlan) -> bool:
        """Tell whether a case's next block is one in the field, which is tried once between two others."""
        blocks = [block.field for block in self.campaign.blocks if block.case == plan.case.name]
        complete = blocks.count(False)
        is_due = is_field_block(complete, self.effort, needed_blocks(plan, self.campaign.baseline_of(plan)))
        return is_due and not blocks[-1] and self._tried.get(plan.case.name) != complete

    def _left(self) -> float:
        return self.effort.seconds - (self.clock() - self._start)

    def _run_block(self, plan: CasePlan) -> Block | None:
        """Run every arm once; None, and a sentence in the campaign, when the block did not complete."""
        case, index, start = plan.case, plan.next_block, self.clock()
        is_field = self._is_field(plan)
        if is_field:
            self._tried[case.name] = sum(block.case == case.name and not block.field for block in self.campaign.blocks)
        # In the field there is no floor to be known: what differs there is the heap.
        arms = [arm for arm in plan.arms if not (is_field and arm.kind is Kind.FLOOR)]
        order = order_of(self.campaign.seed, case, index, arms)
        warmups, values = values_of(case, self.effort)[0], self._values[case.name]
        rounds = rounds_of(self.campaign.seed, case, index, order, warmups + values)
        measurements: dict[str, Measurement] = {}
        try:
            self.executor.open_block()
            failure = self._arms.measure(plan, index, order, rounds, measurements, values=values, is_field=is_field)
        finally:
            self.executor.close_block()
        seconds = self.clock() - start
        kind = "field " if is_field else ""
        if failure is None and not is_field and self.effort.mode != SMOKE.mode:
            failure = self._too_short(plan, measurements)
        plan.next_block += 1
        if failure:
            self.campaign.dropped.append(f"{kind}block {index} of {case.name}: {failure}")
            self._save()
            self.progress.block(self.campaign, self._left())
            return None
        self._compare_facts(plan, measurements)
        block = Block(
            case=case.name,
            index=index,
            field=is_field,
            order=tuple(arm.label for arm in order if arm.label in measurements),
            rounds=tuple(tuple(label for label in one if label in measurements) for one in rounds),
            measurements=measurements,
            seconds=seconds,
        )
        self.campaign.blocks.append(block)
        self._save()
        self.progress.block(self.campaign, self._left())
        return block

    def _too_short(self, plan: CasePlan, measurements: dict[str, Measurement]) -> str | None:
        """Raise the loops when a value of the first block is too short; where they are settled, only note it."""
        if not measurements:
            return None
        name, case = plan.case.name, plan.case
        floor = plan.labels(Kind.FLOOR)
        timed = [each for label, each in measurements.items() if label not in floor]
        shortest = min(min(each.wall) * each.loops for each in timed)
        if shortest >= MINIMUM_VALUE:
            return None
        if case.held is not None:
            return None
        if case.connections is not None or case.burst or any(block.case == name for block in self.campaign.blocks):
            note = f"{name}: some values took less than {MINIMUM_VALUE * 1e3:g} ms, which is short for the clocks."
            if note not in self.campaign.notes:
                self.campaign.notes.append(note)
            return None
        old = plan.loops
        plan.loops = loops_of(case, shortest / plan.loops, control=bool(plan.labels(Kind.CONTROL)))
        return f"a value took {shortest * 1e3:.0f} ms only; {plan.loops} {plan.unit}s a value now, after {old}"

    def _compare_facts(self, plan: CasePlan, measurements: dict[str, Measurement]) -> None:
        """Retire whoever did other work than the baseline."""
        name = plan.case.name
        first = next((block.measurements for block in self.campaign.blocks if block.case == name), measurements)
        expected = first[self.campaign.baseline_of(plan)].facts["equal"]
        for arm in plan.arms:
            if arm.label not in measurements:  # no floor in a field block
                continue
            equal = measurements[arm.label].facts["equal"]
            # The floor has no socket, and so no facts of one.
            checked = equal if arm.kind is Kind.FLOOR else expected
            wrong = [
                f"{fact} is {equal[fact]}, the baseline's is {expected[fact]}"
                for fact in checked
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
        if arm.label == self.campaign.baseline_of(plan):
            raise _BaselineRetiredError(f"the baseline {arm.label} was retired in {name}: {reason}")


def _values_in(block: Block) -> int:
    """Return how many values each arm has in a block."""
    return max((len(each.wall) for each in block.measurements.values()), default=0)
