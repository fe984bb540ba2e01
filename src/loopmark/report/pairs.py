"""The numbers of a matrix: every contender as the client of every contender; without a word of formatting."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from statistics import median

from loopmark.plan import BETWEEN
from loopmark.record import Campaign, CasePlan, Kind
from loopmark.report.figures import SIDES, CaseFigures, figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """The pairs of one case, by the names of who calls and who serves."""

    case: CaseFigures
    baseline: str
    names: tuple[str, ...]
    """Everybody who took part, the baseline first; each was to call each."""
    labels: Mapping[tuple[str, str], str]
    """Of the pairs with numbers, by caller and server."""

    def ratio(self, caller: str, server: str, side: str) -> float | None:
        """Compare the CPU time of one side of a pair with the baseline's there, opposite the same other side."""
        if (caller, server) not in self.labels:
            return None
        estimate = self.case.ratio(self.labels[caller, server], SIDES[side])
        return estimate.ratio if estimate else None

    def across(self, name: str, side: str) -> dict[str, float]:
        """Return the ratios of one contender's side, by who is on the other one."""
        pairs = {other: (other, name) if side == "server" else (name, other) for other in self.names}
        found = {other: self.ratio(*pair, side) for other, pair in pairs.items()}
        return {other: ratio for other, ratio in found.items() if ratio is not None}

    def microseconds(self, caller: str, server: str) -> tuple[float, ...] | None:
        """Return the server's and the client's CPU time per connection; None without numbers."""
        label = self.labels.get((caller, server))
        found = [self.case.absolute(label, metric) for metric in SIDES.values()] if label else []
        return tuple(1e6 * each.median for each in found if each) or None

    def twin(self, side: str) -> float | None:
        """Return what the baseline's pair came out at against itself."""
        ratios = [self.case.ratio(label, SIDES[side]) for label in self.case.plan.labels(Kind.TWIN)]
        return next((each.ratio for each in ratios if each), None)

    def wander(self, side: str) -> float | None:
        """Return by which share a ratio differs between its lowest and its highest block: the median of all pairs."""
        metric = SIDES[side]
        spans = []
        for label in self.labels.values():
            if label == self.case.reference(label, metric):
                continue
            blocks = [replace(self.case, blocks=(block,)).ratio(label, metric) for block in self.case.blocks]
            ratios = [each.ratio for each in blocks if each]
            if len(ratios) > 1:
                spans.append(max(ratios) / min(ratios) - 1)
        return median(spans) if spans else None


def matrix_of(campaign: Campaign, plan: CasePlan) -> Matrix:
    """Arrange what a campaign knows about one of its matrices."""
    case = figures(campaign, plan)
    sides = {arm.label: (arm.caller or "", arm.contender) for arm in plan.arms}
    # A pair that was taken out is known by its label only.
    gone = [each.arm.removesuffix(".twin") for each in case.outcomes if BETWEEN in each.arm]
    own = campaign.baseline_of(plan)
    for label in (own, *gone):
        caller, _, server = label.partition(BETWEEN)
        sides.setdefault(label, (caller, server))
    baseline = sides[own][1]
    return Matrix(
        case=case,
        baseline=baseline,
        names=tuple(dict.fromkeys((baseline, *(name for pair in sides.values() for name in pair)))),
        labels={sides[arm.label]: arm.label for arm in case.arms if arm.kind is Kind.CONTENDER},
    )


def one_side(plan: CasePlan, labels: Collection[str]) -> str | None:
    """Name all pairs that some contenders have on one side by those contenders; None for any other choice of arms."""
    for side, name in (("client", "caller"), ("server", "contender")):
        names = {arm.label: getattr(arm, name) for arm in plan.arms if arm.caller is not None}
        chosen = dict.fromkeys(names[label] for label in labels if label in names)
        if chosen and set(labels) == {label for label, each in names.items() if each in chosen}:
            return f"{', '.join(chosen)} as {side}"
    return None
