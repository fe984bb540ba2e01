"""Is a contender slower than it was before it was hardened? Campaigns with the plug-in `before.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import shelf
from by_hand import Found, compared, per_benchmark
from catalogue import BEFORE
from loopmark.counts import Counts
from loopmark.stats import Estimate
from loopmark.verdicts import Verdict, verdict
from tables import paragraphs, percent, reached, table

MARGIN = 0.005
"""Equivalent is what lies wholly within this of 1."""


def rendered(results: Path) -> str:
    """Render the ratio of every contender to itself before, in every case."""
    found = [each for line in shelf.lines("hardening") for each in shelf.campaigns(results, "hardening", line.name)]
    return paragraphs(shelf.origin(found), verdicts_table(compared(found, BEFORE)))


def verdicts_table(found: Found) -> str:
    """Render all ratios, and how many are equivalent."""
    if not found:
        return "No campaign yet."
    same = [each for each in found.values() if verdict(each, MARGIN) is Verdict.EQUIVALENT]
    slower = [each for each in found.values() if verdict(each, MARGIN) is Verdict.SLOWER]
    faster = [each for each in found.values() if verdict(each, MARGIN) is Verdict.FASTER]
    ends = (
        f"Equivalent at a margin of {MARGIN:.1%}: {len(same)} of {len(found)}, {reached(len(same) == len(found))}. "
        f"Slower by more than that: {len(slower)}; faster: {len(faster)}; not slower by more than that, whatever else: "
        f"{sum(_is_no_slower(each) for each in found.values())}; with an interval that holds 1: "
        f"{sum(_holds_1(each) for each in found.values())}."
    )
    return paragraphs(*per_benchmark(found), ends)


def _holds_1(estimate: Estimate) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low <= 1 <= estimate.high


def _is_no_slower(estimate: Estimate) -> bool:
    """Tell whether the interval ends within the margin, wherever it begins."""
    return estimate.high is not None and estimate.high <= 1 + MARGIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One side of one contender, counted as it is and as it was."""

    contender: str
    case: str
    side: str
    before: float
    today: float
    """Instructions per connection in user space, the least of all layouts."""
    repeatability: float
    """By how much two counts of the contender as it is differ, as a share."""

    @property
    def share(self) -> float:
        """Return how much more it executes: 0.005 is half a percent."""
        return self.today / self.before - 1


def instructions(results: Path) -> str:
    """Render what every contender executes per connection, by what it did before."""
    study = "hardening-instructions"
    found = [each for line in shelf.lines(study) for each in shelf.counts(results, study, line.name)]
    return paragraphs(shelf.origin([each.campaign for each in found]), growth_table(growths(found)))


def growths(found: Sequence[Counts]) -> list[Growth]:
    """Compare each baseline with the contender that is its name after a prefix."""
    every = []
    for counts in found:
        name = counts.campaign.baseline
        for plan in counts.campaign.cases:
            case, side = plan.case.name, plan.case.role
            today, before = counts.of(case, name, side), counts.of(case, BEFORE + name, side)
            if today and before:
                every.append(
                    Growth(
                        contender=name,
                        case=plan.case.benchmark,
                        side=side,
                        before=before.instructions,
                        today=today.instructions,
                        repeatability=counts.repeatability(case, side) or 0.0,
                    )
                )
    return every


def growth_table(found: Sequence[Growth]) -> str:
    """Render all growths, a row for each contender, and how many are within the margin."""
    if not found:
        return "Nothing counted yet."
    places = list(dict.fromkeys((each.case, each.side) for each in found))
    cells = {(each.contender, each.case, each.side): each for each in found}
    rows = [
        [name, *(_grown(cells.get((name, *place))) for place in places)]
        for name in dict.fromkeys(each.contender for each in found)
    ]
    headers = ("instructions per connection", *(f"{case}, {side}" for case, side in places))
    grown = [each for each in found if each.share > MARGIN]
    unsteady = max(each.repeatability for each in found)
    ends = (
        f"At most {MARGIN:.1%} more: {len(found) - len(grown)} of {len(found)}, {reached(not grown)}. "
        f"The same contender counted twice differs by up to {percent(unsteady)}."
    )
    return paragraphs(table(headers, rows), ends)


def _grown(growth: Growth | None) -> str:
    if growth is None:
        return "-"
    return f"{growth.before:,.0f} to {growth.today:,.0f}, {100 * growth.share:+.2f} %"
