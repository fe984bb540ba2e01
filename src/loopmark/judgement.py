"""What one case of a campaign allows to be said: verdicts, and whether they can be trusted at all.

Only the primary metric is judged. Its intervals against the baseline hold simultaneously, for all contenders of the
case together. The gate is by margin and never by significance: a twin whose interval excludes 1 by a hair is what a
precise campaign shows one time in twenty, and no reason to throw it away.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import mean

from loopmark.case import Metric
from loopmark.plan import CONTROL_SHARE
from loopmark.record import Block, CasePlan, Kind
from loopmark.stats import Estimate, minimum_blocks, ratio_interval
from loopmark.verdicts import Verdict, family_level, letters, verdict

CONTROL_LEVEL = 0.99
"""Level of the positive control's interval."""

CONTROL_RATIO = 1 + 1 / CONTROL_SHARE
"""What the positive control must be found at."""

MANY = 3
"""With fewer blocks a recorded order that never changes is no surprise."""


class Gate(StrEnum):
    """What the case's own controls say about it."""

    PASSED = "passed"
    UNPRECISE = "precision not reached"
    INVALID = "INVALID"
    NONE = "too few blocks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One case, judged. Estimates are of the primary metric against the baseline, by label, without the baseline."""

    blocks: int
    needed: int
    """Blocks that simultaneous intervals need."""
    level: float
    """Level of each of them; 95 % for all contenders together."""
    estimates: dict[str, Estimate]
    """Contenders and twins; no interval with too few blocks."""
    verdicts: dict[str, Verdict]
    """Contenders that have one; nobody has in an invalid or refused case."""
    letters: dict[str, str]
    """Contenders and the baseline, in groups that the same intervals cannot tell apart; empty as the verdicts are."""
    gate: Gate
    control: Estimate | None
    """The positive control's 99 % interval, where there is one."""
    position: Estimate | None
    """What the last place in a round has over the first, as a ratio; plain 95 % interval."""
    reasons: tuple[str, ...]
    """Why the case is invalid, or why it gets no verdict; sentences without a full stop."""

    @property
    def widest(self) -> float | None:
        """Return the largest half-width of all intervals: the precision reached, as a share; None without any."""
        return _largest([each.half_width for each in self.estimates.values()])

    @property
    def is_control_found(self) -> bool:
        """Tell whether the positive control, if there is one, was found at what it truly is."""
        return self.control is None or _is_found(self.control)


def judge(plan: CasePlan, baseline: str, blocks: Sequence[Block], margin: float) -> Judgement:
    """Judge the blocks of one case, without those in the field."""
    refusals = tuple(_refusals(plan, baseline, blocks))
    level = family_level(_family(plan, baseline))
    estimates = {} if refusals else _estimates(plan, baseline, blocks)
    control = None if refusals else _control(plan, baseline, blocks)
    twins = [estimates.get(label) for label in plan.labels(Kind.TWIN)]
    wrong = () if refusals else tuple(_wrong(plan, baseline, estimates, control, margin))
    judged = {
        label: each
        for label in plan.labels(Kind.CONTENDER)
        if label in estimates and not wrong and (each := verdict(estimates[label], margin)) is not None
    }
    return Judgement(
        blocks=len(blocks),
        needed=needed_blocks(plan, baseline),
        level=level,
        estimates=estimates,
        verdicts=judged,
        letters=_letters(baseline, {label: estimates[label] for label in judged}),
        gate=Gate.INVALID if wrong else _gate(twins, control, margin),
        control=control,
        position=None if refusals else _position(plan, blocks),
        reasons=wrong or refusals,
    )


def needed_blocks(plan: CasePlan, baseline: str) -> int:
    """Return the fewest blocks that give this case its simultaneous intervals."""
    return minimum_blocks(family_level(_family(plan, baseline)))


def widest_of(plan: CasePlan, baseline: str, blocks: Sequence[Block]) -> float | None:
    """Return the largest half-width of the primary intervals, at which a case may stop; None while one is missing."""
    estimates = _estimates(plan, baseline, blocks)
    widths = [each.half_width for each in estimates.values()]
    if len(widths) < len(_compared(plan, baseline)):
        return None
    return _largest(widths)


def _compared(plan: CasePlan, baseline: str) -> list[str]:
    return [label for label in plan.labels(Kind.CONTENDER, Kind.TWIN) if label != baseline]


def _family(plan: CasePlan, baseline: str) -> int:
    """Count the intervals that hold together: the contenders', or in a campaign of twins alone those."""
    contenders = [label for label in plan.labels(Kind.CONTENDER) if label != baseline]
    return len(contenders) or len(plan.labels(Kind.TWIN))


def _estimates(plan: CasePlan, baseline: str, blocks: Sequence[Block]) -> dict[str, Estimate]:
    level = family_level(_family(plan, baseline))
    found = {label: _against(plan, baseline, blocks, label, level) for label in _compared(plan, baseline)}
    return {label: each for label, each in found.items() if each is not None}


def _against(plan: CasePlan, baseline: str, blocks: Sequence[Block], label: str, level: float) -> Estimate | None:
    """Compare an arm with the baseline; None without a common block, or when a clock was too coarse to see anything."""
    metric = plan.case.primary
    both = [block.measurements for block in blocks if {label, baseline} <= block.measurements.keys()]
    ours, theirs = ([each[arm].values(metric) for each in both] for arm in (label, baseline))
    try:
        return ratio_interval(ours, theirs, level)
    except ValueError:
        return None


def _largest(widths: Sequence[float | None]) -> float | None:
    known = [width for width in widths if width is not None]
    return max(known) if known and len(known) == len(widths) else None


def _gate(twins: Sequence[Estimate | None], control: Estimate | None, margin: float) -> Gate:
    if not twins or any(each is None or each.low is None for each in twins):
        return Gate.NONE
    inside = all(each is not None and verdict(each, margin) is Verdict.EQUIVALENT for each in twins)
    found = control is None or _is_found(control)
    return Gate.PASSED if inside and found else Gate.UNPRECISE


def _control(plan: CasePlan, baseline: str, blocks: Sequence[Block]) -> Estimate | None:
    labels = plan.labels(Kind.CONTROL)
    return _against(plan, baseline, blocks, labels[0], CONTROL_LEVEL) if labels else None


def _is_found(control: Estimate) -> bool:
    """Tell whether the positive control's interval excludes 1 and contains what was added."""
    return control.low is not None and control.high is not None and 1 < control.low <= CONTROL_RATIO <= control.high


def _letters(baseline: str, estimates: Mapping[str, Estimate]) -> dict[str, str]:
    """Group contenders and baseline, which is 1 exactly, by overlap."""
    if not estimates:
        return {}
    ends = {label: (each.low, each.high) for label, each in estimates.items() if each.low and each.high}
    return letters({baseline: (1.0, 1.0), **ends})


def _wrong(
    plan: CasePlan, baseline: str, estimates: Mapping[str, Estimate], control: Estimate | None, margin: float
) -> Iterator[str]:
    """Yield what shows, by more than the margin, that something in the measurement is not as it should be."""
    for label in plan.labels(Kind.TWIN):
        if label in estimates and verdict(estimates[label], margin) in (Verdict.FASTER, Verdict.SLOWER):
            yield f"{label} is {baseline} itself, and came out {_shown(estimates[label])}, beyond the margin"
    if control is not None and control.low is not None and control.high is not None:
        off = replace(
            control,
            ratio=control.ratio / CONTROL_RATIO,
            low=control.low / CONTROL_RATIO,
            high=control.high / CONTROL_RATIO,
        )
        if verdict(off, margin) in (Verdict.FASTER, Verdict.SLOWER):
            yield (
                f"the positive control does {100 / CONTROL_SHARE:g} % more work than {baseline}, and came out "
                f"{_shown(control)}"
            )


def _refusals(plan: CasePlan, baseline: str, blocks: Sequence[Block]) -> Iterator[str]:
    """Yield why the blocks are none that random order would have made comparable."""
    labels = [arm.label for arm in plan.arms if arm.kind is not Kind.FLOOR]
    for arm in plan.arms:
        expected = next((each.contender for each in plan.arms if each.label == baseline), arm.contender)
        if arm.kind in (Kind.TWIN, Kind.CONTROL) and arm.contender != expected:
            yield f"{arm.label} is called the {arm.kind} of {baseline}, and ran {arm.contender}"
    for block in blocks:
        there = [block.measurements[label] for label in labels if label in block.measurements]
        if len(there) < len(labels):
            missing = ", ".join(label for label in labels if label not in block.measurements)
            yield f"block {block.index} lacks {missing}: arms of unequal counts are not compared"
            return
        counts = {(len(each.wall), each.loops) for each in there}
        if len(counts) > 1:
            shown = " and ".join(f"{values} of {loops} connections" for values, loops in sorted(counts))
            yield f"block {block.index} has arms with {shown}: unequal counts are not compared"
            return
    orders = {
        tuple(label for label in order if label in labels) for block in blocks for order in (block.order, *block.rounds)
    }
    if len(blocks) >= MANY and len(labels) > 2 and len(orders) == 1:
        yield "all blocks ran in one and the same order, so what drifts looks like a difference"


def _position(plan: CasePlan, blocks: Sequence[Block]) -> Estimate | None:
    """Estimate what the place in a round does, from the first to the last.

    In each round the arms' deviations, from their own mean over all rounds and from the round's, are regressed on their
    places (least squares). The orders are drawn anew for each round, so that the blocks' mean slopes are independent,
    and symmetric about the true one.
    """
    labels = [arm.label for arm in plan.arms if arm.kind is not Kind.FLOOR]
    metric = plan.case.primary
    if len(blocks) < 2 or len(labels) < 3:  # arms that a slope would fit exactly tell nothing
        return None
    values = [
        (number, order, {label: block.measurements[label].values(metric)[index] for label in labels})
        for number, block in enumerate(blocks)
        for index, order in enumerate(_timed_orders(block, metric))
    ]
    if any(value <= 0 for _, _, each in values for value in each.values()):
        return None
    logs = [(number, order, _centred(each)) for number, order, each in values]
    usual = {label: mean(each[label] for _, _, each in logs) for label in labels}
    slopes: dict[int, list[float]] = {}
    for number, order, each in logs:
        here = [label for label in order if label in usual]
        places = [place - (len(here) - 1) / 2 for place in range(len(here))]
        rest = [each[label] - usual[label] for label in here]
        slopes.setdefault(number, []).append(_dot(places, rest) / _dot(places, places))
    spans = [[math.exp(mean(each) * (len(labels) - 1))] for each in slopes.values()]
    return ratio_interval(spans, [[1.0]] * len(spans))


def _timed_orders(block: Block, metric: Metric) -> Sequence[Sequence[str]]:
    """Return the order of the arms in each round that was timed, warm-up left out."""
    count = len(next(iter(block.measurements.values())).values(metric))
    return block.rounds[-count:] if block.rounds else [block.order] * count


def _centred(values: Mapping[str, float]) -> dict[str, float]:
    level = mean(math.log(value) for value in values.values())
    return {label: math.log(value) - level for label, value in values.items()}


def _shown(estimate: Estimate) -> str:
    return f"{estimate.ratio:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _dot(first: Sequence[float], second: Sequence[float]) -> float:
    """`math.sumprod`, which Python has from 3.12 on."""
    return sum(a * b for a, b in zip(first, second, strict=True))
