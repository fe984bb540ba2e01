"""What is measured, how often and in which order; pure. Every random choice comes from the campaign's seed."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from loopmark.case import Benchmark, Case, Cores, Role, Traffic
from loopmark.errors import UsageError
from loopmark.record import Arm, Kind
from loopmark.spi import TLSProfile

FLOOR = "floor"
"""Label of the arm that does the same TLS in memory."""

FAST_AT_ONCE = 20
"""Connections at a time of a fast campaign that was not told how many. Where it was told more, so many are held open at
once in the proof of its blocks after the first."""

PEERS = ("uvloop-protocol", "asyncio-protocol")
"""The fixed peers of contenders that play one side only, the fastest first."""

LONG_FROM = 100
"""Connections at a time from which on a value is longer than the clocks need it."""

IN_ROUNDS_UP_TO = 100
"""Connections at a time up to which all arms of a block are alive at once."""

BETWEEN = "-to-"
"""Between the two names in the label of a pair."""

ALIVE_UP_TO = 12
"""Pairs of a matrix up to which all of them are alive at once; of more, those of one caller after the other."""

FLOOR_SHARE = 5
"""The floor's values have this part of the others' connections: nothing is judged by them."""

WARM_UP_ROUNDS = 3
"""Rounds of untimed connections: after one of them asyncio's heap still grows, see docs/method.md."""

MINIMUM_VALUE = 0.05
"""Seconds that a value must last at least."""

CALIBRATION_MARGIN = 1.6
"""How much longer than that a value is planned: other arms are faster than the calibrated one, and speed wanders."""

WIDE_MARGIN = 3.0
"""The same for messages, and for the pairs of a matrix, where others are faster on both sides."""

CONTROL_SHARE = 50
"""The positive control makes one connection more than it counts for every so many: a true two percent."""

SPARE_BLOCKS = 2
"""So many times the fewest blocks that give intervals must fit into the time before a block gets longer."""

UNFORESEEN = 0.15
"""This part of a block's time is kept for what calibration does not see: slower arms, the end of a block."""

CHECK_EVERY = 4
"""Blocks between two looks at the width of the intervals."""

MAXIMUM_HELD = 1_000_000
"""Of idle connections, which come from several addresses where one has too few ports."""

HELD_SHARE = 4
"""Of idle connections this part is there before memory is read for the first time."""

SMOKE_LOOPS = 10
"""The fewest connections or messages of a value where nothing is compared."""

BASELINES = ("asyncio", "asyncio-protocol", "asyncio-sockets")
"""Who is the baseline where nobody else was asked for: the first that can take part."""

MAXIMUM_CONCURRENCY = 20_000
"""Below the number of ports that a client has towards one server's address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured.

    `blocks` of every case, None for as many as it takes until all primary intervals are within the half-width `target`,
    or as fit into `seconds`; a field block follows `field_every` others, and never comes before a verdict.
    """

    mode: str
    seconds: float
    blocks: int | None
    values: int
    field_every: int | None
    target: float | None = None
    usual_up_to: int | None = None
    """Connections at a time at most where nothing else was asked for; None: as many as the benchmark usually has."""


# With a hundred at a time, three rounds of which are a value, six blocks of everybody take more than a minute.
FAST = Effort(mode="fast", seconds=57.0, blocks=6, values=1, field_every=None, usual_up_to=FAST_AT_ONCE)
DEFAULT = Effort(mode="default", seconds=300.0, blocks=None, values=5, field_every=6, target=0.01)
RIGOROUS = Effort(mode="rigorous", seconds=3600.0, blocks=60, values=5, field_every=6)
SMOKE = Effort(mode="smoke", seconds=900.0, blocks=1, values=1, field_every=None)
MATRIX = Effort(mode="matrix", seconds=600.0, blocks=3, values=2, field_every=None)


def values_of(case: Case, effort: Effort) -> tuple[int, int]:
    """Return how many warm-up values and values an arm has in a block.

    From 100 connections at a time on, a value is long by itself, and the time is better spent on more blocks: one is
    enough, see `values_that_fit`. There and in fast blocks a few untimed connections take the warm-up value's place.
    """
    long = case.concurrency >= LONG_FROM or case.held is not None
    return int(not long and effort.values > 1), 1 if long or case.held is not None else effort.values


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How many seconds an arm takes in a block: `start` of them before its first value, and `value` for each."""

    start: float
    value: float

    def seconds(self, values: int) -> float:
        """Return the seconds that so many values take, start included."""
        return self.start + self.value * values

    def slowed(self, factor: float) -> "Pace":
        """Return the pace of a machine that needs so many times as long for everything."""
        return Pace(start=self.start * factor, value=self.value * factor)


def values_that_fit(case: Case, effort: Effort, *, seconds: float, pace: Pace, unforeseen: float = UNFORESEEN) -> int:
    """Return how many values an arm takes in a block in which it has so many seconds, a part of them `unforeseen`.

    Where a block of all values takes longer than is left for just blocks enough, there are fewer, one at least: without
    blocks there is no verdict. Where a value is long by itself it is the other way round: more of them, up to the usual
    number, make use of what the start of a block has cost, as far as there are blocks to spare. Arms that are not in
    rounds gain nothing by them.
    """
    _, values = values_of(case, effort)
    if case.concurrency > IN_ROUNDS_UP_TO or case.held is not None or case.role is Role.PAIR:
        return values
    if case.concurrency < LONG_FROM:
        return max(1, min(values, int(((1 - unforeseen) * seconds - pace.start) / pace.value)))
    spare = seconds / (1 if effort.blocks else SPARE_BLOCKS)
    return max(values, min(effort.values, int((spare - pace.start) / pace.value)))


def untimed_of(case: Case, effort: Effort) -> int:
    """Return how many connections warm an arm up that has no warm-up value: few in fast blocks, else some rounds."""
    warmups, _ = values_of(case, effort)
    if case.held is not None:
        # What a process has freed it would fill again, and nothing would be seen.
        return 0
    if warmups or effort.values == 1:
        return 0 if warmups else FAST_AT_ONCE
    return case.concurrency if case.burst else WARM_UP_ROUNDS * case.concurrency


def held_of(case: Case, effort: Effort, *, first: bool) -> int:
    """Return how many connections an arm's proof holds open at once: all, but in fast blocks after its first few."""
    if case.held is not None:
        return 1
    return case.concurrency if first or effort.values > 1 else min(case.concurrency, FAST_AT_ONCE)


def arms_of(
    contenders: Sequence[str],
    baseline: str,
    *,
    hidden: Sequence[str] = (),
    twins: int = 1,
    control: bool = False,
    floor: bool = False,
    references: Sequence[str] = (),
) -> tuple[Arm, ...]:
    """Every contender once, the baseline again as its own A/A twin, on request the positive control and the floor.

    References are servers that are not ours.
    """
    arms = [Arm(label=name, contender=name) for name in contenders]
    arms += [Arm(label=name, contender=name, kind=Kind.REFERENCE) for name in references]
    for number in range(1, twins + 1):
        label = f"{baseline}.twin" if number == 1 else f"{baseline}.twin{number}"
        arms.append(Arm(label=label, contender=baseline, kind=Kind.TWIN))
    if control:
        arms.append(Arm(label=f"{baseline}.control", contender=baseline, kind=Kind.CONTROL))
    if floor:
        arms.append(Arm(label=FLOOR, contender=FLOOR, kind=Kind.FLOOR))
    return (*arms, *(Arm(label=name, contender=name, kind=Kind.HIDDEN) for name in hidden))


def takes_references(case: Case) -> bool:
    """Tell whether servers that are not ours can take part: they only serve, and count no resumed handshakes."""
    return case.role is Role.SERVER and not (case.tls and case.tls.resumed)


def pair_label(caller: str, server: str) -> str:
    """Name a pair of a matrix."""
    return f"{caller}{BETWEEN}{server}"


def pairs_of(contenders: Sequence[str], baseline: str) -> tuple[Arm, ...]:
    """Every contender as the caller of every contender, itself among them, the baseline's pair twice: its A/A twin.

    The baseline must come first among the contenders.
    """
    arms = [
        Arm(label=pair_label(caller, server), contender=server, caller=caller)
        for caller in contenders
        for server in contenders
    ]
    twin = f"{pair_label(baseline, baseline)}.twin"
    return _distinct([*arms, Arm(label=twin, contender=baseline, kind=Kind.TWIN, caller=baseline)])


def _distinct(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Tell labels apart that names with `-to-` in them have made equal."""
    distinct: dict[str, Arm] = {}
    for arm in arms:
        label = arm.label
        while label in distinct:
            label += "+"
        distinct[label] = replace(arm, label=label)
    return tuple(distinct.values())


def order_of(seed: int, case: Case, index: int, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return a uniform permutation that depends on seed, case and block only: the coin that makes the test exact.

    Arms that are alive at once are put together; their order, and that of the groups, is still a matter of the coin.
    """
    generator = random.Random(f"{seed}/{case.name}/{index}")  # noqa: S311  # reproducible, not secret
    drawn = generator.sample(list(arms), k=len(arms))
    return tuple(arm for group in alive_together(case, drawn) for arm in group)


def alive_together(case: Case, order: Sequence[Arm]) -> tuple[tuple[Arm, ...], ...]:
    """Split a block's arms into those that are alive at once: they start, take their values, and end together.

    Usually these are all. With very many connections at a time each arm has the machine, and above all its memory, for
    itself. Of a large matrix the servers under one client go together: they are what is compared first of all.
    """
    if case.concurrency > IN_ROUNDS_UP_TO:
        return tuple((arm,) for arm in order)
    if case.role is not Role.PAIR or len(order) <= ALIVE_UP_TO:
        return (tuple(order),)
    callers = dict.fromkeys(arm.caller for arm in order)
    return tuple(tuple(arm for arm in order if arm.caller == caller) for caller in callers)


def rounds_of(seed: int, case: Case, index: int, order: Sequence[Arm], count: int) -> tuple[tuple[str, ...], ...]:
    """Return the order of the arms in each of a block's rounds, warm-up included; none where rounds are not possible.

    In a round every arm takes one value, so that arms are compared within a second, and not within minutes: what
    neighbours do to a shared machine comes and goes in tenths of a second. Arms that are not alive at once have rounds
    of their own, one after the other in their `order`.
    """
    groups = alive_together(case, order)
    if case.concurrency > IN_ROUNDS_UP_TO:
        return ()

    def one(number: int) -> tuple[str, ...]:
        generator = random.Random(f"{seed}/{case.name}/{index}/{number}")  # noqa: S311  # reproducible, not secret
        return tuple(arm.label for group in groups for arm in generator.sample(list(group), k=len(group)))

    return tuple(one(number) for number in range(count))


def margin_of(case: Case, unit: str) -> float:
    """Return how much longer than necessary a value of the baseline is planned, since others may be faster.

    Contenders differ most in what is not part of a connection's cost: handshake and kernel are the same for all.
    """
    return WIDE_MARGIN if case.role is Role.PAIR or unit != "connection" else CALIBRATION_MARGIN


def loops_of(case: Case, pace: float, *, margin: float = CALIBRATION_MARGIN, control: bool = False) -> int:
    """Return how many connections make a value, from the wall seconds per connection of the baseline or the fastest.

    A multiple of the concurrency, so that all workers are busy to the end; with a positive control of its share, too.
    """
    if case.connections is not None or case.burst or case.held is not None:
        return case.minimum_loops
    step = math.lcm(case.concurrency, CONTROL_SHARE) if control else case.concurrency
    enough = max(case.minimum_loops, MINIMUM_VALUE * margin / pace)
    return math.ceil(enough / step) * step


def loops_for(arm: Arm, loops: int) -> int:
    """Return how many connections, or conversations in memory, an arm counts in a value."""
    return max(10, loops // FLOOR_SHARE) if arm.kind is Kind.FLOOR else loops


def surplus_of(arm: Arm, loops: int) -> int:
    """Return how many connections an arm makes beyond those that it counts."""
    return loops // CONTROL_SHARE if arm.kind is Kind.CONTROL else 0


def is_time_to_look(blocks: int, minimum: int) -> bool:
    """Tell whether the widths are looked at after so many blocks: from the fewest that give intervals on, at times."""
    return blocks >= minimum and (blocks - minimum) % CHECK_EVERY == 0


def is_field_block(complete: int, effort: Effort, needed: int) -> bool:
    """Tell whether after so many complete blocks one runs in fresh processes with nothing pinned.

    The first does once the case has had the blocks that its intervals need.
    """
    if effort.field_every is None:
        return False
    first = max(needed, effort.field_every)
    return complete >= first and (complete - first) % effort.field_every == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What is asked for of a benchmark's cases; where nothing is, the benchmark's own choice stands.

    `connections` without `concurrencies` are bursts, all started at once; with them each is the size of a value.
    """

    roles: tuple[Role, ...] = ()
    concurrencies: tuple[int, ...] = ()
    connections: tuple[int, ...] = ()
    versions: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    cipher: str | None = None
    group: str | None = None
    tickets: int | None = None
    resumed: bool = False
    client_key: str | None = None
    rtt: float | None = None
    """Milliseconds."""

    @property
    def is_about_tls(self) -> bool:
        """Tell whether anything is asked of TLS."""
        asked = (*self.versions, *self.keys, self.cipher, self.group, self.resumed, self.client_key)
        return any(asked) or self.tickets is not None

    def profiles(self, tls: TLSProfile | None) -> tuple[TLSProfile | None, ...]:
        """Return the ways of doing TLS; one None for a benchmark without."""
        if tls is None:
            return (None,)
        asked: dict[str, Any] = {"cipher": self.cipher, "group": self.group, "client_key": self.client_key}
        tickets = self.tickets if self.tickets is not None else int(self.resumed) or None
        asked |= {"tickets": tickets, "resumed": self.resumed or None}
        own = replace(tls, **{name: value for name, value in asked.items() if value is not None})
        return tuple(
            replace(own, version=version, key=key)
            for version in self.versions or (own.version,)
            for key in self.keys or (own.key,)
        )


def cases_of(
    benchmark: Benchmark, variant: str, axes: Axes, *, peer: str, cores: int, usual_up_to: int | None = None
) -> list[Case]:
    """Return the cases of one conversation that were asked for; with nothing asked, the usual ones.

    `cores` is how many this process may use and can pin to, 0 where it cannot pin. `usual_up_to` is that of the effort.
    """
    idle = benchmark.conversation(variant).traffic is Traffic.IDLE

    def case(role: Role, concurrency: int, *, burst: bool = False, count: int | None = None) -> list[Case]:
        _check_concurrency(concurrency, MAXIMUM_HELD if idle else MAXIMUM_CONCURRENCY)
        if role not in benchmark.roles:
            there = ", ".join(each for each in benchmark.roles if each is not Role.PAIR)
            raise UsageError(f"{benchmark.name} has no role {role}; there are {there}")
        shared = Cores.SHARED if concurrency == 1 or cores == 1 else Cores.SEPARATE
        return [
            Case(
                benchmark=benchmark.name,
                variant=variant,
                concurrency=concurrency,
                role=role,
                peer=None if role in (Role.BOTH, Role.PAIR) else peer,
                cores=shared if cores else Cores.ANY,
                tls=profile,
                burst=burst,
                connections=count,
                rtt=axes.rtt,
                held=concurrency // HELD_SHARE if idle else None,
            )
            for profile in axes.profiles(benchmark.tls)
        ]

    roles = axes.roles
    if axes.connections and not axes.concurrencies:
        if benchmark.conversation(variant).traffic is not Traffic.CHURN:
            raise UsageError(f"{benchmark.name} has no bursts: give -c together with -n")
        usual = tuple(role for role in (Role.SERVER, Role.CLIENT) if role in benchmark.roles)
        return [each for count in axes.connections for role in roles or usual for each in case(role, count, burst=True)]
    cases: list[Case] = []
    # How many idle connections there are is what is looked at, and not how busy the two sides are.
    most = MAXIMUM_HELD if idle or usual_up_to is None else usual_up_to
    usually = {min(concurrency, most): roles for concurrency, roles in benchmark.usual}
    for concurrency in axes.concurrencies or usually:
        alone = (Role.SERVER, Role.CLIENT) if concurrency > 1 else (Role.BOTH,)
        possible = tuple(role for role in alone if role in benchmark.roles) or benchmark.roles[:1]
        for role in roles or usually.get(concurrency, possible):
            for count in axes.connections or (None,):
                if count is not None and count < 3 * concurrency:
                    raise UsageError(
                        f"-n {count} is less than three rounds of -c {concurrency}: type -n {3 * concurrency} or more, "
                        f"or -n {count} without -c for a burst"
                    )
                cases += case(role, concurrency, count=count)
    return cases


def _check_concurrency(concurrency: int, most: int) -> None:
    if not 1 <= concurrency <= most:
        raise UsageError(f"{concurrency} connections at a time: give 1 to {most}")
