"""The contract for benchmarks, and the cases they are measured in. A benchmark is data.

The name of a case is what pyperf stores: it holds every axis and never the contender, so that files of different
contenders can be compared and different settings can never be mixed up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from loopmark.errors import UsageError
from loopmark.service import Service, Talk
from loopmark.spi import Feature, TLSProfile


class Role(StrEnum):
    """Which side the contender plays; `both` talks to itself and never ranks servers.

    `pair`: both sides are named by the arm, one contender calls another one. Only a matrix has it.
    """

    SERVER = "server"
    CLIENT = "client"
    BOTH = "both"
    PAIR = "pair"


ROLES = (Role.SERVER, Role.CLIENT, Role.BOTH)
"""Those that a single contender can have."""


class Metric(StrEnum):
    """What is stored for every value, in seconds per connection; the value is the suffix of pyperf's name."""

    WALL = "wall"
    CLIENT_CPU = "client cpu"
    SERVER_CPU = "server cpu"


PRIMARY = {
    Role.SERVER: Metric.SERVER_CPU,
    Role.CLIENT: Metric.CLIENT_CPU,
    Role.BOTH: Metric.WALL,
    Role.PAIR: Metric.SERVER_CPU,
}
"""The one metric that is judged, declared before anything is measured."""


class Cores(StrEnum):
    """Placement of the two processes: both on one core, one core each, or wherever the system puts them."""

    SHARED = "shared"
    SEPARATE = "separate"
    ANY = "any"


class ClosePolicy(StrEnum):
    """How connections end.

    `both-notify`: the server sends its reply, close_notify, FIN; the client reads to the end of the stream, sends its
    own close_notify and closes; nobody waits a round trip for it. `fin`: the same on plain TCP, without close_notify.
    """

    BOTH_NOTIFY = "both-notify"
    FIN = "fin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One question: the conversation on both sides, and the numbers of connections that it is asked with."""

    name: str
    question: str
    service: Callable[[], Service]
    talk: Talk
    tls: TLSProfile | None
    concurrencies: tuple[int, ...] = (1, 10, 100, 1000)
    bursts: tuple[int, ...] = (1000, 1500, 2000, 2500)

    @property
    def close_policy(self) -> ClosePolicy:
        """The close policy that the wire must show."""
        return ClosePolicy.FIN if self.tls is None else ClosePolicy.BOTH_NOTIFY

    @property
    def needs(self) -> frozenset[Feature]:
        """What a backend must be able to do to take part."""
        return frozenset({Feature.TCP if self.tls is None else Feature.TLS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One parameter set of a benchmark.

    `concurrency` connections are open at a time. In a `burst` all connections of a value start at once. `connections`
    is the number of connections of a value when it was asked for, else None: it is calibrated then.
    """

    benchmark: str
    concurrency: int
    role: Role
    peer: str | None
    cores: Cores
    tls: TLSProfile | None
    burst: bool = False
    connections: int | None = None

    def __post_init__(self) -> None:
        if (self.peer is None) != (self.role in (Role.BOTH, Role.PAIR)):
            raise UsageError(f"role {self.role} and peer {self.peer} do not go together")

    @property
    def name(self) -> str:
        """The case with all its axes, `tls_pingpong[c=1,role=both,cores=shared,tls=1.3,key=p256,group=X25519]`."""
        axes = [f"burst={self.concurrency}" if self.burst else f"c={self.concurrency}"]
        if self.connections is not None:
            axes.append(f"n={self.connections}")
        axes.append(f"role={self.role}")
        if self.peer is not None:
            axes.append(f"peer={self.peer}")
        axes.append(f"cores={self.cores}")
        if self.tls is not None:
            axes += [f"tls={self.tls.version}", f"key={self.tls.key}", f"group={self.tls.group}"]
        return f"{self.benchmark}[{','.join(axes)}]"

    @property
    def primary(self) -> Metric:
        """The metric that is judged."""
        return PRIMARY[self.role]

    @property
    def minimum_loops(self) -> int:
        """The fewest connections that a value may have: three rounds of all, or one whole burst."""
        if self.connections is not None:
            return self.connections
        return self.concurrency if self.burst else 3 * self.concurrency


def stored_name(case_name: str, metric: Metric) -> str:
    """Name a benchmark as pyperf's files do: wall is plain, the CPU times have a suffix."""
    return case_name if metric is Metric.WALL else f"{case_name} [{metric}]"
