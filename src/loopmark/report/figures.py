"""From a campaign's blocks to the numbers of a row: pure, and without a word of formatting."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from loopmark.case import Metric
from loopmark.record import Arm, Block, Campaign, CasePlan, Measurement, Outcome, Side
from loopmark.stats import Estimate, Summary, ratio_interval, summary

BUSY = 0.95
"""A side with at least this utilisation bounds its row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFigures:
    """One case of a campaign: its complete blocks, those in the field apart, and who has numbers."""

    plan: CasePlan
    baseline: str
    blocks: tuple[Block, ...]
    field_blocks: tuple[Block, ...]
    arms: tuple[Arm, ...]
    """Those with numbers, without hidden ones, in the campaign's order."""
    outcomes: tuple[Outcome, ...]
    """Why others have none."""

    def absolute(self, arm: str, metric: Metric, *, field: bool = False) -> Summary | None:
        """Sum up one metric, in seconds per connection; None when the arm has no block."""
        values = [block.measurements[arm].values(metric) for block in self._of(field) if arm in block.measurements]
        return summary(values) if values else None

    def ratio(self, arm: str, metric: Metric, *, field: bool = False) -> Estimate | None:
        """Compare an arm with the baseline over the blocks in which both ran.

        None when there is no such block, or when a clock was too coarse to see the metric.
        """
        both = [block.measurements for block in self._of(field) if {arm, self.baseline} <= block.measurements.keys()]
        ours, theirs = ([each[label].values(metric) for each in both] for label in (arm, self.baseline))
        try:
            return ratio_interval(ours, theirs)
        except ValueError:
            return None

    def utilisation(self, arm: str, side: str) -> float | None:
        """Return a side's CPU time as a share of the wall time: the median over blocks; above 1 with threads."""
        metric = Metric.CLIENT_CPU if side == "client" else Metric.SERVER_CPU
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

    def bound_by(self, arm: str) -> str | None:
        """Say which side has no time left: `client`, `server`, `both` or `neither`."""
        client, server = self.utilisation(arm, "client"), self.utilisation(arm, "server")
        if client is None or server is None:
            return None
        busy = [side for side, share in (("client", client), ("server", server)) if share >= BUSY]
        return {0: "neither", 2: "both"}.get(len(busy)) or busy[0]

    def _of(self, field: bool) -> Sequence[Block]:
        return self.field_blocks if field else self.blocks


def figures(campaign: Campaign, plan: CasePlan) -> CaseFigures:
    """Collect what a campaign knows about one of its cases."""
    name = plan.case.name
    blocks = [block for block in campaign.blocks if block.case == name]
    pinned = tuple(block for block in blocks if not block.field)
    hidden = {arm.label for arm in plan.arms if arm.hidden}
    outcomes = [each for each in campaign.outcomes if concerns(each, plan) and each.arm not in hidden]
    without = {each.arm for each in outcomes}
    ran = {label for block in pinned for label in block.measurements}
    return CaseFigures(
        plan=plan,
        baseline=campaign.baseline,
        blocks=pinned,
        field_blocks=tuple(block for block in blocks if block.field),
        arms=tuple(arm for arm in plan.arms if arm.label in ran and arm.label not in hidden | without),
        outcomes=tuple(outcomes),
    )


def concerns(outcome: Outcome, plan: CasePlan) -> bool:
    """Tell whether an outcome is one of this case: it names the case, its benchmark, or `*` for all."""
    return outcome.case in {"*", plan.case.benchmark, plan.case.name}


def ranked(campaign: Campaign, cases: Sequence[CaseFigures]) -> Iterator[Arm]:
    """Yield the arms that have a number in any of the cases, by the primary ratio of the first, then of the next.

    The twin comes last: it is a control, not a contender.
    """
    arms = {arm.label: arm for case in cases for arm in case.arms}

    def place(arm: Arm) -> tuple[bool, tuple[tuple[bool, float], ...], str]:
        ratios = []
        for case in cases:
            there = any(arm.label == each.label for each in case.arms)
            estimate = case.ratio(arm.label, case.plan.case.primary) if there else None
            ratios.append((estimate is None, estimate.ratio if estimate else 0.0))
        return arm.label == campaign.twin, tuple(ratios), arm.label

    yield from sorted(arms.values(), key=place)


def shown_name(campaign: Campaign, label: str) -> str:
    """Name an arm as tables do."""
    return f"{campaign.baseline} (A/A twin)" if label == campaign.twin else label
