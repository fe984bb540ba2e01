"""A comparison as sections of tables and sentences, before any format: what a table does not say by itself."""

from collections.abc import Iterator
from dataclasses import dataclass

from loopmark.case import Case, ClosePolicy, Cores, Role
from loopmark.record import Campaign
from loopmark.report.cells import counted, microseconds
from loopmark.report.figures import BUSY, HALF, SIDES, shown_name
from loopmark.report.kinds import asked_for, has_connections, has_server, load, short, stays_open
from loopmark.report.tables import Group, Table, groups, tables
from loopmark.report.trust import invalid_roles, trust

NO_LOOP = "blocking"
"""The contender without a loop, with one connection at a time."""

PLACEMENT = {
    Cores.SHARED: "client and server processes share one core",
    Cores.SEPARATE: "client and server processes have one core each",
    Cores.ANY: "client and server processes run wherever the system puts them",
}

CLOSING = {
    ClosePolicy.BOTH_NOTIFY: "the server sends its reply, close_notify and FIN, the client answers with its own "
    "close_notify; nobody waits for it",
    ClosePolicy.FIN: "the server sends its reply and FIN, the client reads to the end of the stream and closes",
    ClosePolicy.CLIENT_NOTIFY: "the client sends close_notify and closes, then the server does",
    ClosePolicy.CLIENT_FIN: "the client closes, then the server does",
    ClosePolicy.HALF_CLOSE: "the client ends its stream and reads on, the server answers what it has read, then ends",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A title, perhaps tables, and sentences that belong to them."""

    title: str
    tables: tuple[Table, ...] = ()
    lines: tuple[str, ...]


def comparison_sections(campaign: Campaign) -> list[Section]:
    """Return one section per group of cases, and one about all of them."""
    found = groups(campaign)
    sections = [
        Section(title=title(group), tables=tables(campaign, group), lines=tuple(_lines(campaign, group)))
        for group in found
    ]
    is_judged = any(case.is_judged for group in found for case in group.cases)
    return [*sections, Section(title="About these numbers", lines=tuple(_about(campaign, is_judged=is_judged)))]


def title(group: Group) -> str:
    """Name a section by what was run, where, and who plays which side; by INVALID first, where it is."""
    plan, case = group.cases[0].plan, group.cases[0].plan.case
    placement = {Cores.SHARED: "one shared core", Cores.SEPARATE: "separate cores", Cores.ANY: "not pinned"}[case.cores]
    if not has_server(plan):
        placement, roles = "not pinned" if case.cores is Cores.ANY else "one core", "without a server"
    elif case.role is Role.BOTH:
        roles = "both sides are the same contender; never ranks servers"
    elif len(group.cases) == 2:
        roles = "servers under one fixed client, clients against one fixed server"
    else:
        roles = "servers under one fixed client" if case.role is Role.SERVER else "clients against one fixed server"
    return f"{_invalid(group)}{asked_for(case)}, {load(case)}, {placement}: {roles}"


def _invalid(group: Group) -> str:
    found = invalid_roles(group.cases)
    if not found:
        return ""
    return "INVALID: " if len(found) == len(group.cases) else f"INVALID as {found[0]}: "


def _lines(campaign: Campaign, group: Group) -> Iterator[str]:
    yield from asked(group)
    yield from _without(campaign, group)
    yield from trust(campaign, group.cases)
    if any(case.arms for case in group.cases):
        yield from _columns(group)


def asked(group: Group) -> Iterator[str]:
    """Tell what was run: question, placement, peers, TLS, close, and what figures are of."""
    first = group.cases[0].plan
    case = first.case
    if first.question:
        yield first.question
    if not has_server(first):
        where = "wherever the system puts it" if case.cores is Cores.ANY else "on one core, with all of its threads"
        yield f"Placement: the process runs {where}. Figures are per {first.unit}; no server is called."
        return
    yield f"Placement: {PLACEMENT[case.cores]}.{_network(case)}{_peers(group)}"
    # Older campaigns did not say it, and had one policy.
    close = first.close or (ClosePolicy.FIN if case.tls is None else ClosePolicy.BOTH_NOTIFY)
    if has_connections(first):
        yield f"{_tls(case)} Close ({close}): {CLOSING[close]}."
    else:
        yield (
            f"UDP, without connections. Figures are per {first.unit}: each socket sends a datagram when it has the "
            "answer to the one before; a value in which one was lost is void."
        )
    if stays_open(first):
        yield f"Figures are per {first.unit}. Connections are opened before, and closed after, what is timed."
    if case.held is not None:
        yield (
            f"Memory is what the connections beyond the first {case.held} add to a process's private memory, for each "
            "of them. They are open and do nothing; in the end each has its conversation."
        )


def _network(case: Case) -> str:
    if case.rtt is None:
        return ""
    return f" Between them is a network with a round-trip time of {case.rtt:g} ms: wall time is mostly waiting."


def _columns(group: Group) -> Iterator[str]:
    """Explain what the headers of the tables cannot."""
    plan, case = group.cases[0].plan, group.cases[0].plan.case
    private = "Private memory is what a process holds after the last value, above its ready state."
    if not has_server(plan):
        yield f"% of wall: above 100 with several threads. {private}"
    elif case.held is not None:
        yield "s: server, c: client."
    elif case.cores is not Cores.SHARED:
        yield (
            "s: server, c: client. busy %: CPU time of the server's and of the client's process in the wall time"
            f"{_threads(group)}. {_bound(group)}"
        )
    else:
        yield f"s: server, c: client. % of wall: their CPU time in the wall time, and what is left. {_bound(group)}"
    yield from _floor(group)
    if case.role is not Role.BOTH:
        sends = "; bytes are what the contender itself sends" if has_connections(plan) else ""
        whole = f" in one whole connection, with one {plan.unit}" if stays_open(plan) else ""
        yield f"Faults are those of the contender's own process{sends}{whole}."
    elif has_server(plan):
        yield (
            f"{plan.unit}s per client-CPU-second leaves out the server and all waiting: it is no rate that anybody "
            f"sees. {private}"
        )
    if case.concurrency == 1 and any(arm.label == NO_LOOP for each in group.cases for arm in each.arms):
        what = "sockets" if has_server(plan) else "calls"
        yield f"{NO_LOOP} is the row without a loop: plain blocking {what}, one {plan.unit} after the other."


def _threads(group: Group) -> str:
    shares = [case.utilisation(arm.label, side) for case in group.cases for arm in case.arms for side in SIDES]
    return ", above 100 with several threads" if any(share and share > 1.005 for share in shares) else ""


def _bound(group: Group) -> str:
    """Put the rule of `figures.bottleneck` into words."""
    has_floor = any(case.has_floor for case in group.cases)
    if group.cases[0].plan.case.cores is Cores.SHARED:
        tls = f"TLS-bound where both floors together are at least {100 * HALF:.0f} % of the wall time, else "
        sides = "the side that takes at least two thirds of it"
        return f"bound, what limits the row: {tls if has_floor else ''}{sides}; else mixed."
    tls = f", TLS-bound where the floor is at least {100 * HALF:.0f} % of that side's CPU time"
    return (
        f"bound, what limits the row: the side that alone is at least {100 * BUSY:.0f} % busy"
        f"{tls if has_floor else ''}; mixed where both or neither are."
    )


def _floor(group: Group) -> Iterator[str]:
    """Tell what the floor is and how far it wandered, or that there is none."""
    case = group.cases[0].plan.case
    if case.tls is None or case.held is not None:
        return
    told = [
        f"{side} {microseconds(floor)}"
        for case in group.cases
        for side in SIDES
        if case.plan.case.role.value in (side, Role.BOTH) and (floor := case.floor(side))
    ]
    if not told:
        yield "No floor was measured: nothing here tells how much of the time is TLS itself."
        return
    yield (
        "floor: CPU time of the same handshake and messages in memory with the same OpenSSL, without socket, kernel or "
        f"loop, in the same blocks: {'; '.join(told)} us/{short(group.cases[0].plan)}. own: what the contender and the "
        "kernel need beyond it, the median over blocks of the difference."
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
    cipher = f", cipher {case.tls.cipher}" if case.tls.cipher else ""
    tickets = f"{case.tls.tickets} after a handshake" if case.tls.tickets else "off"
    handshake = "resumes a session" if case.tls.resumed else "is a full one"
    clients = f", clients show a certificate ({case.tls.client_key})" if case.tls.client_key else ""
    return (
        f"TLS {case.tls.version}, key {case.tls.key}, group {case.tls.group}{cipher}; tickets {tickets}, "
        f"every handshake {handshake}; chain and host name verified{clients}."
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


def _about(campaign: Campaign, *, is_judged: bool) -> Iterator[str]:
    yield from ending(campaign)
    if campaign.mode == "fast":
        yield "This is a fast run: few and short blocks, plain intervals only, no verdict."
    where = "round" if any(block.rounds for block in campaign.blocks) else "block"
    found = dict.fromkeys(map(campaign.baseline_of, campaign.cases)) or [campaign.baseline]
    baselines = " or ".join(found) + (" (whose ratio is 1)" if len(found) > 1 else "")
    less = " or ".join(dict.fromkeys("time" if plan.case.held is None else "memory" for plan in campaign.cases))
    yield (
        f"Ratios are to {baselines} in the same {where}; below 1 is less {less}. In brackets: intervals over "
        "blocks (Hodges-Lehmann estimate, Wilcoxon signed-rank interval). Simultaneous ones hold all together, for all "
        "contenders of a table, with 95 %; plain ones each by itself, and of many some are wrong. They cover "
        "repetition within this campaign, on this machine and this build, and nothing else: not another hour, not "
        "other machines, builds or settings."
    )
    if is_judged:
        yield (
            "Verdict: faster or slower where the interval lies wholly beyond the margin of "
            f"{100 * campaign.margin:g} %, equivalent where wholly inside, else inconclusive, and in parentheses what "
            "the ratio alone would say, which is no finding."
        )
        yield (
            "Contenders that share no letter differ, by the same intervals, be it by less than the margin. A shared "
            "letter is not equality."
        )
    yield "Absolute figures: the median over blocks, in parentheses the lowest and the highest block."
    if any(each.case.rtt is None and each.case.held is None and has_server(each) for each in campaign.cases):
        yield "On loopback the receiver's kernel path is charged to the sender."
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
            # Where instructions are counted no time is.
            after = f" after {campaign.seconds:.0f} s" if campaign.seconds else ""
            yield f"The campaign was interrupted{after}; all that was finished is in."
        case "running":
            yield "The campaign is still running, or was killed; all that was finished is in."
        case sentence:
            yield f"The campaign ended early: {sentence.rstrip('.')}."
    if campaign.dropped:
        many = len(campaign.dropped)
        yield f"{counted(many, 'block')} {'was' if many == 1 else 'were'} dropped; `loopmark show` tells why."


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
