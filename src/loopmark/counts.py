"""What `loopmark run --instructions` finds, and whether a later one found more: data and pure functions.

Counts hardly vary, so there are no intervals here. How much they do is shown by the baseline, which is counted twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from loopmark.case import UNITS, Case, Role, Traffic
from loopmark.record import Campaign, CasePlan, Kind
from loopmark.sameness import SOFTWARE, differences

MODE = "instructions"
"""The mode of a campaign that counts."""

_SIDES: Mapping[Role, tuple[str, ...]] = {
    Role.SERVER: ("server",),
    Role.CLIENT: ("client",),
    Role.BOTH: ("server", "client"),
}

_EQUAL = {**SOFTWARE, "valgrind": ("valgrind",)}


def sides_of(plan: CasePlan) -> tuple[str, ...]:
    """Return the sides that are counted, one at a time: those that the contender plays, and that have work."""
    return ("client",) if plan.unit == UNITS[Traffic.LOOKUPS] else _SIDES[plan.case.role]


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One side of one arm of one case."""

    case: str
    arm: str
    side: str
    layouts: tuple[float, ...]
    """Instructions per connection, or what else the case's unit is, in user space, of all threads, in each layout."""
    connections: int
    """How many were counted in each."""
    facts: dict[str, dict[str, Any]]
    """What was read off live connections, as in a `Measurement`."""

    @property
    def instructions(self) -> float:
        """Return the least: what a layout adds is its own."""
        return min(self.layouts)


@dataclass(slots=True, kw_only=True)
class Counts:
    """All of it; the campaign has cases, arms, outcomes and the machine, and no blocks."""

    campaign: Campaign
    counts: list[Count] = field(default_factory=list)

    def of(self, case: str, arm: str, side: str) -> Count | None:
        """Find a count; None where there is none."""
        return next((each for each in self.counts if (each.case, each.arm, each.side) == (case, arm, side)), None)

    def plan(self, case: str) -> CasePlan:
        """Find a case by its name."""
        return next(plan for plan in self.campaign.cases if plan.case.name == case)

    def ratio(self, case: str, arm: str, side: str) -> float | None:
        """Return an arm's count by the baseline's."""
        baseline = self.campaign.baseline_of(self.plan(case))
        own, base = self.of(case, arm, side), self.of(case, baseline, side)
        return own.instructions / base.instructions if own and base else None

    def repeatability(self, case: str, side: str) -> float | None:
        """Return how much the baseline's two counts, in other layouts, differ, as a share; None without two of them."""
        ratios = [self.ratio(case, twin, side) for twin in self.plan(case).labels(Kind.TWIN)]
        return max((abs(ratio - 1) for ratio in ratios if ratio is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One side of one arm of one case, counted twice, some time apart."""

    case: Case
    arm: str
    side: str
    old: float
    new: float
    """Instructions per unit of the case."""
    is_slower: bool

    @property
    def change(self) -> float:
        """Return the new count by the old one: above 1 is more."""
        return self.new / self.old


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was found, or in `refusals` why nothing is: sentences without a full stop."""

    threshold: float
    """Changes up to this share are allowed: 0.005 is half a percent."""
    repeatability: float
    """The largest difference between the baseline's two counts, in OLD or NEW."""
    processors: tuple[str, ...]
    """Where OLD and NEW were counted, when that differs."""
    rows: tuple[Row, ...]
    """Contenders, the baseline among them, in the order of NEW. Not to be told when there are refusals."""
    unmatched: tuple[str, ...]
    """Who was counted in one of the two only."""
    refusals: tuple[str, ...]

    @property
    def slower(self) -> tuple[Row, ...]:
        """Return the rows that fail."""
        return tuple(row for row in self.rows if row.is_slower)


def change(old: Counts, new: Counts, threshold: float) -> Change:
    """Compare count with count; the baseline is a contender like others, since nothing drifts that ratios would cancel.

    Any difference in what all counts are made of ends it, and so does a baseline that varies by more than that.
    """
    rows = tuple(_rows(old, new, threshold))
    refusals = [*differences(old.campaign, new.campaign, machine=_EQUAL), *_other_facts(old, new)]
    refusals += [*_unsteady(old, "OLD", threshold), *_unsteady(new, "NEW", threshold), *_lost(old, new)]
    if not rows and not refusals:
        refusals.append("nothing was counted in both")
    processors = tuple(str((each.campaign.machine.get("cpu") or {}).get("model") or "unknown") for each in (old, new))
    return Change(
        threshold=threshold,
        repeatability=max([0.0, *_steadiness(old).values(), *_steadiness(new).values()]),
        processors=processors if processors[0] != processors[1] else (),
        rows=rows,
        unmatched=(*_only_in(old, new, "OLD"), *_only_in(new, old, "NEW")),
        refusals=tuple(refusals),
    )


def _rows(old: Counts, new: Counts, threshold: float) -> Iterator[Row]:
    for plan, arm, side in _places(new):
        before, after = (each.of(plan.case.name, arm, side) for each in (old, new))
        if before and after:
            yield Row(
                case=plan.case,
                arm=arm,
                side=side,
                old=before.instructions,
                new=after.instructions,
                is_slower=after.instructions > before.instructions * (1 + threshold),
            )


def _places(counts: Counts) -> Iterator[tuple[CasePlan, str, str]]:
    for plan in counts.campaign.cases:
        for arm in plan.labels(Kind.CONTENDER):
            for side in sides_of(plan):
                yield plan, arm, side


def _other_facts(old: Counts, new: Counts) -> Iterator[str]:
    """Yield whose work was another one, and where other numbers of it were done."""
    for plan, arm, side in _places(new):
        name = plan.case.name
        before, after = old.of(name, arm, side), new.of(name, arm, side)
        if not before or not after:
            continue
        if before.connections != after.connections:
            yield f"{arm} made {before.connections} {plan.unit}s in OLD and {after.connections} in NEW, in {name}"
        theirs, ours = (each.facts.get("equal") or {} for each in (before, after))
        for fact in sorted(theirs.keys() | ours.keys()):
            if theirs.get(fact) != ours.get(fact):
                was, is_ = theirs.get(fact), ours.get(fact)
                yield f"{fact} of {arm}'s connections is {was} in OLD and {is_} in NEW, in {name}"


def _steadiness(counts: Counts) -> dict[tuple[str, str], float]:
    """Return the repeatability by case and side, wherever there is one."""
    found = {
        (plan.case.name, side): counts.repeatability(plan.case.name, side)
        for plan in counts.campaign.cases
        for side in sides_of(plan)
    }
    return {place: share for place, share in found.items() if share is not None}


def _unsteady(counts: Counts, name: str, threshold: float) -> Iterator[str]:
    for (case, side), share in _steadiness(counts).items():
        if share > threshold:
            yield (
                f"the baseline as {side}, counted twice in {name}, differs from itself by {100 * share:.2g} %, in "
                f"{case}: a change of {100 * threshold:g} % cannot be told from that"
            )


def _lost(old: Counts, new: Counts) -> Iterator[str]:
    """Yield who was counted and could not be any more, which is no pass."""
    for outcome in new.campaign.outcomes:
        for plan in new.campaign.cases:
            case = plan.case
            there = any(old.of(case.name, outcome.arm, side) for side in sides_of(plan))
            if there and outcome.case in {"*", case.benchmark, case.name}:
                reason = f"{outcome.status}, {outcome.reason.rstrip('.')}"
                yield f"{outcome.arm} was counted in OLD and not in NEW, in {case.name}: {reason}"


def _only_in(counts: Counts, other: Counts, name: str) -> Iterator[str]:
    for plan, arm, side in _places(counts):
        if counts.of(plan.case.name, arm, side) and not other.of(plan.case.name, arm, side):
            yield f"{arm} ({side}) was counted in {name} only, in {plan.case.name}"
