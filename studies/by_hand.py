"""Is a contender slower than the same ping-pong written by hand? Campaigns with the plug-in of `tests/handwritten/`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import shelf
from catalogue import HAND
from loopmark.case import Case, Role
from loopmark.record import Campaign
from loopmark.stats import Estimate, ratio_interval
from tables import paragraphs, ratio, reached, table

LIMIT = 1.02
"""The upper end of the interval of contender by hand-written code is to be at most this."""

Found = Mapping[tuple[str, Case], Estimate]
"""By contender and case."""


def rendered(results: Path) -> str:
    """Render the ratio of every contender to its hand-written twin, in every case."""
    campaigns = [each for line in shelf.lines("by-hand") for each in shelf.campaigns(results, "by-hand", line.name)]
    return paragraphs(shelf.origin(campaigns), ratios_table(compared(campaigns)))


def compared(campaigns: Sequence[Campaign], prefix: str = HAND) -> Found:
    """Compare each baseline with the hidden arm that is its name after a prefix, over the blocks of all campaigns.

    Blocks are independent of each other wherever they come from: what a campaign shares is common to both arms.
    """
    values: dict[tuple[str, Case], list[tuple[Sequence[float], Sequence[float]]]] = {}
    for campaign in campaigns:
        cases = {plan.case.name: plan.case for plan in campaign.cases}
        for block in campaign.blocks:
            ours, theirs = (block.measurements.get(label) for label in (campaign.baseline, prefix + campaign.baseline))
            if ours is not None and theirs is not None and not block.field:
                case = cases[block.case]
                pair = ours.values(case.primary), theirs.values(case.primary)
                values.setdefault((campaign.baseline, case), []).append(pair)
    return {
        key: ratio_interval([ours for ours, _ in pairs], [theirs for _, theirs in pairs])
        for key, pairs in values.items()
    }


def ratios_table(found: Found) -> str:
    """Render all ratios, and how many are within the limit."""
    if not found:
        return "No campaign yet."
    good = [each for each in found.values() if each.high is not None and each.high <= LIMIT]
    worse = [each for each in found.values() if each.low is not None and each.low > LIMIT]
    slower = [each for each in found.values() if each.low is not None and each.low > 1]
    ends = (
        f"Upper end at most {LIMIT}: {len(good)} of {len(found)}, {reached(len(good) == len(found))}. "
        f"Wholly above {LIMIT}: {len(worse)}; wholly above 1: {len(slower)}."
    )
    return paragraphs(*per_benchmark(found), ends)


def per_benchmark(found: Found) -> Iterator[str]:
    """Render contenders as rows and cases as columns, a table for each benchmark."""
    for benchmark in dict.fromkeys(case.benchmark for _, case in found):
        here = {key: each for key, each in found.items() if key[1].benchmark == benchmark}
        cases = sorted({case for _, case in here}, key=lambda case: (case.concurrency, list(Role).index(case.role)))
        rows = [
            [name, *(_shown(here.get((name, case))) for case in cases)]
            for name in dict.fromkeys(name for name, _ in here)
        ]
        headers = (benchmark, *(f"{case.role}, {case.concurrency} at a time" for case in cases))
        yield table(headers, rows)


def _shown(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{ratio(estimate)}, {estimate.blocks}"
