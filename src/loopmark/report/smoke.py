"""A smoke pass as one table: who proved its work in which case, and why others did not. No number is compared."""

from collections.abc import Iterator

from loopmark.plan import SMOKE
from loopmark.record import Campaign, CasePlan, Kind
from loopmark.report.cells import NOTHING, counted
from loopmark.report.document import Section, ending, machine_line
from loopmark.report.figures import concerns, shown_name
from loopmark.report.kinds import load
from loopmark.report.tables import Table

PROVING = (Kind.CONTENDER, Kind.TWIN, Kind.FLOOR, Kind.REFERENCE)


def is_smoke(campaign: Campaign) -> bool:
    """Tell whether a campaign proves work and compares nothing."""
    return campaign.mode == SMOKE.mode


def smoke_sections(campaign: Campaign) -> list[Section]:
    """Return the table of all cases, the reasons for what is missing, and what ended the pass."""
    rows = tuple(_row(campaign, plan) for plan in campaign.cases)
    headers = ("case", "proved\ntheir work", "cannot", "failed")
    table = Table(title="", headers=headers, rows=rows, is_text=True)
    return [Section(title="Smoke pass: one block of every case", tables=(table,), lines=tuple(_lines(campaign)))]


def _row(campaign: Campaign, plan: CasePlan) -> tuple[str, ...]:
    case = plan.case
    proved = {
        arm.label
        for block in campaign.blocks
        if block.case == case.name
        for arm in plan.arms
        if arm.kind in PROVING and arm.label in block.measurements
    }
    name = f"{case.benchmark}:{case.variant}" if case.variant else case.benchmark
    return (
        f"{name}, {case.role}, {load(case)}",
        str(len(proved)),
        str(_count(campaign, plan, "unsupported", "skipped") or NOTHING),
        str(_count(campaign, plan, "retired", "not comparable") or NOTHING),
    )


def _count(campaign: Campaign, plan: CasePlan, *statuses: str) -> int:
    return len({each.arm for each in campaign.outcomes if each.status in statuses and concerns(each, plan)})


def _lines(campaign: Campaign) -> Iterator[str]:
    yield (
        "Every arm made real connections; its replies were compared, its counters and facts checked, and its wire "
        "judged. One short value each says nothing about speed: there is no ratio here, and none should be made of it."
    )
    reasons: dict[tuple[str, str, str], int] = {}
    for each in campaign.outcomes:
        key = shown_name(campaign, each.arm), each.status, each.reason
        reasons[key] = reasons.get(key, 0) + 1
    for (arm, status, reason), times in reasons.items():
        often = f", {counted(times, 'time')}" if times > 1 else ""
        yield f"{arm} has no number ({status}{often}): {reason.rstrip('.')}."
    yield from ending(campaign)
    yield f"{machine_line(campaign)}."
    yield from campaign.notes
