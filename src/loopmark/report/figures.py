"""From a campaign's blocks to the numbers of a row: pure, and without a word of formatting."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from loopmark.case import Cores, Metric, Role
from loopmark.judgement import Judgement, judge
from loopmark.record import COMPARED, Arm, Block, Campaign, CasePlan, Kind, Measurement, Outcome, Side
from loopmark.stats import Estimate, Summary, ratio_interval, summary
from loopmark.verdicts import Verdict, leaning

KINDS = tuple(Kind)

ROWS = (*COMPARED, Kind.TWIN)
"""The kinds that have rows in tables; control and floor have sentences."""

SIDES = {"server": Metric.SERVER_CPU, "client": Metric.CLIENT_CPU}
"""Of a connection, in the order in which tables have them, with the metric of its CPU time."""

BUSY = 0.95
"""A side with at least this utilisation has no time left, on a core of its own."""

HALF = 0.5
"""From this share on, the floor is most of what it is a part of."""

MOST = 2 / 3
"""Of the wall time on a shared core: such a side takes at least twice as long as all else together."""


class Bound(StrEnum):
    """What a row's connections per second depend on most."""

    TLS = "TLS-bound"
    CLIENT = "client-bound"
    SERVER = "server-bound"
    MIXED = "mixed"


def bottleneck(busy: Mapping[str, float], floor: Mapping[str, float], cores: Cores) -> Bound:
    """Say what bounds a row, from both sides' CPU time as a share of the wall time, and the floor's as a share of that.

    `floor` is empty where there is none; without it nothing is TLS-bound. On cores of their own, the side that alone is
    `BUSY` sets the pace: it is TLS-bound when the floor is at least `HALF` of its CPU time, else named by that side. On
    a shared core wall time is the sum of both: TLS-bound when both floors are at least `HALF` of it, else named by the
    side that takes `MOST` of it: making the other one infinitely fast would gain a third at most. Else it is mixed.
    """
    if cores is Cores.SHARED:
        named = [side for side in SIDES if busy[side] >= MOST]
        tls = sum(busy[side] * floor.get(side, 0.0) for side in SIDES) >= HALF
    else:
        named = [side for side in SIDES if busy[side] >= BUSY]
        tls = len(named) == 1 and floor.get(named[0], 0.0) >= HALF
    if tls:
        return Bound.TLS
    return Bound(f"{named[0]}-bound") if len(named) == 1 else Bound.MIXED


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFigures:
    """One case of a campaign: its complete blocks, those in the field apart, and who has numbers."""

    plan: CasePlan
    baseline: str
    margin: float
    is_fast: bool
    """A fast campaign and a matrix get no verdict, whatever their blocks would allow."""
    blocks: tuple[Block, ...]
    field_blocks: tuple[Block, ...]
    arms: tuple[Arm, ...]
    """Those with numbers, without hidden ones, in the campaign's order."""
    outcomes: tuple[Outcome, ...]
    """Why others have none."""
    judgement: Judgement

    @property
    def is_simultaneous(self) -> bool:
        """Tell whether the primary ratios are shown with intervals that all hold together; else with plain ones."""
        return not self.is_fast and self.judgement.widest is not None

    @property
    def widest(self) -> float | None:
        """Return the largest half-width of the primary intervals that are shown, as a share; None without any."""
        labels = [arm.label for arm in self.arms if arm.kind in ROWS and arm.label != self.baseline]
        estimates = [estimate for label in labels if (estimate := self.primary(label))]
        widths = [estimate.half_width for estimate in estimates if estimate.half_width is not None]
        return max(widths) if widths and len(widths) == len(estimates) else None

    @property
    def is_judged(self) -> bool:
        """Tell whether there are verdicts."""
        return not self.is_fast and bool(self.judgement.verdicts)

    def primary(self, arm: str) -> Estimate | None:
        """Compare an arm with the baseline by the metric that is judged, with the interval that is shown."""
        if self.is_simultaneous:
            return self.judgement.estimates.get(arm)
        return self.ratio(arm, self.plan.case.primary)

    def verdict(self, arm: str) -> Verdict | None:
        """Return a contender's verdict; None where there is none to be had."""
        return None if self.is_fast else self.judgement.verdicts.get(arm)

    def leaning(self, arm: str) -> Verdict | None:
        """Return where an inconclusive contender leans; None for any other."""
        estimate = self.primary(arm)
        if estimate is None or self.verdict(arm) is not Verdict.INCONCLUSIVE:
            return None
        return leaning(estimate, self.margin)

    def letters(self, arm: str) -> str:
        """Return an arm's ranking letters; empty where there are no verdicts."""
        return "" if self.is_fast else self.judgement.letters.get(arm, "")

    def absolute(self, arm: str, metric: Metric, *, field: bool = False) -> Summary | None:
        """Sum up one metric, in seconds per connection; None when the arm has no block."""
        values = [block.measurements[arm].values(metric) for block in self._of(field) if arm in block.measurements]
        return summary(values) if values else None

    def ratio(self, arm: str, metric: Metric, *, field: bool = False) -> Estimate | None:
        """Compare an arm with its reference over the blocks in which both ran, with a plain interval.

        None when there is no such block, when a clock was too coarse to see the metric, and for the floor.
        """
        reference = self.reference(arm, metric)
        if reference is None or arm in self.plan.labels(Kind.FLOOR):
            return None
        both = [block.measurements for block in self._of(field) if {arm, reference} <= block.measurements.keys()]
        ours, theirs = ([each[label].values(metric) for each in both] for label in (arm, reference))
        try:
            return ratio_interval(ours, theirs)
        except ValueError:
            return None

    def reference(self, arm: str, metric: Metric) -> str | None:
        """Return the label of what an arm is compared with: the baseline.

        For a pair of a matrix it is the pair that has the baseline on the side whose CPU time the metric is, and the
        same contender on the other; None for wall time, which is of both, and where that pair is gone.
        """
        if self.plan.case.role is not Role.PAIR:
            return self.baseline
        arms = {each.label: each for each in self.plan.arms}
        if metric is Metric.WALL or arm not in arms or self.baseline not in arms:
            return None
        pair, baseline = arms[arm], arms[self.baseline].contender
        sides = (pair.caller, baseline) if metric is Metric.SERVER_CPU else (baseline, pair.contender)
        pairs = {(each.caller, each.contender): each.label for each in arms.values() if each.kind is Kind.CONTENDER}
        return pairs.get(sides)

    @property
    def has_floor(self) -> bool:
        """Tell whether the floor was measured."""
        return any(arm.kind is Kind.FLOOR for arm in self.arms)

    def floor(self, side: str) -> Summary | None:
        """Sum up the floor's CPU time of one side, in seconds per connection."""
        return next((self.absolute(arm.label, SIDES[side]) for arm in self.arms if arm.kind is Kind.FLOOR), None)

    def own_cost(self, arm: str, side: str) -> float | None:
        """Return what an arm's side needs beyond the floor: the median over blocks, in seconds per connection."""
        pairs = self._beside_floor(arm, side)
        return median(ours - floor for ours, floor in pairs) if pairs else None

    def over_floor(self, arm: str, side: str) -> Estimate | None:
        """Compare the CPU time of an arm's side with the floor's, with a plain interval; a ratio below 1 cannot be."""
        pairs = self._beside_floor(arm, side)
        try:
            return ratio_interval([[ours] for ours, _ in pairs], [[floor] for _, floor in pairs])
        except ValueError:
            return None

    def _beside_floor(self, arm: str, side: str) -> list[tuple[float, float]]:
        """Return an arm's and the floor's CPU time in each block: medians, as the floor may have fewer values."""
        metric = SIDES[side]
        return [
            (median(block.measurements[arm].values(metric)), median(block.measurements[floor].values(metric)))
            for floor in self.plan.labels(Kind.FLOOR)
            for block in self.blocks
            if {arm, floor} <= block.measurements.keys()
        ]

    def utilisation(self, arm: str, side: str) -> float | None:
        """Return a side's CPU time as a share of the wall time: the median over blocks; above 1 with threads."""
        metric = SIDES[side]
        return self.middle(
            arm, lambda each: median(each.values(metric)) / median(each.wall) if any(each.wall) else None
        )

    def of_side(self, arm: str, side: str, figure: str, *, field: bool = False) -> float | None:
        """Return the median over blocks of one figure of `record.Side`; None where it could not be read."""

        def read(measurement: Measurement) -> float | None:
            which: Side = measurement.client if side == "client" else measurement.server
            value: float | None = getattr(which, figure)
            return value

        return self.middle(arm, read, field=field)

    def middle(self, arm: str, read: Callable[[Measurement], float | None], *, field: bool = False) -> float | None:
        """Return the median over an arm's blocks of what `read` finds in each."""
        found = [read(block.measurements[arm]) for block in self._of(field) if arm in block.measurements]
        values = [each for each in found if each is not None]
        return median(values) if values else None

    def bound_by(self, arm: str) -> Bound | None:
        """Say what bounds a row, by the rule of `bottleneck`; None without a clock for it."""
        busy, floor = {}, {}
        for side, metric in SIDES.items():
            share, cost, least = self.utilisation(arm, side), self.absolute(arm, metric), self.floor(side)
            if share is None or cost is None:
                return None
            busy[side] = share
            if least is not None and cost.median > 0:
                floor[side] = least.median / cost.median
        return bottleneck(busy, floor, self.plan.case.cores)

    def is_held_back(self, arm: str) -> bool:
        """Tell whether the fixed peer had no time left, so that its pace, and not the contender's, is the row's."""
        peers = {Role.SERVER: "client", Role.CLIENT: "server"}
        side = peers.get(self.plan.case.role)
        if side is None or self.plan.case.held is not None:  # memory has no pace
            return False
        return (self.utilisation(arm, side) or 0.0) >= BUSY

    def _of(self, field: bool) -> Sequence[Block]:
        return self.field_blocks if field else self.blocks


def figures(campaign: Campaign, plan: CasePlan) -> CaseFigures:
    """Collect what a campaign knows about one of its cases, and judge it."""
    name = plan.case.name
    blocks = [block for block in campaign.blocks if block.case == name]
    pinned = tuple(block for block in blocks if not block.field)
    hidden = set(plan.labels(Kind.HIDDEN))
    outcomes = [each for each in campaign.outcomes if concerns(each, plan) and each.arm not in hidden]
    without = {each.arm for each in outcomes}
    ran = {label for block in pinned for label in block.measurements}
    return CaseFigures(
        plan=plan,
        baseline=campaign.baseline_of(plan),
        margin=campaign.margin,
        is_fast=campaign.mode == "fast" or plan.case.role is Role.PAIR,
        blocks=pinned,
        field_blocks=tuple(block for block in blocks if block.field),
        arms=tuple(arm for arm in plan.arms if arm.label in ran and arm.label not in hidden | without),
        outcomes=tuple(outcomes),
        judgement=judge(plan, campaign.baseline_of(plan), pinned, campaign.margin),
    )


def concerns(outcome: Outcome, plan: CasePlan) -> bool:
    """Tell whether an outcome is one of this case: it names the case, its benchmark, or `*` for all."""
    return outcome.case in {"*", plan.case.benchmark, plan.case.name}


def ranked(cases: Sequence[CaseFigures]) -> Iterator[Arm]:
    """Yield the arms that have a row in any of the cases, by the primary ratio of the first, then of the next.

    Twins come last: they are controls, not contenders.
    """
    arms = {arm.label: arm for case in cases for arm in case.arms if arm.kind in ROWS}

    def place(arm: Arm) -> tuple[int, tuple[tuple[bool, float], ...], str]:
        ratios = []
        for case in cases:
            there = any(arm.label == each.label for each in case.arms)
            estimate = case.ratio(arm.label, case.plan.case.primary) if there else None
            ratios.append((estimate is None, estimate.ratio if estimate else 0.0))
        return KINDS.index(arm.kind), tuple(ratios), arm.label

    yield from sorted(arms.values(), key=place)


def shown_name(campaign: Campaign, label: str) -> str:
    """Name an arm as tables do."""
    found = next(((arm.kind, plan) for plan in campaign.cases for arm in plan.arms if arm.label == label), None)
    if found is None or found[0] not in (Kind.TWIN, Kind.CONTROL):
        return label
    baseline = campaign.baseline_of(found[1])
    if found[0] is Kind.TWIN:
        number = label.removeprefix(f"{baseline}.twin")
        return f"{baseline} (A/A twin{number and f' {number}'})"
    return f"{baseline} (+2 % control)"
