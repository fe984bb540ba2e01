"""What one case of a campaign allows to be said: verdicts, and whether they can be trusted at all.

Only the primary metric is judged. Its intervals against the baseline hold simultaneously, for all contenders of the
case together. The gate is by margin and never by significance: a twin whose interval excludes 1 by a hair is what a
precise campaign shows one time in twenty, and no reason to throw it away.

A case may end by itself, once `widest_of` is within a target, and its intervals are then read as if the number of
blocks had been set beforehand. That assumes that how wide an interval is tells nothing about where it lies. It does not
tell the side: with all signs turned the width is the same. But a width can be small by luck, and then the interval
misses a little more often: in simulations of looks every four blocks, plain 95 % intervals missed in 5 to 6 % where the
widest of several had to be within the target, and in up to 7 % where a single one decided. Ending on significance
instead missed in 18 % (tests/test_judgement.py).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import cycle
from statistics import mean

from loopmark.comparable import refusals, timed_orders
from loopmark.plan import CONTROL_SHARE
from loopmark.record import COMPARED, Block, CasePlan, Kind
from loopmark.stats import Estimate, minimum_blocks, ratio_interval
from loopmark.verdicts import Verdict, family_level, letters, verdict

CONTROL_LEVEL = 0.99
"""Level of the positive control's interval."""

CONTROL_RATIO = 1 + 1 / CONTROL_SHARE
"""What the positive control must be found at."""


class Gate(StrEnum):
    """What the case's own controls say about it; nothing with too few blocks, without a twin, or when refused."""

    PASSED = "passed"
    UNPRECISE = "precision not reached"
    INVALID = "INVALID"
    NONE = "not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One case, judged. Estimates are of the primary metric against the baseline, by label, without the baseline."""

    blocks: int
    needed: int
    """Blocks that simultaneous intervals need."""
    margin: float
    level: float
    """Level of each of them; 95 % for all contenders together."""
    estimates: dict[str, Estimate]
    """Contenders and twins; no interval with too few blocks."""
    verdicts: dict[str, Verdict]
    """Contenders that have one; nobody has in an invalid or refused case, and in one without a twin."""
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
        return self.control is None or _is_found(self.control, self.margin)


def judge(plan: CasePlan, baseline: str, blocks: Sequence[Block], margin: float, *, together: int = 0) -> Judgement:
    """Judge a case by all of its blocks but those in the field.

    Intervals hold for all contenders of the case, and where these are a part of a campaign's, for `together` of them:
    who has seen a table may choose from it. Without an A/A twin nothing shows how much is noise, and there are no
    verdicts.
    """
    refused = tuple(refusals(plan, baseline, blocks))
    level = family_level(max(_family(plan, baseline), together))
    estimates = {} if refused else _estimates(plan, baseline, blocks, level)
    control = None if refused else _control(plan, baseline, blocks)
    wrong = tuple(_wrong(plan, baseline, estimates, control, margin))
    is_checked = bool(plan.labels(Kind.TWIN)) and not wrong
    verdicts = {
        label: each
        for label in plan.labels(*COMPARED)
        if label in estimates and is_checked and (each := verdict(estimates[label], margin)) is not None
    }
    return Judgement(
        blocks=len(blocks),
        needed=minimum_blocks(level),
        margin=margin,
        level=level,
        estimates=estimates,
        verdicts=verdicts,
        letters=_letters(baseline, {label: estimates[label] for label in verdicts}),
        gate=Gate.INVALID if wrong else _gate(plan, estimates, control, margin),
        control=control,
        position=None if refused else _position(plan, blocks),
        reasons=refused or wrong,
    )


def needed_blocks(plan: CasePlan, baseline: str) -> int:
    """Return the fewest blocks that give this case its simultaneous intervals."""
    return minimum_blocks(family_level(_family(plan, baseline)))


def widest_of(plan: CasePlan, baseline: str, blocks: Sequence[Block]) -> float | None:
    """Return the largest half-width of the primary intervals, at which a case may stop; None while one is missing."""
    estimates = _estimates(plan, baseline, blocks, family_level(_family(plan, baseline)))
    widths = [each.half_width for each in estimates.values()]
    if len(widths) < len(_compared(plan, baseline)):
        return None
    return _largest(widths)


def _compared(plan: CasePlan, baseline: str) -> list[str]:
    return [label for label in plan.labels(*COMPARED, Kind.TWIN) if label != baseline]


def _family(plan: CasePlan, baseline: str) -> int:
    """Return how many intervals hold together: the contenders', or in a campaign of twins alone those."""
    contenders = [label for label in plan.labels(*COMPARED) if label != baseline]
    return len(contenders) or len(plan.labels(Kind.TWIN))


def _estimates(plan: CasePlan, baseline: str, blocks: Sequence[Block], level: float) -> dict[str, Estimate]:
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


def _gate(plan: CasePlan, estimates: Mapping[str, Estimate], control: Estimate | None, margin: float) -> Gate:
    """Tell what the controls say when they do not say that something is wrong."""
    found = [verdict(estimates[label], margin) for label in plan.labels(Kind.TWIN) if label in estimates]
    if not found or None in found:
        return Gate.NONE
    inside = all(each is Verdict.EQUIVALENT for each in found)
    return Gate.PASSED if inside and (control is None or _is_found(control, margin)) else Gate.UNPRECISE


def _control(plan: CasePlan, baseline: str, blocks: Sequence[Block]) -> Estimate | None:
    labels = plan.labels(Kind.CONTROL)
    return _against(plan, baseline, blocks, labels[0], CONTROL_LEVEL) if labels else None


def _is_found(control: Estimate, margin: float) -> bool:
    """Tell whether the positive control's interval excludes 1 and, within the margin, contains what was added."""
    return control.low is not None and control.low > 1 and not _is_off(control, margin)


def _is_off(control: Estimate, margin: float) -> bool:
    """Tell whether the positive control's interval lies off what was added, by more than the margin."""
    if control.low is None or control.high is None:
        return False
    low, high = control.low / CONTROL_RATIO, control.high / CONTROL_RATIO
    return verdict(replace(control, low=low, high=high), margin) in (Verdict.FASTER, Verdict.SLOWER)


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
    if control is not None and _is_off(control, margin):
        more = f"{100 / CONTROL_SHARE:g} % more work than {baseline}"
        yield f"the positive control does {more}, and came out {_shown(control)}"


def _position(plan: CasePlan, blocks: Sequence[Block]) -> Estimate | None:
    """Estimate what the place in a round does, from the first to the last; None with nothing to tell it by.

    In each block the logarithms are regressed on the places (least squares), both without what is the arm's own and the
    round's. The orders are drawn anew for each block, so that the slopes are independent, and symmetric about the true
    one.
    """
    labels = [arm.label for arm in plan.arms if arm.kind is not Kind.FLOOR]
    rounds = [list(_deviations(plan, labels, block)) for block in blocks]
    flat = [each for block in rounds for each in block]
    usual = {label: [mean(column) for column in zip(*(each[label] for each in flat), strict=True)] for label in labels}
    spans = []
    for block in rounds:
        rest = [
            (place - usual[label][0], log - usual[label][1]) for each in block for label, (place, log) in each.items()
        ]
        moved = sum(place * place for place, _ in rest)
        if moved == 0:
            return None
        slope = sum(place * log for place, log in rest) / moved
        spans.append([math.exp(slope * (len(labels) - 1))])
    return ratio_interval(spans, [[1.0]] * len(spans)) if spans else None


def _deviations(plan: CasePlan, labels: Sequence[str], block: Block) -> Iterator[dict[str, tuple[float, float]]]:
    """Yield for each timed round every arm's place and the logarithm of its value, both about the round's mean."""
    values = [block.measurements[label].values(plan.case.primary) for label in labels]
    for order, row in zip(cycle(timed_orders(plan, block)), zip(*values, strict=True), strict=False):
        logs = dict(zip(labels, map(math.log, row), strict=True))
        level = mean(logs.values())
        yield {label: (place - (len(labels) - 1) / 2, logs[label] - level) for place, label in enumerate(order)}


def _shown(estimate: Estimate) -> str:
    return f"{estimate.ratio:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
