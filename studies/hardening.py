"""Is a contender slower than it was before it was hardened? Campaigns with the plug-in `before.py`."""

from pathlib import Path

import shelf
from by_hand import Found, compared, per_benchmark
from catalogue import BEFORE
from loopmark.stats import Estimate
from loopmark.verdicts import Verdict, verdict
from tables import paragraphs, reached

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
        f"Slower by more than that: {len(slower)}; faster: {len(faster)}; with an interval that holds 1: "
        f"{sum(_holds_1(each) for each in found.values())}."
    )
    return paragraphs(*per_benchmark(found), ends)


def _holds_1(estimate: Estimate) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low <= 1 <= estimate.high
