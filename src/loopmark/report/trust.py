"""How far a case's numbers can be trusted, in sentences: precision, gate, controls, floor, field."""

from collections.abc import Iterator, Sequence

from loopmark.case import Role
from loopmark.judgement import CONTROL_RATIO, Gate
from loopmark.record import COMPARED, Campaign, Kind, Measurement
from loopmark.report.cells import counted, interval, percent, plus_minus, told
from loopmark.report.figures import BUSY, ROWS, SIDES, CaseFigures, shown_name
from loopmark.report.kinds import short
from loopmark.report.tables import HELD_BACK, metric_name
from loopmark.stats import minimum_blocks
from loopmark.verdicts import Verdict, verdict

FIELD_BLOCKS = 3
"""With fewer than these, no field ratio is called another result."""

FIELD_MARGIN = 0.02
"""A ratio in the field that lies further off than this is a finding, and is told."""


def trust(campaign: Campaign, cases: Sequence[CaseFigures]) -> Iterator[str]:
    """Yield what a reader must know before believing the tables of a section."""
    for case in cases:
        yield f"Measured{_as_role(case)}: {' '.join(_precision(campaign, case))}"
        yield f"Gate{_as_role(case)}: {' '.join(_gate(case))}"
    yield from _held_back(cases)
    yield from _below_floor(campaign, cases)
    yield from _field(campaign, cases)


def invalid_roles(cases: Sequence[CaseFigures]) -> list[Role]:
    """Return the roles whose case its own controls call invalid."""
    return [case.plan.case.role for case in cases if case.judgement.gate is Gate.INVALID]


def _as_role(case: CaseFigures) -> str:
    role = case.plan.case.role
    return "" if role is Role.BOTH else f" as {role}"


def _sliced(measured: Sequence[Measurement]) -> str:
    """Tell that arms took their values at the same time, where they did."""
    slices = {each.metadata.get("slice") for each in measured} - {None}
    return "".join(f", all at the same time in slices of {float(each) * 1e3:g} ms" for each in slices if each)


def _precision(campaign: Campaign, case: CaseFigures) -> Iterator[str]:
    """Tell how much was measured, what ended it, and what can be seen with that."""
    measured = [each for block in case.blocks for label, each in block.measurements.items() if label in _rows(case)]
    values = sorted({len(each.wall) for each in measured})
    many = "-".join(str(each) for each in dict.fromkeys((values[0], values[-1]))) if values else "no"
    yield (
        f"{counted(len(case.blocks), 'block')} of {counted(many, 'value')} of {case.plan.loops} {case.plan.unit}s "
        f"for each contender{_sliced(measured)}."
    )
    yield _ended(campaign, case)
    judgement = case.judgement
    if judgement.reasons and judgement.gate is not Gate.INVALID:
        yield f"NO VERDICT: {'; '.join(judgement.reasons)}."
    elif not case.is_fast and judgement.blocks < judgement.needed:
        yield (
            f"No verdict: with so many contenders it takes {judgement.needed} blocks, and there are "
            f"{judgement.blocks}; more time, or fewer contenders, give more."
        )
    elif len(case.blocks) < minimum_blocks():
        yield f"A 95 % interval takes {minimum_blocks()} blocks."
    if case.is_judged and case.widest is not None:
        seen = percent((1 + case.widest) * (1 + case.margin) - 1)
        yield (
            f"In {counted(judgement.blocks, 'block')} this machine let whoever differs from {case.baseline} by more "
            f"than about {seen} be told from it; smaller differences may stay inconclusive."
        )


def _rows(case: CaseFigures) -> set[str]:
    return {arm.label for arm in case.arms if arm.kind in ROWS}


def _ended(campaign: Campaign, case: CaseFigures) -> str:
    """Tell what ended a case, and the precision that was reached against the one that was wanted."""
    why = {
        "target": "Stopped by itself",
        "blocks": "Stopped at the number of blocks that was set",
        "time cap": "Stopped at the time cap",
    }.get(case.plan.ended, "Ended early")
    if case.widest is None:
        return f"{why}."
    reached = f"{why}; the widest interval is {plus_minus(case.widest)}"
    if campaign.target is None:
        return f"{reached}."
    where = "within" if case.widest <= campaign.target else "short of"
    return f"{reached}, {where} the target of +-{100 * campaign.target:g} %."


def _gate(case: CaseFigures) -> Iterator[str]:
    """Tell what the case's own controls say."""
    gate, margin = case.judgement.gate, f"the margin of {100 * case.margin:g} %"
    twins = [label for label in case.plan.labels(Kind.TWIN) if label in _rows(case)]
    shown = ", ".join(told(case.primary(label)) for label in twins)
    came_out = f"The A/A twin{'' if len(twins) == 1 else 's'}, {case.baseline} against itself, came out at {shown}"
    if gate is Gate.INVALID:
        yield f"INVALID: {'; '.join(case.judgement.reasons)}. Nothing here gets a verdict."
    elif not twins:
        yield "there is no A/A twin that could tell, and so there is no verdict."
    elif gate is Gate.NONE:
        yield f"not to be had from {'such' if case.judgement.reasons else 'so few'} blocks. {came_out}."
    elif gate is Gate.PASSED:
        yield f"passed. {came_out}, inside {margin}."
    elif all(_is_inside(case, label) for label in twins):
        yield f"precision not reached. {came_out}, but the positive control was not found."
    else:
        yield f"precision not reached. {came_out}, not wholly inside {margin}."
    if twins:
        yield "A twin cannot see bias between libraries."
    yield from _control(case)
    yield from _position(case)


def _is_inside(case: CaseFigures, twin: str) -> bool:
    estimate = case.judgement.estimates.get(twin)
    return estimate is not None and verdict(estimate, case.margin) is Verdict.EQUIVALENT


def _control(case: CaseFigures) -> Iterator[str]:
    control = case.judgement.control
    if control is None:
        return
    what = f"Positive control, {case.baseline} doing more than is counted, truly {CONTROL_RATIO:g}"
    if control.low is None:
        yield f"{what}: too few blocks for its {100 * control.level:g} % interval."
    elif case.judgement.is_control_found:
        yield f"{what}: found at {interval(control)}, its {100 * control.level:g} % interval."
    else:
        yield f"{what}: NOT found, at {interval(control)}, its {100 * control.level:g} % interval."


def _position(case: CaseFigures) -> Iterator[str]:
    """Tell what the place in the order does, which random orders spread over all arms."""
    position = case.judgement.position
    if position is None:
        return
    where = "round" if any(block.rounds for block in case.blocks) else "block"
    yield f"The last place in a {where} against the first: {told(position)}."
    if verdict(position, case.margin) in (Verdict.FASTER, Verdict.SLOWER):
        yield (
            "WARNING: that is more than the margin. Random orders keep it from favouring anybody, but it widens the "
            "intervals, and something on this machine depends on what ran before."
        )


def _held_back(cases: Sequence[CaseFigures]) -> Iterator[str]:
    roles = [case.plan.case.role for case in cases if any(case.is_held_back(label) for label in _rows(case))]
    if roles:
        peers = " or ".join("client" if role is Role.SERVER else "server" for role in roles)
        yield (
            f"Ratios with {HELD_BACK} are from rows whose fixed {peers} was at least {100 * BUSY:.0f} % busy and set "
            f"the pace: they compare CPU time per {cases[0].plan.unit}, and no rate follows from them."
        )


def _below_floor(campaign: Campaign, cases: Sequence[CaseFigures]) -> Iterator[str]:
    """Report what needs less than the same TLS does alone."""
    for case in cases:
        role = case.plan.case.role
        for side in SIDES if role is Role.BOTH else (role.value,):
            for arm in case.arms:
                over = case.over_floor(arm.label, side) if arm.kind in ROWS else None
                if over is not None and over.high is not None and over.high < 1:
                    yield (
                        f"{shown_name(campaign, arm.label)} as {side} is below the floor, at {interval(over)} of it, "
                        "which cannot be: a bug of the measurement or of the proof."
                    )


def _field(campaign: Campaign, cases: Sequence[CaseFigures]) -> Iterator[str]:
    """Tell what fresh processes with nothing pinned gave, and where that is another result."""
    counts = {len(case.field_blocks) for case in cases}
    if not any(counts):
        yield "No field block ran: nothing here tells what fresh processes with the default malloc would give."
        return
    many = "-".join(str(each) for each in sorted({min(counts), max(counts)}))
    yield (
        f"Field check: {counted(many, 'block')} of fresh processes with nothing pinned gave the field "
        "ratios, which have no interval."
    )
    if max(counts) < FIELD_BLOCKS:
        yield f"So few field blocks tell no difference from noise; from {FIELD_BLOCKS} on it is looked for."
        return
    for case in cases:
        found = [each for arm in case.arms if (each := _disagreement(campaign, case, arm.label))]
        if found:
            yield (
                f"More than {100 * FIELD_MARGIN:.0f} % off in the field{_as_role(case)}, by "
                f"{metric_name(case.plan.case.primary)}: {'; '.join(found)}."
            )


def _disagreement(campaign: Campaign, case: CaseFigures, arm: str) -> str | None:
    """Set an arm's field ratio beside its ratio, with the minor faults that mostly explain it.

    None if they agree: as far as the margin, or as far as the A/A twin is off, which is noise.
    """
    metric = case.plan.case.primary
    here, field = case.ratio(arm, metric), case.ratio(arm, metric, field=True)
    if here is None or field is None or arm not in case.plan.labels(*COMPARED):
        return None
    if abs(field.ratio / here.ratio - 1) <= max(FIELD_MARGIN, _field_noise(case)):
        return None
    faults = []
    for side in SIDES:
        there, pinned = (case.of_side(arm, side, "minor_faults", field=each) for each in (True, False))
        if there is not None and pinned is not None:
            faults.append(f"{side} {there:.1f} against {pinned:.1f}")
    why = f" (minor faults/{short(case.plan)}: {', '.join(faults)})" if faults else ""
    return f"{shown_name(campaign, arm)} {field.ratio:.2f} against {here.ratio:.2f}{why}"


def _field_noise(case: CaseFigures) -> float:
    metric = case.plan.case.primary
    noise = [0.0]
    for twin in case.plan.labels(Kind.TWIN):
        here, field = case.ratio(twin, metric), case.ratio(twin, metric, field=True)
        if here is not None and field is not None:
            noise.append(abs(field.ratio / here.ratio - 1))
    return max(noise)
