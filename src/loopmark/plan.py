"""What is measured, how often and in which order; pure. Every random choice comes from the campaign's seed."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from loopmark.case import Benchmark, Case, Cores, Role
from loopmark.errors import UsageError
from loopmark.record import Arm

FAST_HELD = 20
"""Connections that are held open at once in the proof of fast blocks after the first."""

PEERS = ("uvloop-protocol", "asyncio-protocol")
"""The fixed peers of contenders that play one side only, the fastest first."""

MINIMUM_VALUE = 0.05
"""Seconds that a value must last at least."""

CALIBRATION_MARGIN = 1.6
"""How much longer than that a value is planned: other arms are faster than the calibrated one, and speed wanders."""

MAXIMUM_CONCURRENCY = 20_000
"""Below the number of ports that a client has towards one server's address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured.

    `blocks` of every case, None for as many as fit into `seconds`; a field block follows `field_every` others.
    """

    mode: str
    seconds: float
    blocks: int | None
    values: int
    field_every: int | None


FAST = Effort(mode="fast", seconds=57.0, blocks=6, values=1, field_every=None)
DEFAULT = Effort(mode="default", seconds=300.0, blocks=None, values=5, field_every=6)
RIGOROUS = Effort(mode="rigorous", seconds=3600.0, blocks=60, values=5, field_every=6)


def values_of(case: Case, effort: Effort) -> tuple[int, int]:
    """Return how many warm-up values and values an arm has in a block.

    From 100 connections at a time on, a value is long by itself, and the time is better spent on more blocks. Fast
    blocks have no warm-up value but a few untimed connections.
    """
    values = min(effort.values, 3) if case.concurrency >= 100 else effort.values
    return int(values > 1), values


def held_of(case: Case, effort: Effort, *, first: bool) -> int:
    """Return how many connections an arm's proof holds open at once: all, but in fast blocks after its first few."""
    return case.concurrency if first or effort.values > 1 else min(case.concurrency, FAST_HELD)


def arms_of(contenders: Sequence[str], baseline: str, hidden: Sequence[str] = ()) -> tuple[Arm, ...]:
    """Every contender once, and the baseline a second time as its own A/A twin."""
    arms = [Arm(label=name, contender=name) for name in contenders]
    arms.append(Arm(label=twin_of(baseline), contender=baseline))
    return (*arms, *(Arm(label=name, contender=name, hidden=True) for name in hidden))


def twin_of(baseline: str) -> str:
    """Return the label of the baseline's second arm."""
    return f"{baseline}.twin"


def order_of(seed: int, case: Case, index: int, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return a uniform permutation that depends on seed, case and block only: the coin that makes the test exact."""
    generator = random.Random(f"{seed}/{case.name}/{index}")  # noqa: S311  # reproducible, not secret
    return tuple(generator.sample(list(arms), k=len(arms)))


def loops_of(case: Case, pace: float) -> int:
    """Return how many connections make a value, from the baseline's wall seconds per connection.

    A multiple of the concurrency, so that all workers are busy to the end.
    """
    if case.connections is not None or case.burst:
        return case.minimum_loops
    enough = math.ceil(MINIMUM_VALUE * CALIBRATION_MARGIN / pace)
    return max(case.minimum_loops, math.ceil(enough / case.concurrency) * case.concurrency)


def is_field_block(index: int, effort: Effort) -> bool:
    """Tell whether the block of this index runs in fresh processes with nothing pinned."""
    return effort.field_every is not None and index % (effort.field_every + 1) == effort.field_every


def cases_of(
    benchmark: Benchmark,
    *,
    peer: str,
    cores: int,
    roles: Sequence[Role] = (),
    concurrencies: Sequence[int] = (),
    connections: Sequence[int] = (),
) -> list[Case]:
    """Return the cases that were asked for; with nothing asked the two tables of the default campaign.

    `connections` without `concurrencies` are bursts, all started at once; with them each is the size of a value.
    `cores` is how many this process may use and can pin to, 0 where it cannot pin.
    """

    def case(role: Role, concurrency: int, *, burst: bool = False, count: int | None = None) -> Case:
        _check_concurrency(concurrency)
        shared = Cores.SHARED if concurrency == 1 or cores == 1 else Cores.SEPARATE
        return Case(
            benchmark=benchmark.name,
            concurrency=concurrency,
            role=role,
            peer=None if role is Role.BOTH else peer,
            cores=shared if cores else Cores.ANY,
            tls=benchmark.tls,
            burst=burst,
            connections=count,
        )

    if connections and not concurrencies:
        return [case(role, count, burst=True) for count in connections for role in roles or (Role.SERVER, Role.CLIENT)]
    cases = []
    for concurrency in concurrencies or (100, 1):
        usual = (Role.SERVER, Role.CLIENT) if concurrency > 1 else (Role.BOTH,)
        for role in roles or usual:
            for count in connections or (None,):
                if count is not None and count < 3 * concurrency:
                    raise UsageError(
                        f"-n {count} is less than three rounds of -c {concurrency}: type -n {3 * concurrency} or more, "
                        f"or -n {count} without -c for a burst"
                    )
                cases.append(case(role, concurrency, count=count))
    return cases


def _check_concurrency(concurrency: int) -> None:
    if not 1 <= concurrency <= MAXIMUM_CONCURRENCY:
        raise UsageError(f"{concurrency} connections at a time: give 1 to {MAXIMUM_CONCURRENCY}")
