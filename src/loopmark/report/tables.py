"""The tables of a comparison: which cases share a section, the columns of its tables, their cells."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from loopmark.case import TIMES, Case, Cores, Metric, Role
from loopmark.record import Campaign, CasePlan, Trace
from loopmark.report.cells import (
    NOTHING,
    floor_and_own,
    interval,
    kibibytes,
    microseconds,
    one_digit,
    rate,
    shares,
    whole,
)
from loopmark.report.figures import SIDES, CaseFigures, figures, ranked, shown_name
from loopmark.report.kinds import has_connections, has_server, short
from loopmark.verdicts import Verdict

HELD_BACK = "*"
"""Marks a ratio from a row in which the fixed peer had no time left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells as they are shown; headers may have line breaks. All columns but the first are aligned to the right."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_text: bool = False
    """All columns are aligned to the left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The cases of one section: a server case and the client case beside it, one of them, or a self-paired one."""

    cases: tuple[CaseFigures, ...]

    def of(self, role: Role) -> CaseFigures | None:
        """Return the case in which contenders have this role."""
        return next((each for each in self.cases if each.plan.case.role is role), None)


def groups(campaign: Campaign) -> list[Group]:
    """Put the cases into sections, in the order in which the campaign has them."""
    found: dict[tuple[Case, int], list[CasePlan]] = {}
    for plan in campaign.cases:
        # What server and client cases of one section have in common; two cases in one role are two sections.
        alike = replace(plan.case, role=Role.BOTH, peer=None)
        pair = plan.case.role is not Role.BOTH
        place = 0
        while any(
            each.case.role is plan.case.role or pair is (each.case.role is Role.BOTH)
            for each in found.get((alike, place), [])
        ):
            place += 1
        found.setdefault((alike, place), []).append(plan)
    order = [Role.SERVER, Role.CLIENT, Role.BOTH]
    return [
        Group(
            cases=tuple(figures(campaign, plan) for plan in sorted(plans, key=lambda each: order.index(each.case.role)))
        )
        for plans in found.values()
    ]


_Columns = list[tuple[str, Callable[[str], str]]]


def tables(campaign: Campaign, group: Group) -> tuple[Table, ...]:
    """Fill a group's tables: one comparison for each role, and where the time goes; none without a number."""
    ran = [case for case in group.cases if case.arms]
    if not ran:
        return ()
    why = _self_paired(ran[0]) if group.of(Role.BOTH) else _against_peers(campaign, group)
    return (
        *(_filled(campaign, [case], _comparison_title(case), _comparison(case)) for case in ran),
        _filled(
            campaign, group.cases, "Where the time goes" if ran[0].plan.case.held is None else "Besides memory", why
        ),
    )


def _filled(campaign: Campaign, cases: Sequence[CaseFigures], title: str, columns: _Columns) -> Table:
    rows = [(shown_name(campaign, arm.label), *(cell(arm.label) for _, cell in columns)) for arm in ranked(cases)]
    return Table(title=title, headers=("contender", *(header for header, _ in columns)), rows=tuple(rows))


def metric_name(metric: Metric) -> str:
    """Name a metric as headers do."""
    return "wall" if metric is Metric.WALL else metric.value.replace("cpu", "CPU")


def _comparison_title(case: CaseFigures) -> str:
    metric = case.plan.case.primary
    both = "Both sides together" if metric is Metric.WALL else "Servers, each with its own client"
    alone = both if has_server(case.plan) else "Lookups"
    who = {Role.SERVER: "Servers", Role.CLIENT: "Clients", Role.BOTH: alone}[case.plan.case.role]
    return f"{who}, compared by {metric_name(metric)}{' time' if metric in TIMES else ''}"


def _comparison(case: CaseFigures) -> _Columns:
    """Return the columns of what is judged, and of what goes with it."""
    metric = case.plan.case.primary
    columns: _Columns = [
        _absolute(case, metric),
        (f"ratio\n[{'simultaneous' if case.is_simultaneous else 'plain'} 95 %]", lambda arm: _ratio(case, arm)),
    ]
    if case.is_judged:
        columns += [("verdict", lambda arm: _verdict(case, arm)), ("letters", lambda arm: case.letters(arm) or NOTHING)]
    if metric is Metric.WALL:
        columns += [
            (f"{case.plan.unit}s\n/s", lambda arm: rate(case.absolute(arm, Metric.WALL))),
            (
                f"{case.plan.unit}s per\n{'client-' if has_server(case.plan) else ''}CPU-\nsecond",
                lambda arm: rate(case.absolute(arm, Metric.CLIENT_CPU)),
            ),
        ]
    if case.field_blocks:
        columns.append(("field\nratio", lambda arm: field_ratio(case, arm)))
    return columns


def _ratio(case: CaseFigures, arm: str) -> str:
    mark = HELD_BACK if case.is_held_back(arm) else ""
    return f"1{mark}" if arm == case.baseline else interval(case.primary(arm), mark)


def _verdict(case: CaseFigures, arm: str) -> str:
    """Show the verdict; of an inconclusive one where it leans, as the question that it is."""
    verdict = case.verdict(arm)
    if arm == case.baseline:
        return "baseline"
    if verdict is None:
        return NOTHING
    return f"{verdict} ({case.leaning(arm)}?)" if verdict is Verdict.INCONCLUSIVE else str(verdict)


def field_ratio(case: CaseFigures, arm: str) -> str:
    """Show what fresh processes gave; a single block has one digit less."""
    if arm == case.baseline and case.field_blocks:
        return "1"
    estimate = case.ratio(arm, case.plan.case.primary, field=True)
    return NOTHING if estimate is None else f"{estimate.ratio:.{2 if len(case.field_blocks) > 1 else 1}f}"


def _against_peers(campaign: Campaign, group: Group) -> _Columns:
    """Return the columns about what the contender's own side does, and what bounds the row."""
    columns: _Columns = []
    for case in group.cases:
        if case.plan.case.held is None:
            columns += _bounds(case)
    sides = ", ".join(case.plan.case.role.value[0] for case in group.cases)
    server, client = group.of(Role.SERVER), group.of(Role.CLIENT)
    columns += [
        (
            f"minor\nfaults/{short(group.cases[0].plan)}\n{sides}",
            lambda arm: ", ".join(one_digit(_of_own_side(case, arm, "minor_faults")) for case in group.cases),
        ),
    ]
    if has_connections(group.cases[0].plan):
        columns.append((_bytes_header(group), lambda arm: _wire_bytes(campaign, server, client, arm)))
    return columns


def _bounds(case: CaseFigures) -> _Columns:
    side = case.plan.case.role.value
    doing = "serving" if case.plan.case.role is Role.SERVER else "calling"
    columns: _Columns = []
    if case.has_floor:
        columns.append((f"{doing}:\nfloor + own\nus/{short(case.plan)}", lambda arm: _floor_and_own(case, arm, side)))
    return [
        *columns,
        (f"{doing}:\nbusy %\ns/c", lambda arm: _busy(case, arm) if _has(case, arm) else NOTHING),
        (f"{doing}:\nbound", lambda arm: str((_has(case, arm) and case.bound_by(arm)) or NOTHING)),
    ]


def _self_paired(case: CaseFigures) -> _Columns:
    """Return the columns about both sides of a contender that talks to itself, or about the one that looks up."""
    if not has_server(case.plan):
        return [
            _absolute(case, Metric.CLIENT_CPU),
            ("CPU\n% of wall", lambda arm: shares([case.utilisation(arm, "client")])),
            ("private\nmemory KiB", lambda arm: whole([case.of_side(arm, "client", "private_kib")])),
        ]
    columns: _Columns = []
    for side, metric in SIDES.items():
        columns.append(_absolute(case, metric))
        if case.has_floor:
            columns.append((f"{side}:\nfloor + own\nus/{short(case.plan)}", _floors(case, side)))
    if case.plan.case.cores is Cores.SHARED:
        columns.append(("% of wall\ns/c/rest", lambda arm: _split(case, arm)))
    else:
        columns.append(("busy %\ns/c", lambda arm: _busy(case, arm)))
    columns += [
        ("bound", lambda arm: str(case.bound_by(arm) or NOTHING)),
        (
            "private\nmemory KiB\ns, c",
            lambda arm: whole([case.of_side(arm, side, "private_kib") for side in SIDES]),
        ),
    ]
    return columns


def _absolute(case: CaseFigures, metric: Metric) -> tuple[str, Callable[[str], str]]:
    if metric not in TIMES:
        return f"{metric_name(metric)}\nKiB/{short(case.plan)}", lambda arm: kibibytes(case.absolute(arm, metric))
    name = metric_name(metric) if has_server(case.plan) else metric_name(metric).removeprefix("client ")
    return f"{name}\nus/{short(case.plan)}", lambda arm: microseconds(case.absolute(arm, metric))


def _floors(case: CaseFigures, side: str) -> Callable[[str], str]:
    return lambda arm: _floor_and_own(case, arm, side)


def _floor_and_own(case: CaseFigures, arm: str, side: str) -> str:
    return floor_and_own(case.floor(side), case.own_cost(arm, side)) if _has(case, arm) else NOTHING


def _busy(case: CaseFigures, arm: str) -> str:
    return shares([case.utilisation(arm, side) for side in SIDES])


def _split(case: CaseFigures, arm: str) -> str:
    parts = [case.utilisation(arm, side) for side in SIDES]
    return shares([*parts, max(0.0, 1 - sum(each or 0.0 for each in parts))])


def _of_own_side(case: CaseFigures, arm: str, figure: str) -> float | None:
    """Read a figure of the side that the contender itself plays."""
    return case.of_side(arm, case.plan.case.role.value, figure) if _has(case, arm) else None


def _bytes_header(group: Group) -> str:
    return f"{'bytes' if group.cases[0].plan.case.tls is None else 'TLS bytes'}\n/conn\nto s, c"


def _wire_bytes(campaign: Campaign, server: CaseFigures | None, client: CaseFigures | None, arm: str) -> str:
    """Show what the contender itself sends: as a client to the server, as a server to the client."""

    def trace(case: CaseFigures | None) -> Trace | None:
        return campaign.traces.get(case.plan.case.name, {}).get(arm) if case else None

    calling, serving = trace(client or server), trace(server or client)
    return whole(
        [
            calling.bytes_to_server if calling else None,
            serving.bytes_to_client if serving else None,
        ]
    )


def _has(case: CaseFigures, arm: str) -> bool:
    return any(each.label == arm for each in case.arms)
