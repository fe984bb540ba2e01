"""What a campaign was: for `loopmark show`, in plain text."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from loopmark.record import Campaign, Trace
from loopmark.report.document import Section, ending, machine_line
from loopmark.report.figures import concerns, shown_name
from loopmark.report.render import text


def description(campaign: Campaign) -> str:
    """Tell what ran, where, with which versions and facts, and what did not run and why; ends with a newline."""
    parts = (
        ("Campaign", _campaign(campaign)),
        ("Machine", _machine(campaign)),
        ("Cases", _cases(campaign)),
        ("Without a number", _outcomes(campaign)),
        ("Dropped blocks", iter(campaign.dropped)),
        ("Facts, read off live connections", _facts(campaign)),
        ("On the wire, one conversation each", _traces(campaign)),
        ("Notes", iter(campaign.notes)),
    )
    found = [(title, tuple(lines)) for title, lines in parts]
    return text([Section(title=title, table=None, lines=lines) for title, lines in found if lines])


def _campaign(campaign: Campaign) -> Iterator[str]:
    yield f"label: {campaign.label}"
    yield f"command: {' '.join(campaign.command)}"
    yield f"started: {campaign.started}; mode: {campaign.mode}; seed: {campaign.seed}"
    yield f"baseline: {campaign.baseline}; it also runs as {shown_name(campaign, campaign.twin)}"
    yield f"ended: {campaign.ended}, after {campaign.seconds:.0f} s"
    yield from ending(campaign)
    if campaign.seconds > 0:
        # A campaign that was killed may have counted more than it timed.
        timed = min(1.0, campaign.measured_seconds / campaign.seconds)
        proof = min(1.0 - timed, campaign.proof_seconds / campaign.seconds)
        yield (
            f"of the wall time: {100 * timed:.0f} % timed values and warm-up, {100 * proof:.0f} % untimed proof on "
            f"live connections, {100 * (1 - timed - proof):.0f} % scheduling and start-up"
        )


def _machine(campaign: Campaign) -> Iterator[str]:
    yield machine_line(campaign).removeprefix("Machine: ")
    for key, value in campaign.machine.items():
        if value not in (None, {}, []):
            yield f"{key}: {_value(value)}"


def _cases(campaign: Campaign) -> Iterator[str]:
    for plan in campaign.cases:
        blocks = [block for block in campaign.blocks if block.case == plan.case.name]
        field = sum(block.field for block in blocks)
        labels = {arm.label: shown_name(campaign, arm.label) for arm in plan.arms if not arm.hidden}
        yield (
            f"{plan.case.name}: {len(blocks) - field} blocks and {field} in the field, {plan.loops} connections a "
            f"value, judged by {plan.case.primary}; {', '.join(labels.values())}"
        )


def _outcomes(campaign: Campaign) -> Iterator[str]:
    hidden = {arm.label for plan in campaign.cases for arm in plan.arms if arm.hidden}
    cases: dict[tuple[str, str, str], list[str]] = {}
    every = {plan.case.name for plan in campaign.cases}
    for each in campaign.outcomes:
        if each.arm not in hidden:
            found = [plan.case.name for plan in campaign.cases if concerns(each, plan)]
            cases.setdefault((each.arm, each.status, each.reason), []).extend(found or [each.case])
    for (arm, status, reason), names in cases.items():
        where = "" if set(names) in ({"*"}, every) else f" in {', '.join(names)}"
        yield f"{shown_name(campaign, arm)}: {status}{where}: {reason}"


def _facts(campaign: Campaign) -> Iterator[str]:
    """Give what all cases agree on once, and the rest under the names of its cases."""
    ran = [plan.case.name for plan in campaign.cases if any(block.case == plan.case.name for block in campaign.blocks)]
    cases: dict[str, list[str]] = {}
    for case in ran:
        for line in _facts_of_case(campaign, case):
            cases.setdefault(line, []).append(case)
    for line, names in cases.items():
        yield line if len(names) == len(ran) else f"{' and '.join(names)}: {line}"


def _facts_of_case(campaign: Campaign, case: str) -> Iterator[str]:
    """Give each fact once where all arms agree, else each of its values with the arms that have it."""
    seen: dict[str, dict[str, dict[str, None]]] = {}
    arms: dict[str, None] = {}
    for block in (block for block in campaign.blocks if block.case == case):
        for label in _visible(campaign, case, block.measurements):
            arms[label] = None
            for name, value in _flat(block.measurements[label].facts):
                seen.setdefault(name, {}).setdefault(value, {})[label] = None
    equal = [f"{name}: {next(iter(values))}" for name, values in seen.items() if _is_equal(values, arms)]
    if equal:
        yield f"equal for all: {', '.join(equal)}"
    for name, values in seen.items():
        if not _is_equal(values, arms):
            told = (f"{value} ({_names(campaign, labels)})" for value, labels in values.items())
            yield f"{name}: {'; '.join(told)}"


def _names(campaign: Campaign, labels: Iterable[str]) -> str:
    return ", ".join(shown_name(campaign, label) for label in labels)


def _is_equal(values: Mapping[str, Mapping[str, None]], arms: Mapping[str, None]) -> bool:
    return len(values) == 1 and all(labels.keys() == arms.keys() for labels in values.values())


def _traces(campaign: Campaign) -> Iterator[str]:
    """Give one line for all arms whose records agree in direction and type; lengths vary with signatures."""
    for case, traces in campaign.traces.items():
        alike: dict[tuple[Any, ...], list[str]] = {}
        for label in _visible(campaign, case, traces):
            alike.setdefault(_shape(traces[label]), []).append(label)
        for labels in alike.values():
            those, first = [traces[label] for label in labels], traces[labels[0]]
            names = "all contenders" if len(alike) == 1 else _names(campaign, labels)
            yield (
                f"{case}, {names}: {_range([each.bytes_to_server for each in those])} bytes to the server, "
                f"{_range([each.bytes_to_client for each in those])} to the client; group {first.group or 'none'}; "
                f"first close_notify: {first.first_close_notify or 'none'}; first FIN: {first.first_fin or 'none'}; "
                f"{len(first.records)} records: {', '.join(first.records)}"
            )


def _shape(trace: Trace) -> tuple[Any, ...]:
    kinds = tuple(record.rpartition(" ")[0] for record in trace.records)
    return kinds, trace.group, trace.first_close_notify, trace.first_fin


def _visible(campaign: Campaign, case: str, labels: Mapping[str, object]) -> list[str]:
    hidden = {arm.label for plan in campaign.cases if plan.case.name == case for arm in plan.arms if arm.hidden}
    # In one order for all blocks, so that the text does not depend on the order in which they ran.
    order = [arm.label for plan in campaign.cases if plan.case.name == case for arm in plan.arms]
    rest = [label for label in labels if label not in order]
    return [label for label in (*order, *rest) if label in labels and label not in hidden]


def _range(numbers: list[int]) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else f"{min(numbers)}-{max(numbers)}"


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _value(value)


def _value(value: Any) -> str:
    match value:
        case None:
            return "unknown"
        case bool():
            return "yes" if value else "no"
        case Mapping():
            return ", ".join(f"{key} {_value(each)}" for key, each in value.items())
        case list() | tuple():
            return ", ".join(_value(each) for each in value)
        case _:
            return str(value)
