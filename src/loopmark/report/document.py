"""A comparison as sections of tables and sentences, before any format: what a table does not say by itself."""

from collections.abc import Iterator
from dataclasses import dataclass

from loopmark.case import Case, ClosePolicy, Cores, Metric, Role
from loopmark.record import Campaign
from loopmark.report.figures import BUSY, CaseFigures, shown_name
from loopmark.report.tables import Group, Table, groups, interval, table
from loopmark.stats import minimum_blocks

FIELD_BLOCKS = 3
"""With fewer than these, no field ratio is called another result."""

FIELD_MARGIN = 0.02
"""A ratio in the field that lies further off than this is a finding, and is told."""

PLACEMENT = {
    Cores.SHARED: "client and server processes share one core",
    Cores.SEPARATE: "client and server processes have one core each",
    Cores.ANY: "client and server processes run wherever the system puts them",
}

CLOSING = {
    ClosePolicy.BOTH_NOTIFY: "the server sends its reply, close_notify and FIN, the client answers with its own "
    "close_notify; nobody waits for it",
    ClosePolicy.FIN: "the server sends its reply and FIN, the client reads to the end of the stream and closes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A title, perhaps a table, and sentences that belong to it."""

    title: str
    table: Table | None
    lines: tuple[str, ...]


def comparison_sections(campaign: Campaign) -> list[Section]:
    """Return one section per table, and one about all of them."""
    sections = [
        Section(
            title=title(group), table=table(campaign, group) if _any(group) else None, lines=_lines(campaign, group)
        )
        for group in groups(campaign)
    ]
    return [*sections, Section(title="About these numbers", table=None, lines=tuple(_about(campaign)))]


def title(group: Group) -> str:
    """Name a table by what was run, where, and who plays which side."""
    case = group.cases[0].plan.case
    load = f"a burst of {case.concurrency}" if case.burst else f"{case.concurrency} at a time"
    placement = {Cores.SHARED: "one shared core", Cores.SEPARATE: "separate cores", Cores.ANY: "not pinned"}[case.cores]
    if case.role is Role.BOTH:
        roles = "both sides are the same contender; never ranks servers"
    elif len(group.cases) == 2:
        roles = "servers under one fixed client, clients against one fixed server"
    else:
        roles = "servers under one fixed client" if case.role is Role.SERVER else "clients against one fixed server"
    return f"{case.benchmark}, {load}, {placement}: {roles}"


def _any(group: Group) -> bool:
    return any(case.arms for case in group.cases)


def _lines(campaign: Campaign, group: Group) -> tuple[str, ...]:
    return tuple(
        line
        for part in (_asked(group), _without(campaign, group), _precision(campaign, group), _field(campaign, group))
        for line in part
    )


def _asked(group: Group) -> Iterator[str]:
    """Tell what was run: question, placement, peers, TLS, close."""
    first = group.cases[0].plan
    case = first.case
    if first.question:
        yield first.question
    yield f"Placement: {PLACEMENT[case.cores]}.{_peers(group)}"
    close = first.close or (ClosePolicy.FIN if case.tls is None else ClosePolicy.BOTH_NOTIFY)
    yield f"{_tls(case)} Close ({close}): {CLOSING[close]}."
    if case.role is not Role.BOTH:
        yield (
            "s: server, c: client. busy %: CPU time of the server's and of the client's process in the wall time; "
            f"bound by: the side that is at least {100 * BUSY:.0f} % busy. Faults are those of the contender's own "
            "process; bytes are what the contender itself sends."
        )
    else:
        yield (
            "connections per client-CPU-second leaves out the server and all waiting: it is no rate that anybody "
            "sees. Private memory of server and client (s, c) is what they hold after the last value, above their "
            "ready state."
        )


def _peers(group: Group) -> str:
    sentences = []
    for each in group.cases:
        peer = each.plan.case.peer
        if each.plan.case.role is Role.SERVER:
            sentences.append(f" Every server is called by the same {peer} client.")
        elif each.plan.case.role is Role.CLIENT:
            sentences.append(f" Every client calls the same {peer} server.")
    return "".join(sentences)


def _tls(case: Case) -> str:
    if case.tls is None:
        return "Plain TCP."
    return (
        f"TLS {case.tls.version}, key {case.tls.key}, group {case.tls.group}; tickets off, every handshake is a full "
        "one; chain and host name verified."
    )


def _without(campaign: Campaign, group: Group) -> Iterator[str]:
    """Give the reason for every arm that is missing, once for all cases of the table."""
    seen: dict[tuple[str, str, str], list[str]] = {}
    for case in group.cases:
        for each in case.outcomes:
            seen.setdefault((each.arm, each.status, each.reason), []).append(case.plan.case.role.value)
    for (arm, status, reason), roles in seen.items():
        where = f" as {roles[0]}" if len(roles) < len(group.cases) else ""
        yield f"{shown_name(campaign, arm)} has no number ({status}{where}): {reason.rstrip('.')}."


def _precision(campaign: Campaign, group: Group) -> Iterator[str]:
    """Tell how many blocks and values there are, and what the twin came out at."""
    counts = []
    for case in group.cases:
        values = {len(each.wall) for block in case.blocks for each in block.measurements.values()}
        many = "-".join(str(each) for each in sorted({min(values), max(values)})) if values else "no"
        counts.append(
            f"{_role(case)}{_counted(str(len(case.blocks)), 'block')} of {_counted(many, 'value')} of "
            f"{case.plan.loops} connections for each contender"
        )
    yield f"Measured: {'; '.join(counts)}."
    if min(len(case.blocks) for case in group.cases) < minimum_blocks():
        yield f"A 95 % interval needs at least {minimum_blocks()} blocks: more time, or fewer contenders, give more."
    twins = []
    for case in group.cases:
        metric = case.plan.case.primary
        if any(arm.label == campaign.twin for arm in case.arms):
            twins.append(f"{metric_name(metric)} {interval(case.ratio(campaign.twin, metric))}")
    if twins:
        yield f"A/A twin, {campaign.baseline} against itself: {', '.join(twins)}."


def _counted(many: str, thing: str) -> str:
    return f"{many} {thing}" if many == "1" else f"{many} {thing}s"


def _role(case: CaseFigures) -> str:
    role = case.plan.case.role
    return "" if role is Role.BOTH else f"as {role}, "


def metric_name(metric: Metric) -> str:
    """Name a metric as headers do."""
    return "wall" if metric is Metric.WALL else metric.value.replace("cpu", "CPU")


def _field(campaign: Campaign, group: Group) -> Iterator[str]:
    """Tell what fresh processes with nothing pinned gave, and where that is another result."""
    counts = {len(case.field_blocks) for case in group.cases}
    if not any(counts):
        yield "No field block ran: nothing here tells what fresh processes with the default malloc would give."
        return
    many = "-".join(str(each) for each in sorted({min(counts), max(counts)}))
    yield (
        f"Field check: {_counted(many, 'block')} of fresh processes with nothing pinned gave the field "
        "ratios, which have no interval."
    )
    if max(counts) < FIELD_BLOCKS:
        yield f"So few field blocks tell no difference from noise; from {FIELD_BLOCKS} on it is looked for."
        return
    for case in group.cases:
        told = [each for arm in case.arms if (each := _disagreement(campaign, case, arm.label))]
        if told:
            yield (
                f"More than {100 * FIELD_MARGIN:.0f} % off in the field, {_role(case)}"
                f"{metric_name(case.plan.case.primary)}: {'; '.join(told)}."
            )


def _disagreement(campaign: Campaign, case: CaseFigures, arm: str) -> str | None:
    """Set an arm's field ratio beside its ratio, with the minor faults that mostly explain it.

    None if they agree: as far as the margin, or as far as the A/A twin is off, which is noise.
    """
    metric = case.plan.case.primary
    here, field = case.ratio(arm, metric), case.ratio(arm, metric, field=True)
    if here is None or field is None or arm == campaign.twin:
        return None
    if abs(field.ratio / here.ratio - 1) <= max(FIELD_MARGIN, _field_noise(campaign, case)):
        return None
    faults = []
    for side in ("server", "client"):
        there, pinned = (case.of_side(arm, side, "minor_faults", field=each) for each in (True, False))
        if there is not None and pinned is not None:
            faults.append(f"{side} {there:.1f} against {pinned:.1f}")
    told = f" (minor faults/conn: {', '.join(faults)})" if faults else ""
    return f"{shown_name(campaign, arm)} {field.ratio:.2f} against {here.ratio:.2f}{told}"


def _field_noise(campaign: Campaign, case: CaseFigures) -> float:
    metric = case.plan.case.primary
    here, field = case.ratio(campaign.twin, metric), case.ratio(campaign.twin, metric, field=True)
    return 0.0 if here is None or field is None else abs(field.ratio / here.ratio - 1)


def _about(campaign: Campaign) -> Iterator[str]:
    yield from ending(campaign)
    if campaign.mode == "fast":
        yield "This is a fast run: few and short blocks, intervals only, no verdict."
    yield (
        f"Ratios are to {campaign.baseline} in the same block; below 1 is less time. In brackets: plain 95 % intervals "
        "(Hodges-Lehmann estimate, Wilcoxon signed-rank interval over blocks). They cover repetition on this "
        "machine and this build only, not other machines, builds or settings. Of many plain intervals some are wrong."
    )
    yield "Absolute figures: the median over blocks, in parentheses the lowest and the highest block."
    yield "On loopback the receiver's kernel path is charged to the sender."
    yield "The A/A twin is the baseline once more: its distance from 1 is noise. Bias between libraries it cannot see."
    yield f"{machine_line(campaign)}."
    yield from campaign.notes


def ending(campaign: Campaign) -> Iterator[str]:
    """Tell how a campaign ended, unless it simply finished, and which blocks it lost."""
    match campaign.ended:
        case "done":
            pass
        case "time cap":
            yield f"The campaign stopped at its time cap, after {campaign.seconds:.0f} s, with what it had reached."
        case "interrupted":
            yield f"The campaign was interrupted after {campaign.seconds:.0f} s; every finished block is in."
        case "running":
            yield "The campaign is still running, or was killed; every finished block is in."
        case sentence:
            yield f"The campaign ended early: {sentence.rstrip('.')}."
    if campaign.dropped:
        many = len(campaign.dropped)
        yield f"{many} block{' was' if many == 1 else 's were'} dropped; `loopmark show` tells why."


def machine_line(campaign: Campaign) -> str:
    """Sum up machine, system, interpreter and libraries in one line; what is unknown is left out."""
    facts = campaign.machine
    cpu, python = facts.get("cpu") or {}, facts.get("python") or {}
    cores = cpu.get("physical_cores") or cpu.get("logical_cores")
    built = [word.upper() if python.get(word) else f"no {word.upper()}" for word in ("pgo", "lto") if word in python]
    words = [
        cpu.get("model"),
        f"{cores} core{'' if cores == 1 else 's'}" if cores else None,
        "virtual machine" if facts.get("virtualisation") else None,
        facts.get("system"),
        " ".join(str(python[key]) for key in ("implementation", "version") if python.get(key)) or None,
        f"({', '.join(built)})" if built else None,
        " ".join(str(facts.get("openssl") or "").split()[:2]),  # without the date of its release
        *(f"{name} {version}" for name, version in (facts.get("versions") or {}).items()),
    ]
    text = ", ".join(str(word) for word in words if word).replace(", (", " (")
    return f"Machine: {text or 'unknown'}"
