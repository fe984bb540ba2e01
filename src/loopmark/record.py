"""What a campaign knows: plain data, the same in memory and (through `loopmark.store`) on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from loopmark.case import Case, ClosePolicy, Metric


class Kind(StrEnum):
    """What an arm is there for.

    `reference`: a server that is not ours, compared like a contender. `twin`: the baseline again, under another label:
    whatever is found there is noise. `control`: the baseline with two percent more work than is counted: what must be
    found. `floor`: handshake and messages in memory, without any socket or loop. `hidden`: a yardstick of the tests, in
    no table.
    """

    CONTENDER = "contender"
    REFERENCE = "reference"
    TWIN = "twin"
    CONTROL = "control"
    FLOOR = "floor"
    HIDDEN = "hidden"


COMPARED = (Kind.CONTENDER, Kind.REFERENCE)
"""The kinds that are judged against the baseline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One contender under one label; the floor is an arm without a contender."""

    label: str
    contender: str
    kind: Kind = Kind.CONTENDER
    caller: str | None = None
    """In the role `pair` the contender that calls this one; in any other the role says who calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One process while its arm was timed. Per connection, but for `collections`; None: not to be had here."""

    minor_faults: float | None
    voluntary_switches: float | None
    involuntary_switches: float | None
    run_delay: float | None
    """Seconds spent runnable but waiting for a core."""
    collections: int | None
    """Garbage collections in all timed values together."""
    private_kib: float | None
    """Private memory after the last value, above the ready state before the first connection."""


UNKNOWN = Side(
    minor_faults=None,
    voluntary_switches=None,
    involuntary_switches=None,
    run_delay=None,
    collections=None,
    private_kib=None,
)
"""A side of which nothing was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One arm in one block: all times in seconds per connection, one per value, the same length in all three."""

    arm: str
    loops: int
    wall: tuple[float, ...]
    client_cpu: tuple[float, ...]
    server_cpu: tuple[float, ...]
    warmups: tuple[float, ...]
    client: Side
    server: Side
    peak: int
    """Connections that the server was seen to have open at once before the values; 0 for a yardstick."""
    seconds: float
    """Wall time of the whole arm, start-up included."""
    facts: dict[str, dict[str, Any]]
    """What was read off live connections: {"client": {...}, "server": {...}, "equal": {...}}."""
    metadata: dict[str, str | int | float]
    """pyperf's own metadata of the run, stripped of names and paths."""
    client_memory: tuple[float, ...] = ()
    server_memory: tuple[float, ...] = ()
    """Bytes of private memory per connection, where connections are held; else none."""

    @classmethod
    def reported(cls, arm: str, report: Mapping[str, Any]) -> "Measurement":
        """Read what the client's process of an arm reported, `seconds` added by the block."""
        return cls(
            arm=arm,
            loops=report["loops"],
            wall=tuple(report["wall"]),
            client_cpu=tuple(report["client_cpu"]),
            server_cpu=tuple(report["server_cpu"]),
            warmups=tuple(report["warmups"]),
            client=Side(**report["client"]),
            server=Side(**report["server"]),
            peak=report["peak"],
            seconds=report["seconds"],
            facts=report["facts"],
            metadata=report["metadata"],
            client_memory=tuple(report.get("client_memory", ())),
            server_memory=tuple(report.get("server_memory", ())),
        )

    def values(self, metric: Metric) -> tuple[float, ...]:
        """Return the values of one metric."""
        return {
            Metric.WALL: self.wall,
            Metric.CLIENT_CPU: self.client_cpu,
            Metric.SERVER_CPU: self.server_cpu,
            Metric.CLIENT_MEMORY: self.client_memory,
            Metric.SERVER_MEMORY: self.server_memory,
        }[metric]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One complete block of one case: every arm that is still in.

    `order` is that in which they started and proved their work. Then all took one value after another, in rounds: the
    warm-up rounds first, each in a random order of its own, all of which `rounds` has. Without rounds each arm took all
    of its values, and ended, before the next one started.

    A field block ran in fresh processes with nothing pinned; its numbers are shown beside the others, never mixed.
    """

    case: str
    index: int
    field: bool
    order: tuple[str, ...]
    rounds: tuple[tuple[str, ...], ...]
    measurements: dict[str, Measurement]
    seconds: float

    def without(self, arm: str) -> "Block":
        """Return the block as if an arm had never been in it."""
        return replace(
            self,
            order=tuple(each for each in self.order if each != arm),
            rounds=tuple(tuple(each for each in one if each != arm) for one in self.rounds),
            measurements={each: value for each, value in self.measurements.items() if each != arm},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One conversation as the recording relay saw it. Records are `direction type length` in the order of arrival."""

    records: tuple[str, ...]
    bytes_to_server: int
    bytes_to_client: int
    group: str | None
    first_close_notify: str | None
    first_fin: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Why an arm has no number, or none from some block on: `skipped`, `unsupported`, `retired`, `not comparable`.

    `case` is a case's name, a benchmark's (all of its cases) or `*` (all).
    """

    arm: str
    case: str
    status: str
    reason: str


@dataclass(slots=True, kw_only=True)
class CasePlan:
    """One case of a campaign: who takes part, with how many connections a value."""

    case: Case
    arms: tuple[Arm, ...]
    loops: int
    question: str = ""
    """The benchmark's own, so that a table can be read without the benchmark."""
    close: ClosePolicy | None = None
    unit: str = "connection"
    """What all of its figures are per."""
    baseline: str = ""
    """Whom the ratios refer to where the campaign's baseline cannot take part; empty where it does."""
    ended: str = ""
    """Why its blocks are as many as they are: `target`, `blocks`, `time cap`; empty when something else ended them."""
    next_block: int = 0
    """Index of its next block: those that were dropped have had theirs."""
    failed: tuple[str, ...] = ()
    """Arms that have failed once; whoever does so again is retired."""

    def labels(self, *kinds: Kind) -> tuple[str, ...]:
        """Return the labels of the arms of some kinds, in the campaign's order."""
        return tuple(arm.label for arm in self.arms if arm.kind in kinds)


@dataclass(slots=True, kw_only=True)
class Campaign:
    """One invocation, all of it."""

    started: str
    """UTC, ISO 8601, whole seconds."""
    label: str
    command: tuple[str, ...]
    seed: int
    mode: str
    """`fast`, `default`, `rigorous`, `matrix` or `smoke`, which proves the work and compares nothing."""
    baseline: str
    margin: float
    """Differences up to this share count as none: 0.01 is one percent. Declared before anything was measured."""
    target: float | None
    """Half-width of all primary intervals at which a case stops by itself; None: it does not."""
    blocks_wanted: int | None = None
    """Blocks at which every case stops; None: it does not stop by their number."""
    seconds_allowed: float = 0.0
    """Wall time that it may take in all, continuations included."""
    fresh: bool = False
    """Whether all arms had to run in fresh processes because that was asked for."""
    cases: list[CasePlan] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    """One sentence per block that did not complete."""
    outcomes: list[Outcome] = field(default_factory=list)
    traces: dict[str, dict[str, Trace]] = field(default_factory=dict)
    """By case name, then by arm."""
    machine: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What a reader must know: what was not pinned, what could not be read."""
    ended: str = "running"
    """`running`, `done`, `time cap`, `interrupted`, or a sentence that says what ended it."""
    seconds: float = 0.0
    """Wall time of the whole campaign."""
    measured_seconds: float = 0.0
    """Of which inside timed values and warm-up values."""
    proof_seconds: float = 0.0
    """Of which with untimed connections that prove the work, and with waiting for the server to rest."""

    def baseline_of(self, plan: CasePlan) -> str:
        """Return the label of the arm that a case's ratios refer to."""
        return plan.baseline or self.baseline
