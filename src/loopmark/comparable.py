"""Whether the blocks of a case may be compared at all: what the coin that orders the arms presupposes.

The interval of `loopmark.stats` believes that each block has every arm, at the same work, in an order that was drawn.
Blocks that deny it get no numbers but sentences. Whatever else is wrong shows in the twin, and is the gate's matter.
"""

import math
from collections.abc import Iterator, Sequence

from loopmark.record import Arm, Block, CasePlan, Kind

CHANCE = 0.001
"""One order throughout is refused when the coin would give it less often than this."""


def refusals(plan: CasePlan, baseline: str, blocks: Sequence[Block]) -> Iterator[str]:
    """Yield why the blocks of a case are none that random order has made comparable; sentences without a full stop."""
    arms = [arm for arm in plan.arms if arm.kind is not Kind.FLOOR]
    own = next((arm for arm in arms if arm.label == baseline), None)
    if own is None:
        yield f"the baseline {baseline} is none of the arms"
        return
    same = [arm for arm in arms if arm.kind in (Kind.TWIN, Kind.CONTROL)]
    for arm in same:
        if arm.contender != own.contender:
            yield f"{arm.label} is called the {arm.kind} of {baseline}, and ran {arm.contender}"
    for block in blocks:
        complaint = next(_incomplete(plan, arms, block), None) or next(_mislabelled(same, own, block), None)
        if complaint:
            yield f"block {block.index}: {complaint}"
            return
    orders = [order for block in blocks for order in timed_orders(plan, block)]
    # One order out of k! is drawn again n - 1 times with this chance.
    if len(set(orders)) == 1 and math.factorial(len(arms)) ** (len(orders) - 1) > 1 / CHANCE:
        yield f"{len(orders)} times the same order of arms was never drawn: what drifts looks like a difference"


def timed_orders(plan: CasePlan, block: Block) -> list[tuple[str, ...]]:
    """Return the order of the arms in each round that was timed, without the floor and without arms that are out.

    Without rounds it is the one order in which they took all their values.
    """
    labels = [arm.label for arm in plan.arms if arm.kind is not Kind.FLOOR]
    values = len(block.measurements[labels[0]].values(plan.case.primary))
    orders = block.rounds[-values:] if block.rounds else (block.order,)
    return [tuple(label for label in order if label in labels) for order in orders]


def _incomplete(plan: CasePlan, arms: Sequence[Arm], block: Block) -> Iterator[str]:
    """Yield what a block lacks of: every arm, the same number of values and of connections, an order, a clock."""
    labels = [arm.label for arm in arms]
    if missing := [label for label in labels if label not in block.measurements]:
        yield f"{', '.join(missing)} did not run: unequal counts are not compared"
        return
    metric = plan.case.primary
    there = {label: block.measurements[label] for label in labels}
    counts = {label: f"{len(each.values(metric))} values of {each.loops} connections" for label, each in there.items()}
    for label in labels:
        if counts[label] != counts[labels[0]]:
            yield f"{labels[0]} has {counts[labels[0]]}, {label} {counts[label]}: unequal counts are not compared"
    rounds = len(there[labels[0]].values(metric))
    orders = timed_orders(plan, block)
    if (block.rounds and len(orders) < rounds) or any(sorted(order) != sorted(labels) for order in orders):
        yield "the order in which the arms ran is not recorded"
    for label, each in there.items():
        if min(each.values(metric), default=0.0) <= 0:
            yield f"{label} took no {metric} that the clock could see"


def _mislabelled(same: Sequence[Arm], baseline: Arm, block: Block) -> Iterator[str]:
    """Yield whose live connections were not the baseline's, though the arm is called the baseline again."""
    for arm in same:
        for side in ("server", "client"):
            theirs, own = (block.measurements[each].facts.get(side, {}) for each in (arm.label, baseline.label))
            for fact in sorted(own.keys() | theirs.keys()):
                if theirs.get(fact) != own.get(fact):
                    yield (
                        f"{arm.label} is called the {arm.kind} of {baseline.label}, and its {side}'s {fact} is "
                        f"{theirs.get(fact)}, not {own.get(fact)}"
                    )
