"""What a stored campaign must be, beyond its types, so that its tables are not nonsense. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime

from loopmark.case import Role
from loopmark.record import Campaign, Measurement


def complaints(campaign: Campaign) -> Iterator[str]:
    """Yield a sentence, without its full stop, for all that does not fit together or cannot be."""
    try:
        instant(campaign.started)
    except ValueError:
        yield f"the start {campaign.started!r} is no time in UTC"
    yield from _wrong_bounds(campaign)
    plans = {plan.case.name: plan for plan in campaign.cases}
    if len(plans) != len(campaign.cases):
        yield "two cases have one name"
    for plan in campaign.cases:
        if len({arm.label for arm in plan.arms}) != len(plan.arms):
            yield f"two arms of {plan.case.name} have one label"
        if any((arm.caller is None) is (plan.case.role is Role.PAIR) for arm in plan.arms):
            yield f"{plan.case.name} has an arm with a caller, or without one, against its role"
        # None is settled in a case that the campaign did not come to.
        if plan.loops < (plan.case.name in {block.case for block in campaign.blocks}):
            yield f"{plan.case.name} has {plan.loops} connections a value"
    seen = set()
    for block in campaign.blocks:
        where = f"block {block.index} of {block.case}"
        if (block.case, block.index, block.field) in seen:
            yield f"{where} is there twice"
        seen.add((block.case, block.index, block.field))
        if block.case not in plans:
            yield f"{where} belongs to no case"
            continue
        known = {arm.label for arm in plans[block.case].arms}
        if any(sorted(one) != sorted(block.order) for one in block.rounds):
            yield f"{where} has a round of others than its own arms"
        for label, measurement in block.measurements.items():
            if label not in known or label not in block.order or measurement.arm != label:
                yield f"{where} has the unknown arm {label!r}"
            yield from (f"{where}, {label}: {each}" for each in _wrong_numbers(measurement))


def _wrong_bounds(campaign: Campaign) -> Iterator[str]:
    for name in _GROUPS_OF_FACTS:
        if not isinstance(campaign.machine.get(name), dict | None):
            yield f"the machine's {name} are no group of facts"
    for what, share in (("margin", campaign.margin), ("target", campaign.target)):
        if share is not None and not 0 < share < 1:
            yield f"the {what} {share} is no share between 0 and 1"
    counts = [campaign.seed, *(plan.next_block for plan in campaign.cases), *(block.index for block in campaign.blocks)]
    seconds = [campaign.seconds, campaign.seconds_allowed, campaign.measured_seconds, campaign.proof_seconds]
    seconds += [block.seconds for block in campaign.blocks]
    if min(*counts, *seconds) < 0:
        yield f"{min(*counts, *seconds)} is less than nothing"
    if max(seconds) > _LONGEST:
        yield f"{max(seconds)} seconds are longer than any campaign"
    if campaign.blocks_wanted is not None and campaign.blocks_wanted < 1:
        yield f"{campaign.blocks_wanted} blocks were wanted"


_GROUPS_OF_FACTS = ("cpu", "python", "malloc", "sysctls", "versions", "distributions", "source")

_LONGEST = 1e9
"""Seconds."""


def _wrong_numbers(measurement: Measurement) -> Iterator[str]:
    series = (measurement.wall, measurement.client_cpu, measurement.server_cpu)
    if not measurement.wall or len({len(values) for values in series}) != 1:
        yield "the three metrics must have the same number of values, at least one"
    if measurement.loops < 1:
        yield f"{measurement.loops} connections a value"
    for value in (value for values in (*series, measurement.warmups) for value in values):
        # Zero is what a coarse CPU clock tells; anything else beyond these bounds is no time of a connection.
        if value != 0 and not 1e-12 <= value <= 1e6:
            yield f"{value} seconds per connection is out of range"


def instant(started: str) -> datetime:
    """Read a time with its zone, in UTC; raises ValueError."""
    moment = datetime.fromisoformat(started)
    if moment.utcoffset() is None:
        raise ValueError(f"{started!r} has no time zone")
    return moment.astimezone(UTC)
