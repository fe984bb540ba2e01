"""A matrix as tables and sentences: plain numbers, without any verdict."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from loopmark.case import Cores, Role
from loopmark.plan import BETWEEN
from loopmark.record import Campaign
from loopmark.report.cells import NOTHING, counted, percent
from loopmark.report.document import Section, asked, ending, machine_line
from loopmark.report.figures import SIDES
from loopmark.report.kinds import asked_for, has_connections, load, short
from loopmark.report.pairs import Matrix, matrix_of
from loopmark.report.tables import Group, Table


def is_matrix(campaign: Campaign) -> bool:
    """Tell whether a campaign is one of pairs."""
    return any(plan.case.role is Role.PAIR for plan in campaign.cases)


def matrix_sections(campaign: Campaign) -> list[Section]:
    """Return one section per matrix, and one about all of them."""
    found = [matrix_of(campaign, plan) for plan in campaign.cases]
    sections = [
        Section(title=_title(each), tables=_tables(each) if each.labels else (), lines=tuple(_lines(campaign, each)))
        for each in found
    ]
    return [*sections, Section(title="About these numbers", lines=tuple(_about(campaign)))]


def _title(matrix: Matrix) -> str:
    case = matrix.case.plan.case
    placement = {Cores.SHARED: "one shared core", Cores.SEPARATE: "separate cores", Cores.ANY: "not pinned"}[case.cores]
    return f"{asked_for(case)}, {load(case)}, {placement}: every client with every server"


def _tables(matrix: Matrix) -> tuple[Table, ...]:
    baseline = matrix.baseline
    servers = [
        *_ratios(matrix, "server"),
        ("lowest", *(_end(min, matrix.across(name, "server")) for name in matrix.names)),
        ("highest", *(_end(max, matrix.across(name, "server")) for name in matrix.names)),
    ]
    clients = [
        (*row, _end(min, matrix.across(row[0], "client")), _end(max, matrix.across(row[0], "client")))
        for row in _ratios(matrix, "client")
    ]
    headers = ("client", *map(_narrow, matrix.names))
    return (
        Table(
            title=f"Servers: their CPU time by that of {baseline}'s server, called by the same client",
            headers=headers,
            rows=tuple(servers),
        ),
        Table(
            title=f"Clients: their CPU time by that of {baseline}'s client, calling the same server",
            headers=(*headers, "lowest", "highest"),
            rows=tuple(clients),
        ),
        Table(
            title=f"CPU time of server/client, us/{short(matrix.case.plan)}",
            headers=headers,
            rows=tuple(_rows(matrix, lambda *pair: _both(matrix.microseconds(*pair)))),
        ),
    )


def _rows(matrix: Matrix, cell: Callable[[str, str], str]) -> list[tuple[str, ...]]:
    """Fill one row per client, one column per server."""
    return [(caller, *(cell(caller, server) for server in matrix.names)) for caller in matrix.names]


def _ratios(matrix: Matrix, side: str) -> list[tuple[str, ...]]:
    return _rows(matrix, lambda caller, server: _ratio(matrix.ratio(caller, server, side)))


def _narrow(name: str) -> str:
    """Break a name where a header can be broken."""
    return name.replace("-", "-\n").replace("+", "+\n")


def _ratio(ratio: float | None) -> str:
    return NOTHING if ratio is None else "1" if ratio == 1 else f"{ratio:.2f}"


def _end(choose: Callable[[Sequence[float]], float], ratios: Mapping[str, float]) -> str:
    return _ratio(choose(list(ratios.values())) if ratios else None)


def _both(times: tuple[float, ...] | None) -> str:
    return "/".join(f"{each:.0f}" for each in times) if times else NOTHING


def _lines(campaign: Campaign, matrix: Matrix) -> Iterator[str]:
    yield from asked(Group(cases=(matrix.case,)))
    yield from _proven(matrix)
    yield from _missing(matrix)
    yield from (f"Not to be trusted: {reason}." for reason in matrix.case.judgement.reasons)
    if not matrix.labels:
        yield "No block was completed, so there is no number."
        return
    yield from _depends(matrix)
    yield from _noise(campaign, matrix)


def _proven(matrix: Matrix) -> Iterator[str]:
    """Tell how many pairs understand each other, and what stands behind that."""
    if not matrix.labels:
        return
    case, names = matrix.case, len(matrix.names)
    one = case.blocks[0].measurements[next(iter(matrix.labels.values()))]
    tls, plan = case.plan.case.tls, case.plan
    how = "resumed a session" if tls and tls.resumed else "was a full one"
    handshakes = f"every handshake {how}, verified by the client, " if tls else ""
    wire = ", and one conversation of each pair was read on the wire" if has_connections(plan) else ""
    yield (
        f"{len(matrix.labels)} of {names**2} pairs of {counted(names, 'client')} and as many servers understand each "
        f"other: {handshakes}every reply was compared byte for byte, both sides counted the same {plan.unit}s{wire}."
    )
    yield (
        f"Measured: {counted(len(case.blocks), 'block')}, every pair once in each, with "
        f"{counted(len(one.wall), 'value')} of {one.loops} {plan.unit}s."
    )


def _missing(matrix: Matrix) -> Iterator[str]:
    """Give the reason of everything that has no number, once for all that have the same one."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for each in matrix.case.outcomes:
        reasons.setdefault((each.status, each.reason), []).append(each.arm)
    for (status, reason), arms in reasons.items():
        have = "has" if len(arms) == 1 else "have"
        yield f"{', '.join(sorted(arms))} {have} no number ({status}): {reason.rstrip('.')}."
    if any(BETWEEN in arm for arms in reasons.values() for arm in arms):
        yield f"`{NOTHING}` stands for a pair without a number, and for one whose counterpart has none."


def _depends(matrix: Matrix) -> Iterator[str]:
    """Name the server whose number depends most on who calls it."""
    servers = {name: matrix.across(name, "server") for name in matrix.names if name != matrix.baseline}
    spans = {name: max(each.values()) / min(each.values()) for name, each in servers.items() if len(each) > 1}
    if not spans:
        return
    most = max(spans, key=spans.__getitem__)
    (low, least), *_, (high, greatest) = sorted(servers[most].items(), key=lambda each: each[1])
    yield (
        f"By caller the number of one server, {most}, goes furthest: from {least:.2f} of {matrix.baseline}'s CPU time "
        f"when {low} calls both, to {greatest:.2f} when {high} does."
    )


def _noise(campaign: Campaign, matrix: Matrix) -> Iterator[str]:
    """Tell how far the numbers can be believed."""
    twins = [matrix.twin(side) for side in SIDES]
    if None not in twins:
        server, client = (f"{each:.3f}" for each in twins)
        baseline = campaign.baseline_of(matrix.case.plan)
        yield (
            f"Noise: the A/A twin, {baseline} once more, came out at {server} of itself as server and at {client} as "
            "client."
        )
    wander = [matrix.wander(side) for side in SIDES]
    if None not in wander:
        server, client = (percent(each) for each in wander if each is not None)
        yield (
            f"From its lowest to its highest block a ratio of servers differs by {server}, one of clients by {client} "
            "(medians of all pairs). Of noisy numbers the lowest and the highest lie apart even where nothing depends "
            "on the other side."
        )
    yield (
        "The servers of one client take their values in turns; the clients of one server do not where there are many "
        "pairs, and are compared across the whole block."
    )


def _about(campaign: Campaign) -> Iterator[str]:
    yield from ending(campaign)
    yield (
        "These are plain numbers without intervals, and no verdict follows from them: `loopmark run` compares servers "
        "under one fixed client, and clients against one fixed server. Below 1 is less time. Ratios are Hodges-Lehmann "
        "estimates over blocks; with six blocks or more `--format csv` has their plain 95 % intervals."
    )
    yield "Absolute figures: the median over blocks."
    yield "On loopback the receiver's kernel path is charged to the sender."
    yield f"{machine_line(campaign)}."
    yield from campaign.notes
