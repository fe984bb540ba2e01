"""The tables of a comparison: which cases share one, its columns, its cells."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from loopmark.case import Case, Cores, Metric, Role
from loopmark.record import Campaign, CasePlan, Trace
from loopmark.report.figures import CaseFigures, figures, ranked, shown_name
from loopmark.stats import Estimate, Summary

NOTHING = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells as they are shown; headers may have line breaks. All columns but the first are aligned to the right."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The cases of one table: a server case and the client case beside it, one of them, or a self-paired one."""

    cases: tuple[CaseFigures, ...]

    def of(self, role: Role) -> CaseFigures | None:
        """Return the case in which contenders have this role."""
        return next((each for each in self.cases if each.plan.case.role is role), None)


def groups(campaign: Campaign) -> list[Group]:
    """Put the cases into tables, in the order in which the campaign has them."""
    found: dict[tuple[Case, int], list[CasePlan]] = {}
    for plan in campaign.cases:
        # What server and client cases of one table have in common; two cases in one role are two tables.
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


_Cell = Callable[[str], str]


def table(campaign: Campaign, group: Group) -> Table:
    """Fill a group's table: one row for each arm that has numbers."""
    columns = _self_paired(group.cases[0]) if group.of(Role.BOTH) else _against_peers(campaign, group)
    rows = [
        (shown_name(campaign, arm.label), *(cell(arm.label) for _, cell in columns))
        for arm in ranked(campaign, group.cases)
    ]
    return Table(headers=("contender", *(header for header, _ in columns)), rows=tuple(rows))


def _against_peers(campaign: Campaign, group: Group) -> list[tuple[str, _Cell]]:
    server, client = group.of(Role.SERVER), group.of(Role.CLIENT)
    columns: list[tuple[str, _Cell]] = []
    for case in group.cases:
        side = case.plan.case.role.value
        columns += [
            (f"{side} CPU\nus/conn", _absolute(case, case.plan.case.primary)),
            ("ratio\n[95 % interval]", _ratio(case, case.plan.case.primary)),
        ]
    for case in group.cases:
        words = "serving" if case.plan.case.role is Role.SERVER else "calling"
        columns.append((f"{words}:\nbusy % s/c,\nbound by", _busy(case)))
    sides = ", ".join(case.plan.case.role.value[0] for case in group.cases)
    columns += [
        (f"minor\nfaults/conn\n{sides}", _each(group.cases, lambda case, arm: _one(_own(case, arm, "minor_faults")))),
        (_bytes_header(group), lambda arm: _wire_bytes(campaign, server, client, arm)),
    ]
    if any(case.field_blocks for case in group.cases):
        columns.append((f"field\nratio\n{sides}", _each(group.cases, _field_ratio)))
    return columns


def _self_paired(case: CaseFigures) -> list[tuple[str, _Cell]]:
    columns: list[tuple[str, _Cell]] = [
        ("wall\nus/conn", _absolute(case, Metric.WALL)),
        ("ratio\n[95 % interval]", _ratio(case, Metric.WALL)),
        ("client CPU\nus/conn", _absolute(case, Metric.CLIENT_CPU)),
        ("server CPU\nus/conn", _absolute(case, Metric.SERVER_CPU)),
        ("connections\n/s", lambda arm: _rate(case.absolute(arm, Metric.WALL))),
        ("connections per\nclient-CPU-\nsecond", lambda arm: _rate(case.absolute(arm, Metric.CLIENT_CPU))),
        (
            "private\nmemory KiB\ns, c",
            lambda arm: _pair(*(case.of_side(arm, side, "private_kib") for side in ("server", "client"))),
        ),
    ]
    if case.plan.case.cores is not Cores.SHARED:
        columns.append(("busy % s/c,\nbound by", _busy(case)))
    if case.field_blocks:
        columns.append(("field\nratio", lambda arm: _field_ratio(case, arm)))
    return columns


def _absolute(case: CaseFigures, metric: Metric) -> _Cell:
    return lambda arm: microseconds(case.absolute(arm, metric) if _has(case, arm) else None)


def _ratio(case: CaseFigures, metric: Metric) -> _Cell:
    def cell(arm: str) -> str:
        if arm == case.baseline and _has(case, arm):
            return "1"
        return interval(case.ratio(arm, metric) if _has(case, arm) else None)

    return cell


def _busy(case: CaseFigures) -> _Cell:
    def cell(arm: str) -> str:
        word = case.bound_by(arm) if _has(case, arm) else None
        if word is None:
            return NOTHING
        server, client = (case.utilisation(arm, side) or 0.0 for side in ("server", "client"))
        return f"{100 * server:.0f}/{100 * client:.0f} {word}"

    return cell


def _each(cases: Sequence[CaseFigures], show: Callable[[CaseFigures, str], str]) -> _Cell:
    return lambda arm: ", ".join(show(case, arm) if _has(case, arm) else NOTHING for case in cases)


def _own(case: CaseFigures, arm: str, figure: str, *, field: bool = False) -> float | None:
    """Read a figure of the side that the contender itself plays."""
    return case.of_side(arm, case.plan.case.role.value, figure, field=field)


def _field_ratio(case: CaseFigures, arm: str) -> str:
    if arm == case.baseline and case.field_blocks:
        return "1"
    estimate = case.ratio(arm, case.plan.case.primary, field=True)
    return NOTHING if estimate is None else f"{estimate.ratio:.2f}"


def _bytes_header(group: Group) -> str:
    return f"{'bytes' if group.cases[0].plan.case.tls is None else 'TLS bytes'}\n/conn\nto s, c"


def _wire_bytes(campaign: Campaign, server: CaseFigures | None, client: CaseFigures | None, arm: str) -> str:
    """Show what the contender itself sends: as a client to the server, as a server to the client."""

    def trace(case: CaseFigures | None) -> Trace | None:
        return campaign.traces.get(case.plan.case.name, {}).get(arm) if case else None

    calling, serving = trace(client or server), trace(server or client)
    return _pair(
        calling.bytes_to_server if calling else None,
        serving.bytes_to_client if serving else None,
    )


def _has(case: CaseFigures, arm: str) -> bool:
    return any(each.label == arm for each in case.arms)


def microseconds(figure: Summary | None) -> str:
    """Show seconds as microseconds, three digits or all before the point: the median and the range over blocks."""
    if figure is None:
        return NOTHING
    middle = 1e6 * figure.median
    digits = 0 if middle >= 99.95 else 1 if middle >= 9.995 else 2
    low, high = (f"{1e6 * each:.{digits}f}" for each in (figure.lowest, figure.highest))
    return f"{middle:.{digits}f} ({low}-{high})"


def interval(estimate: Estimate | None) -> str:
    """Show a ratio with its interval, or say that there are too few blocks for one."""
    if estimate is None:
        return NOTHING
    if estimate.low is None or estimate.high is None:
        return f"{estimate.ratio:.3f} too few blocks"
    return f"{estimate.ratio:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _rate(figure: Summary | None) -> str:
    return NOTHING if figure is None or not figure.median else f"{1 / figure.median:.0f}"


def _one(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _pair(first: float | None, second: float | None) -> str:
    return ", ".join(NOTHING if each is None else f"{each:.0f}" for each in (first, second))
