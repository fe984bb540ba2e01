"""Print how each contender compares with its hand-written yardstick: `python tests/handwritten/compare.py DIR...`.

The exit status is 1 when the upper end of an interval lies above the limit, or when an interval is missing.
"""

import sys
from pathlib import Path

from loopmark import store
from loopmark.record import Campaign, CasePlan
from loopmark.stats import ratio_interval

LIMIT = 1.02
PREFIX = "hand-"


def main(directories: list[str]) -> int:
    """Print one line per contender and case, the primary metric's ratio with its plain 95 % interval."""
    verdicts = [
        _line(campaign, plan, arm.label)
        for campaign in map(store.load, map(Path, directories))
        for plan in campaign.cases
        for arm in plan.arms
        if arm.label.startswith(PREFIX)
    ]
    return int(not verdicts or not all(verdicts))


def _line(campaign: Campaign, plan: CasePlan, hand: str) -> bool:
    case, contender = plan.case, hand.removeprefix(PREFIX)
    both = [
        block.measurements
        for block in campaign.blocks
        if block.case == case.name and not block.field and {contender, hand} <= block.measurements.keys()
    ]
    if not both:
        print(f"{case.name} {contender}: no block with both")
        return False
    ours, theirs = ([each[label].values(case.primary) for each in both] for label in (contender, hand))
    estimate = ratio_interval(ours, theirs)
    if estimate.low is None or estimate.high is None:
        print(f"{case.name} {contender}: {estimate.ratio:.4f}, too few blocks")
        return False
    good = estimate.high <= LIMIT
    print(
        f"{case.name} [{case.primary}] {contender}: {estimate.ratio:.4f} [{estimate.low:.4f}, {estimate.high:.4f}] "
        f"in {estimate.blocks} blocks: {'within' if good else 'ABOVE'} {LIMIT}"
    )
    return good


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
