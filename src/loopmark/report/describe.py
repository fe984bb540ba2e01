"""What a campaign was: for `loopmark show`, in plain text."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from loopmark.record import Campaign, CasePlan, Kind, Trace
from loopmark.report.cells import NOTHING, counted
from loopmark.report.document import Section, ending, machine_line
from loopmark.report.figures import concerns, figures, shown_name
from loopmark.report.kinds import load
from loopmark.report.pairs import one_side
from loopmark.report.render import text
from loopmark.report.tables import Table, metric_name

EQUAL = "equal."
"""Before the names of facts that must be equal for all."""

IN_THE_LINE = {"system", "openssl", "versions"}
"""Facts of the machine that the first line about it has."""


def description(campaign: Campaign) -> str:
    """Tell what ran, where, with which versions and facts, and what did not run and why; ends with a newline."""
    return text(description_sections(campaign))


def description_sections(campaign: Campaign) -> list[Section]:
    """Return the same before any format: what there is nothing to say about has no section."""
    sections = (
        Section(title="Campaign", lines=tuple(_campaign(campaign))),
        Section(title="Cases", tables=_cases(campaign), lines=tuple(_about_cases(campaign))),
        Section(title="Without a number", lines=tuple(_outcomes(campaign))),
        Section(title="Dropped blocks", lines=tuple(_numbered(campaign, each) for each in campaign.dropped)),
        Section(title="Facts, read off live connections", tables=_facts(campaign), lines=()),
        Section(title="On the wire, one conversation each", lines=tuple(_traces(campaign))),
        Section(title="Machine", lines=tuple(_machine(campaign))),
        Section(title="Notes", lines=tuple(_numbered(campaign, each) for each in campaign.notes)),
    )
    return [section for section in sections if section.lines or section.tables]


def _campaign(campaign: Campaign) -> Iterator[str]:
    yield f"label: {campaign.label}"
    yield f"command: {' '.join(campaign.command)}"
    yield f"started: {campaign.started}"
    yield f"mode: {campaign.mode}, seed: {campaign.seed}"
    target = "none" if campaign.target is None else f"+-{100 * campaign.target:g} %"
    baselines = " or ".join(dict.fromkeys([campaign.baseline, *map(campaign.baseline_of, campaign.cases)]))
    yield f"baseline: {baselines}, margin: {100 * campaign.margin:g} %, target: {target}"
    if campaign.ended == "done":
        yield f"ended: done, after {campaign.seconds:.0f} s"
    yield from ending(campaign)
    if campaign.seconds > 0:
        # A campaign that was killed may have counted more than it timed.
        timed = min(1.0, campaign.measured_seconds / campaign.seconds)
        proof = min(1.0 - timed, campaign.proof_seconds / campaign.seconds)
        yield (
            f"of the wall time: {100 * timed:.0f} % timed values and warm-up, {100 * proof:.0f} % untimed proof on "
            f"live connections, {100 * (1 - timed - proof):.0f} % scheduling and start-up"
        )


def _cases(campaign: Campaign) -> tuple[Table, ...]:
    """Give each case a number; everything below refers to the numbers."""
    rows = []
    for number, plan in enumerate(campaign.cases, 1):
        case = figures(campaign, plan)
        rows.append(
            (
                *(str(number), plan.case.role.value, load(plan.case), metric_name(plan.case.primary)),
                *(str(len(case.blocks)), str(len(case.field_blocks)), counted(plan.loops, plan.unit)),
                *(plan.ended or NOTHING, str(case.judgement.gate)),
            )
        )
    headers = (
        "case",
        "role",
        "load",
        "judged by",
        "blocks",
        "in the\nfield",
        "a value",
        "ended by",
        "gate",
    )
    return (Table(title="", headers=headers, rows=tuple(rows), is_text=True),) if rows else ()


def _about_cases(campaign: Campaign) -> Iterator[str]:
    """Tell the names of the cases, who took part, once for all cases that agree, and why a case has no verdict."""
    for number, plan in enumerate(campaign.cases, 1):
        yield f"case {number} is {plan.case.name}"
    took_part: dict[str, list[int]] = {}
    for number, plan in enumerate(campaign.cases, 1):
        names = [shown_name(campaign, arm.label) for arm in plan.arms if arm.kind is not Kind.HIDDEN]
        took_part.setdefault(", ".join(names), []).append(number)
    for arms, numbers in took_part.items():
        yield f"arms{_where(campaign, numbers)}: {arms}"
    for number, plan in enumerate(campaign.cases, 1):
        for reason in figures(campaign, plan).judgement.reasons:
            yield f"no verdict{_where(campaign, [number])}: {reason}"


def _where(campaign: Campaign, numbers: Sequence[int]) -> str:
    """Name cases by their numbers: ` in case 2`, ` in cases 1, 3`, and nothing where it is all of them."""
    if len(numbers) == len(campaign.cases):
        return ""
    return f" in case{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"


def _numbered(campaign: Campaign, sentence: str) -> str:
    """Replace the names of cases by their numbers."""
    for number, plan in enumerate(campaign.cases, 1):
        sentence = sentence.replace(plan.case.name, f"case {number}")
    return sentence


def _outcomes(campaign: Campaign) -> Iterator[str]:
    hidden = {arm.label for plan in campaign.cases for arm in plan.arms if arm.kind is Kind.HIDDEN}
    cases: dict[tuple[str, str, str], set[int]] = {}
    for each in campaign.outcomes:
        if each.arm not in hidden:
            found = {number for number, plan in enumerate(campaign.cases, 1) if concerns(each, plan)}
            cases.setdefault((each.arm, each.status, each.reason), set()).update(found)
    for (arm, status, reason), numbers in cases.items():
        where = _where(campaign, sorted(numbers)) if numbers else ""
        yield f"{shown_name(campaign, arm)}: {status}{where}: {reason}"


def _facts(campaign: Campaign) -> tuple[Table, ...]:
    """Give each fact once for all cases in which the same arms have the same values of it."""
    cases: dict[tuple[str, tuple[tuple[str, str], ...]], list[int]] = {}
    for number, plan in enumerate(campaign.cases, 1):
        for fact, values in _facts_of_case(campaign, plan).items():
            cases.setdefault((fact, values), []).append(number)
    rows = []
    # First what must be equal for all.
    for (fact, values), numbers in sorted(cases.items(), key=lambda each: _place(each[0][0])):
        first = (fact.removeprefix(EQUAL), ", ".join(map(str, numbers)))
        for row, (value, names) in enumerate(values):
            rows.append((*(("", "") if row else first), value, names))
    headers = ("fact", "cases", "value", "arms")
    return (Table(title="", headers=headers, rows=tuple(rows), is_text=True),) if rows else ()


def _place(fact: str) -> tuple[bool, str]:
    return not fact.startswith(EQUAL), fact


def _facts_of_case(campaign: Campaign, plan: CasePlan) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return each fact's values, each with the names of the arms that have it; the floor may have none of it."""
    seen: dict[str, dict[str, dict[str, None]]] = {}
    arms: dict[str, None] = {}
    floor = set(plan.labels(Kind.FLOOR))
    for block in (block for block in campaign.blocks if block.case == plan.case.name):
        for label in _visible(plan, block.measurements):
            arms[label] = None
            for name, value in _flat(block.measurements[label].facts):
                seen.setdefault(name, {}).setdefault(value, {})[label] = None
    return {
        name: tuple(
            (value, "all" if labels.keys() | floor == arms.keys() | floor else _names(campaign, plan, labels))
            for value, labels in values.items()
        )
        for name, values in seen.items()
    }


def _names(campaign: Campaign, plan: CasePlan, labels: Collection[str]) -> str:
    return one_side(plan, labels) or ", ".join(shown_name(campaign, label) for label in labels)


def _traces(campaign: Campaign) -> Iterator[str]:
    """Give one line for all whose records agree in direction and type; lengths vary with signatures."""
    if not campaign.traces:
        return
    yield "> is to the server, < to the client; of each record its type and its length in bytes"
    alike: dict[tuple[Any, ...], list[tuple[str, Trace]]] = {}
    for number, plan in enumerate(campaign.cases, 1):
        traces = campaign.traces.get(plan.case.name, {})
        here: dict[tuple[Any, ...], list[str]] = {}
        for label in _visible(plan, traces):
            here.setdefault(_shape(traces[label]), []).append(label)
        for shape, labels in here.items():
            name = f"{'all' if len(here) == 1 else _names(campaign, plan, labels)} in case {number}"
            alike.setdefault(shape, []).extend((name, traces[label]) for label in labels)
    for found in alike.values():
        those, first = [trace for _, trace in found], found[0][1]
        who = dict.fromkeys(name for name, _ in found)
        yield (
            f"{'all' if len(alike) == 1 else '; '.join(who)}: {_range([each.bytes_to_server for each in those])} "
            f"bytes to the server, {_range([each.bytes_to_client for each in those])} to the client; group "
            f"{first.group or 'none'}; first close_notify: {first.first_close_notify or 'none'}; first FIN: "
            f"{first.first_fin or 'none'}; {counted(len(first.records), 'record')}: {', '.join(first.records)}"
        )


def _shape(trace: Trace) -> tuple[Any, ...]:
    kinds = tuple(record.rpartition(" ")[0] for record in trace.records)
    return kinds, trace.group, trace.first_close_notify, trace.first_fin


def _visible(plan: CasePlan, labels: Mapping[str, object]) -> list[str]:
    """Return the arms that are shown, in one order for all blocks, whatever the order in which they ran."""
    hidden = plan.labels(Kind.HIDDEN)
    order = [arm.label for arm in plan.arms]
    rest = [label for label in labels if label not in order]
    return [label for label in (*order, *rest) if label in labels and label not in hidden]


def _range(numbers: list[int]) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else f"{min(numbers)}-{max(numbers)}"


def _machine(campaign: Campaign) -> Iterator[str]:
    yield machine_line(campaign).removeprefix("Machine: ")
    for key, value in campaign.machine.items():
        if value not in (None, {}, []) and key not in IN_THE_LINE:
            yield f"{_words(key)}: {_value(value)}"


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _value(value)


def _words(key: str) -> str:
    return key.replace("_mib", " MiB").replace("_", " ") if key.islower() and "." not in key else key


def _value(value: Any) -> str:
    match value:
        case None:
            return "unknown"
        case bool():
            return "yes" if value else "no"
        case Mapping():
            return ", ".join(f"{_words(key)} {_value(each)}" for key, each in value.items())
        case list() | tuple():
            return ", ".join(_value(each) for each in value)
        case _:
            return str(value)
