"""Instructions per connection as tables and sentences, and what has become of them since an earlier count."""

from collections.abc import Iterator, Sequence
from typing import Any

from loopmark.case import Role
from loopmark.counts import Change, Counts, Row, sides_of
from loopmark.record import CasePlan
from loopmark.report.cells import NOTHING, percent
from loopmark.report.document import Section, ending, machine_line
from loopmark.report.figures import shown_name
from loopmark.report.formats import rendered
from loopmark.report.kinds import asked_for, has_server, load, short
from loopmark.report.tables import Table

COLUMNS = (
    *("case", "benchmark", "role", "concurrency", "peer", "tls", "arm", "contender", "kind", "side"),
    *("connections", "instructions", "ratio", "repeatability"),
)
"""Of a count; `connections` are what was counted, in the case's unit, and `instructions` are per one of them.

`repeatability` is how much the baseline's two counts differ."""

CHANGE_COLUMNS = ("case", "arm", "side", "old", "new", "change", "finding")

UNSEEN = (
    "Counted is what a process itself executes in user space, nothing else: no system call's work in the kernel, no "
    "waiting, no cache or branch that was missed. So it is no time and ranks nobody: work that a contender leaves to "
    "the kernel costs nothing here."
)


def instructions_report(counts: Counts, format: str = "text") -> str:  # noqa: A002 - the command line's own word
    """Render all counts; formats and errors as of `formats.rendered`."""
    campaign = counts.campaign
    about = {
        "started": campaign.started,
        "label": campaign.label,
        "baseline": campaign.baseline,
        "valgrind": campaign.machine.get("valgrind"),
        "ended": campaign.ended,
    }
    return rendered(format, lambda: _sections(counts), COLUMNS, lambda: _flat(counts), about)


def change_report(change: Change, format: str = "text") -> str:  # noqa: A002 - the command line's own word
    """Render what the gate found; formats and errors as of `formats.rendered`. There must be no refusals."""
    about = {
        "threshold": change.threshold,
        "slower": len(change.slower),
        "repeatability": change.repeatability,
        "unmatched": list(change.unmatched),
    }
    return rendered(
        format, lambda: _change_sections(change), CHANGE_COLUMNS, lambda: map(_flat_row, change.rows), about
    )


def _flat(counts: Counts) -> Iterator[dict[str, Any]]:
    for plan in counts.campaign.cases:
        case = plan.case
        for arm in plan.arms:
            for side in sides_of(plan):
                count = counts.of(case.name, arm.label, side)
                if count:
                    yield {
                        "case": case.name,
                        "benchmark": case.benchmark,
                        "role": case.role.value,
                        "concurrency": case.concurrency,
                        "peer": case.peer,
                        "tls": case.tls and case.tls.version,
                        "arm": arm.label,
                        "contender": arm.contender,
                        "kind": arm.kind.value,
                        "side": side,
                        "connections": count.connections,
                        "instructions": count.instructions,
                        "ratio": counts.ratio(case.name, arm.label, side),
                        "repeatability": counts.repeatability(case.name, side),
                    }


def _sections(counts: Counts) -> list[Section]:
    sections = [_section(counts, plan) for plan in counts.campaign.cases]
    return [*sections, Section(title="About these numbers", lines=tuple(_about(counts)))]


def _section(counts: Counts, plan: CasePlan) -> Section:
    sides = sides_of(plan)
    rows = []
    for arm in plan.arms:
        if any(counts.of(plan.case.name, arm.label, side) for side in sides):
            cells = [cell for side in sides for cell in _cells(counts, plan, arm.label, side)]
            rows.append((shown_name(counts.campaign, arm.label), *cells))
    names = {side: f"{side}\n" if has_server(plan) else "" for side in sides}
    headers = [head for name in names.values() for head in (f"{name}thousands/{short(plan)}", f"{name}ratio")]
    table = Table(title="", headers=("contender", *headers), rows=tuple(rows))
    return Section(title=_title(plan), tables=(table,) if rows else (), lines=tuple(_lines(counts, plan)))


def _title(plan: CasePlan) -> str:
    return f"{asked_for(plan.case)}, {load(plan.case)}: instructions per {plan.unit}"


def _cells(counts: Counts, plan: CasePlan, arm: str, side: str) -> tuple[str, str]:
    count, ratio = counts.of(plan.case.name, arm, side), counts.ratio(plan.case.name, arm, side)
    return _thousands(count.instructions) if count else NOTHING, f"{ratio:.4f}" if ratio else NOTHING


def _thousands(instructions: float) -> str:
    """Show thousands, five digits at least."""
    return f"{instructions / 1000:.{0 if instructions >= 1e7 else 1 if instructions >= 1e6 else 2}f}"


def _lines(counts: Counts, plan: CasePlan) -> Iterator[str]:
    case = plan.case
    if plan.question:
        yield plan.question
    if not has_server(plan):
        yield "No server is called: counted is the one process that looks up."
    elif case.role is Role.BOTH:
        yield "Both sides are the same contender; one of them is counted at a time."
    elif case.role is Role.SERVER:
        yield f"Every server is called by the same {case.peer} client, which is not counted."
    else:
        yield f"Every client calls the same {case.peer} server, which is not counted."
    told = [(side, counts.repeatability(case.name, side)) for side in sides_of(plan)]
    only = not has_server(plan)
    shown = ", ".join(
        percent(share) if only else f"{side} {percent(share)}" for side, share in told if share is not None
    )
    if shown:
        yield f"Repeatability: the baseline's second count differs from its first by: {shown}."
    for outcome in counts.campaign.outcomes:
        if outcome.case in (case.name, case.benchmark, "*"):
            name = shown_name(counts.campaign, outcome.arm)
            yield f"{name} has no number ({outcome.status}): {outcome.reason.rstrip('.')}."


def _about(counts: Counts) -> Iterator[str]:
    yield from ending(counts.campaign)
    yield UNSEEN
    campaign = counts.campaign
    found = dict.fromkeys(map(campaign.baseline_of, campaign.cases)) or [campaign.baseline]
    yield (
        f"Ratios are to {' or '.join(found)}; below 1 is fewer instructions. There are no intervals: each count "
        "is one of fresh processes, and a second one differs about as little as the baseline's does."
    )
    yield f"{machine_line(counts.campaign)}, valgrind {counts.campaign.machine.get('valgrind') or 'unknown'}."
    yield from counts.campaign.notes


def _change_sections(change: Change) -> list[Section]:
    found = []
    for case in dict.fromkeys(row.case for row in change.rows):
        rows = [row for row in change.rows if row.case == case]
        table = Table(
            title="",
            headers=("contender", "side", "OLD\nthousands", "NEW\nthousands", "change", "finding"),
            rows=tuple(
                (
                    row.arm,
                    row.side,
                    _thousands(row.old),
                    _thousands(row.new),
                    _share(row),
                    _finding(row),
                )
                for row in rows
            ),
        )
        found.append(Section(title=case.name, tables=(table,), lines=()))
    return [*found, Section(title="The gate", lines=tuple(_conclusion(change)))]


def _conclusion(change: Change) -> Iterator[str]:
    allowed = f"{100 * change.threshold:g} %"
    if change.slower:
        yield f"FAILED: more than {allowed} more instructions: {_named(change.slower)}."
    else:
        yield f"Passed: nobody executes more than {allowed} more instructions."
    yield f"Repeatability: the baseline's two counts differ by {percent(change.repeatability)} at most."
    yield UNSEEN
    if change.processors:
        old, new = change.processors
        yield (
            f"OLD was counted on {old}, NEW on {new}. Valgrind shows programs a processor of its own, so this should "
            "not matter; where all counts changed alike, it does."
        )
    yield from (f"Not compared: {each}." for each in change.unmatched)


def _named(rows: Sequence[Row]) -> str:
    return "; ".join(f"{row.arm} ({row.side}) {_share(row)} in {row.case.name}" for row in rows)


def _share(row: Row) -> str:
    return f"{100 * (row.change - 1):+.2f} %"


def _finding(row: Row) -> str:
    return "slower" if row.is_slower else "passed"


def _flat_row(row: Row) -> dict[str, Any]:
    return {
        "case": row.case.name,
        "arm": row.arm,
        "side": row.side,
        "old": row.old,
        "new": row.new,
        "change": row.change,
        "finding": _finding(row),
    }
