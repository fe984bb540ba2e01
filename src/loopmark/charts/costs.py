"""What one unit costs a side, stacked: OpenSSL alone, sockets without a loop, event loop and library."""

from collections.abc import Iterator
from dataclasses import dataclass

from loopmark.case import TIMES, Metric, Role
from loopmark.charts.chart import BLUE, GREEN, ORANGE, STEP, WIDTH, Chart, Rows, Spec, contenders_down, tip, whole
from loopmark.charts.words import digits, heading, unit
from loopmark.record import Campaign
from loopmark.report.cells import NOTHING
from loopmark.report.document import NO_LOOP
from loopmark.report.figures import SIDES, CaseFigures, ranked, shown_name
from loopmark.report.kinds import has_server

FLOOR, SOCKETS = "OpenSSL in memory (the floor)", "sockets without a loop"
LOOP, BEYOND = "event loop and library", "sockets, event loop and library"
COLOURS = {FLOOR: BLUE, SOCKETS: ORANGE, LOOP: GREEN, BEYOND: GREEN}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One side of a case, in microseconds."""

    case: CaseFigures
    side: str

    @property
    def floor(self) -> float:
        figure = self.case.floor(self.side)
        return 1e6 * figure.median if figure else 0.0

    def own(self, arm: str) -> float | None:
        """Return what comes on top of the floor: the median over blocks of the difference; all, without a floor."""
        if self.case.has_floor:
            cost = self.case.own_cost(arm, self.side)
            return None if cost is None else 1e6 * cost
        figure = self.case.absolute(arm, SIDES[self.side])
        return 1e6 * figure.median if figure else None

    @property
    def sockets(self) -> float | None:
        """Return what sockets without a loop cost; with several connections at a time nobody tells."""
        alone = self.case.plan.case.concurrency == 1 and not self.case.plan.case.burst
        return self.own(NO_LOOP) if alone and any(arm.label == NO_LOOP for arm in self.case.arms) else None


def costs(campaign: Campaign, case: CaseFigures, slug: str) -> Iterator[Chart]:
    """Chart the side that contenders play, or both, each by itself; nothing where no CPU time was seen or judged."""
    role = case.plan.case.role
    if case.plan.case.primary not in TIMES:
        return
    for side, metric in SIDES.items():
        figures = [case.absolute(arm.label, metric) for arm in case.arms]
        if role in (Role.BOTH, Role(side)) and any(each is not None and each.median > 0 for each in figures):
            yield _chart(campaign, _Side(case=case, side=side), slug, metric)


def _chart(campaign: Campaign, side: _Side, slug: str, metric: Metric) -> Chart:
    case = side.case
    per = unit(case, metric)
    values: Rows = []
    rows: list[tuple[str, ...]] = []
    for arm in ranked([case]):
        own = side.own(arm.label)
        if own is None:
            continue
        name = shown_name(campaign, arm.label)
        parts = _parts_of(side, own)
        values += [
            {
                "contender": name,
                "part": part,
                "place": place,
                "cost": round(cost, 4),
                "shown": f"{digits(cost)} {per}",
                "sum": digits(side.floor + own),
            }
            for place, (part, cost) in enumerate(parts.items())
        ]
        rows.append((name, digits(side.floor + own), *_cells(side, own)))
    title = f"{heading(case)}, CPU time of the {side.side} per {case.plan.unit}"
    return Chart(
        slug=f"{slug}-cost-{side.side}",
        title=title,
        alt=f"{title}, stacked bars in {per}: {'; '.join(_words(row, _headers(side)) for row in rows)}.",
        spec=whole(title, _subtitle(side), values, _parts(side, per)),
        headers=("contender", f"sum, {per}", *_headers(side)),
        rows=tuple(rows),
    )


def _parts_of(side: _Side, own: float) -> dict[str, float]:
    """Split a cost into what can be stacked: no part is negative, and together they are the whole."""
    parts = {FLOOR: side.floor + min(0.0, own)} if side.case.has_floor else {}
    above, sockets = max(0.0, own), side.sockets
    if sockets is None:
        return {**parts, BEYOND: above}
    without = min(above, max(0.0, sockets))
    return {**parts, SOCKETS: without, LOOP: above - without}


def _headers(side: _Side) -> tuple[str, ...]:
    floor = ("floor", "beyond it") if side.case.has_floor else ()
    return (*floor, *(("of that without a loop", "event loop and library") if side.sockets is not None else ()))


def _cells(side: _Side, own: float) -> tuple[str, ...]:
    """Show the parts as they were found, also a loop that costs less than none."""
    floor = (digits(side.floor), _signed(own)) if side.case.has_floor else ()
    if side.sockets is None:
        return floor
    return (*floor, _signed(side.sockets), _signed(own - side.sockets))


def _signed(cost: float) -> str:
    return digits(cost) if cost >= 0 else f"-{digits(-cost)}"


def _words(row: tuple[str, ...], headers: tuple[str, ...]) -> str:
    parts = ", ".join(f"{cell} {header}" for cell, header in zip(row[2:], headers, strict=True) if cell != NOTHING)
    return f"{row[0]} {row[1]}" + (f" ({parts})" if parts else "")


def _subtitle(side: _Side) -> list[str]:
    lines = []
    if side.case.has_floor:
        lines.append("The floor does the same handshake and messages in memory with the same OpenSSL.")
    elif side.case.plan.case.tls is not None:
        lines.append("No floor was measured: TLS itself is in all of the bars.")
    if side.sockets is not None:
        lines.append(f"Without a loop: what {NO_LOOP} takes beyond that, with one connection at a time.")
    if has_server(side.case.plan) and side.case.plan.case.rtt is None:
        lines.append("On loopback the receiver's kernel path is charged to the sender.")
    return lines


def _parts(side: _Side, per: str) -> Spec:
    names = [FLOOR] if side.case.has_floor else []
    names += [BEYOND] if side.sockets is None else [SOCKETS, LOOP]
    return {
        "width": WIDTH,
        "height": {"step": STEP},
        "mark": {"type": "bar"},
        "encoding": {
            "y": contenders_down(),
            "x": {
                "field": "cost",
                "type": "quantitative",
                "stack": "zero",
                "title": f"{per}, {side.side} CPU time",
                "axis": {"grid": True, "tickCount": 8},
            },
            "color": {
                "field": "part",
                "type": "nominal",
                "title": None,
                "scale": {"domain": names, "range": [COLOURS[name] for name in names]},
            },
            "order": {"field": "place", "type": "quantitative"},
            "tooltip": tip(contender="contender", part="part", shown="costs", sum="of"),
        },
    }
