"""What a case's kind of traffic makes of words: what its figures are per, and what there is no word about."""

from loopmark.case import UNITS, Case, Traffic
from loopmark.record import CasePlan

SHORT = {"connection": "conn", "round trip": "trip"}
"""Units as headers name them, where that is not their own name."""


def short(plan: CasePlan) -> str:
    """Name what figures are per, as headers do."""
    return SHORT.get(plan.unit, plan.unit)


def asked_for(case: Case) -> str:
    """Name a benchmark with its conversation, where it has several."""
    return f"{case.benchmark}, {case.variant}" if case.variant else case.benchmark


def load(case: Case) -> str:
    """Say how much goes on at the same time."""
    if case.held is not None:
        return f"{case.concurrency} held"
    return f"a burst of {case.concurrency}" if case.burst else f"{case.concurrency} at a time"


def has_server(plan: CasePlan) -> bool:
    """Tell whether anybody is called: names are looked up by the contender alone."""
    return plan.unit != UNITS[Traffic.LOOKUPS]


def has_connections(plan: CasePlan) -> bool:
    """Tell whether there are connections, which have an end and were seen on the wire."""
    # Older campaigns did not say how connections end, and had no other units.
    return plan.close is not None or plan.unit == UNITS[Traffic.CHURN]


def stays_open(plan: CasePlan) -> bool:
    """Tell whether connections outlive what is timed."""
    return has_connections(plan) and plan.unit != UNITS[Traffic.CHURN]
