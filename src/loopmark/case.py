"""The contract for benchmarks, and the cases they are measured in. A benchmark is data.

The name of a case is what pyperf stores: it holds every axis and never the contender, so that files of different
contenders can be compared and different settings can never be mixed up.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from loopmark.errors import UsageError
from loopmark.service import Service, Talk
from loopmark.spi import Answer, Feature, TLSProfile


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
    """What is stored for every value, per connection; the value is the suffix of pyperf's name.

    Times in seconds; memory, of idle connections only, in bytes.
    """

    WALL = "wall"
    CLIENT_CPU = "client cpu"
    SERVER_CPU = "server cpu"
    CLIENT_MEMORY = "client memory"
    SERVER_MEMORY = "server memory"


TIMES = (Metric.WALL, Metric.CLIENT_CPU, Metric.SERVER_CPU)
"""What every case has."""


PRIMARY = {
    Role.SERVER: Metric.SERVER_CPU,
    Role.CLIENT: Metric.CLIENT_CPU,
    Role.BOTH: Metric.WALL,
    Role.PAIR: Metric.SERVER_CPU,
}
"""The one metric that is judged, declared before anything is measured."""

PRIMARY_MEMORY = {
    Role.SERVER: Metric.SERVER_MEMORY,
    Role.CLIENT: Metric.CLIENT_MEMORY,
    Role.BOTH: Metric.SERVER_MEMORY,
    Role.PAIR: Metric.SERVER_MEMORY,
}
"""The same where connections are held."""


class Cores(StrEnum):
    """Placement of the two processes: both on one core, one core each, or wherever the system puts them."""

    SHARED = "shared"
    SEPARATE = "separate"
    ANY = "any"


class ClosePolicy(StrEnum):
    """How connections end.

    `both-notify`: the server sends its reply, close_notify, FIN; the client reads to the end of the stream, sends its
    own close_notify and closes; nobody waits a round trip for it. `fin`: the same on plain TCP, without close_notify.

    `client-notify`, `client-fin`: the client ends a conversation that could go on, and the server then ends it, too.
    `half-close`: the client ends its stream and reads on; the server answers what it has read, and then ends.
    """

    BOTH_NOTIFY = "both-notify"
    FIN = "fin"
    CLIENT_NOTIFY = "client-notify"
    CLIENT_FIN = "client-fin"
    HALF_CLOSE = "half-close"


class Traffic(StrEnum):
    """What a value is made of.

    `churn`: connections, each for one conversation. `messages`: round trips on connections that are open all the time.
    `pool`: the same on few connections that many share. `datagrams`: round trips without connections. `lookups`: names
    that are looked up, without a server. `idle`: connections that do nothing, whose memory is what is measured.
    """

    CHURN = "churn"
    MESSAGES = "messages"
    POOL = "pool"
    DATAGRAMS = "datagrams"
    LOOKUPS = "lookups"
    IDLE = "idle"


UNITS = {
    Traffic.CHURN: "connection",
    Traffic.MESSAGES: "round trip",
    Traffic.POOL: "request",
    Traffic.DATAGRAMS: "round trip",
    Traffic.LOOKUPS: "lookup",
    Traffic.IDLE: "connection",
}
"""What all figures of a case are per."""


SERVERS_ONLY = frozenset({Feature.FILES, Feature.SENDFILE})
CLIENTS_ONLY = frozenset({Feature.LIMITER, Feature.RESOLVER})
"""What only one side of a conversation has to be able to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A name to look up, and the addresses of which at least one must be found, and no other."""

    host: str
    family: socket.AddressFamily
    addresses: frozenset[str]


def _nothing() -> Service:
    raise UsageError("this conversation has no service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Both sides of what is said.

    `talks` take turns over the connections of a value. In a `pool` there are as many connections as `slots`.
    """

    service: Callable[[], Service] = _nothing
    talks: tuple[Talk, ...] = ()
    traffic: Traffic = Traffic.CHURN
    slots: int = 0
    go_ahead: bytes = b""
    """What a server says in the clear before both sides upgrade to TLS."""
    answer: Answer | None = None
    """A datagram server's side."""
    lookups: tuple[Lookup, ...] = ()
    needs: frozenset[Feature] = frozenset()
    """What a backend must be able to do besides TCP or TLS."""

    def __post_init__(self) -> None:
        """Raise UsageError where a part is missing that its traffic needs."""
        own = {Traffic.DATAGRAMS: "answer", Traffic.LOOKUPS: "lookups"}.get(self.traffic)
        for part in ("talks", *([own] if own else [])):
            if not getattr(self, part):
                raise UsageError(f"a conversation of {self.traffic} needs {part}")

    @property
    def talk(self) -> Talk:
        """The first of the talks."""
        return self.talks[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One question: its conversations by name, "" where there is one only, and the loads that it is asked with."""

    name: str
    question: str
    conversations: Mapping[str, Conversation]
    tls: TLSProfile | None
    concurrencies: tuple[int, ...] = (1, 10, 100, 1000)
    bursts: tuple[int, ...] = (1000, 1500, 2000, 2500)
    usual: tuple[tuple[int, tuple[Role, ...]], ...] = ((100, (Role.SERVER, Role.CLIENT)), (1, (Role.BOTH,)))
    """Connections at a time and roles where nothing else is asked for."""
    roles: tuple[Role, ...] = (Role.SERVER, Role.CLIENT, Role.BOTH, Role.PAIR)
    """Those that make sense."""
    references: tuple[str, ...] = ()
    """Servers that are not ours and can serve it, too: `nginx` what is a GET of static content."""
    second_opinion: str = ""
    """Path of the same content with its length told, for wrk; empty where wrk is not asked."""

    def __post_init__(self) -> None:
        """Raise UsageError where nothing could be measured, or not in this way."""
        if not self.conversations:
            raise UsageError(f"{self.name} has no conversations")
        if not (self.tls is None or isinstance(self.tls, TLSProfile)):
            raise UsageError(f"{self.name} has {self.tls!r} for tls: it must be None or a loopmark.spi.TLSProfile")

    def conversation(self, variant: str) -> Conversation:
        """Return one of the conversations; raises UsageError with those that exist."""
        if variant not in self.conversations:
            raise UsageError(f"unknown case {self.name}:{variant}; there are {', '.join(self.variants)}")
        return self.conversations[variant]

    @property
    def variants(self) -> tuple[str, ...]:
        """Every conversation as `-w` names it."""
        return tuple(f"{self.name}:{variant}" if variant else self.name for variant in self.conversations)

    def close_policy(self, variant: str) -> ClosePolicy | None:
        """Return the close policy that the wire must show; None where there are no connections to close."""
        conversation = self.conversation(variant)
        match conversation.traffic:
            case Traffic.DATAGRAMS | Traffic.LOOKUPS:
                return None
            case Traffic.MESSAGES | Traffic.POOL:
                return ClosePolicy.CLIENT_FIN if self.tls is None else ClosePolicy.CLIENT_NOTIFY
        if self.tls is not None:
            return ClosePolicy.BOTH_NOTIFY
        return ClosePolicy.HALF_CLOSE if b"" in conversation.talk.parts else ClosePolicy.FIN

    def needs(self, variant: str, *, serving: bool = True, calling: bool = True) -> frozenset[Feature]:
        """Return what a backend must be able to do that serves, calls, or does both."""
        conversation = self.conversation(variant)
        needs = set(conversation.needs)
        if conversation.traffic is Traffic.DATAGRAMS:
            needs.add(Feature.DATAGRAMS)
        else:
            needs.add(Feature.TCP if self.tls is None else Feature.TLS)
        if conversation.traffic is Traffic.POOL:
            needs.add(Feature.LIMITER)
        if conversation.traffic is Traffic.LOOKUPS:
            needs.add(Feature.RESOLVER)
        if conversation.go_ahead:
            needs.add(Feature.START_TLS)
        if any(b"" in talk.parts for talk in conversation.talks):
            needs.add(Feature.HALF_CLOSE)
        unasked = (SERVERS_ONLY if not serving else set()) | (CLIENTS_ONLY if not calling else set())
        return frozenset(needs - unasked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One parameter set of a benchmark.

    `concurrency` connections are open at a time. In a `burst` all connections of a value start at once. `connections`
    is the number of connections of a value when it was asked for, else None: it is calibrated then. `variant` names one
    of the benchmark's conversations. With `rtt`, in milliseconds, there is a network of that round-trip time between
    the two sides. With `held` connections are held and do nothing: what is measured is what those beyond the first
    `held` ones take, up to `concurrency`.
    """

    benchmark: str
    concurrency: int
    role: Role
    peer: str | None
    cores: Cores
    tls: TLSProfile | None
    burst: bool = False
    connections: int | None = None
    variant: str = ""
    rtt: float | None = None
    held: int | None = None

    def __post_init__(self) -> None:
        if (self.peer is None) != (self.role in (Role.BOTH, Role.PAIR)):
            raise UsageError(f"role {self.role} and peer {self.peer} do not go together")

    @property
    def name(self) -> str:
        """The case with all its axes, `tls_pingpong[c=1,role=both,cores=shared,tls=1.3,key=p256,group=X25519]`."""
        axes = [self.variant] if self.variant else []
        axes.append(f"burst={self.concurrency}" if self.burst else f"c={self.concurrency}")
        if self.connections is not None:
            axes.append(f"n={self.connections}")
        if self.held is not None:
            axes.append(f"held={self.held}")
        axes.append(f"role={self.role}")
        if self.peer is not None:
            axes.append(f"peer={self.peer}")
        axes.append(f"cores={self.cores}")
        if self.rtt is not None:
            axes.append(f"rtt={self.rtt:g}ms")
        if self.tls is not None:
            axes += [f"tls={self.tls.version}", f"key={self.tls.key}", f"group={self.tls.group}"]
            axes += [f"cipher={self.tls.cipher}"] if self.tls.cipher else []
            axes += [f"tickets={self.tls.tickets}"] if self.tls.tickets else []
            axes += ["resumed"] if self.tls.resumed else []
            axes += [f"client-key={self.tls.client_key}"] if self.tls.client_key else []
        return f"{self.benchmark}[{','.join(axes)}]"

    @property
    def primary(self) -> Metric:
        """The metric that is judged."""
        return PRIMARY[self.role] if self.held is None else PRIMARY_MEMORY[self.role]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All metrics that its values have."""
        return TIMES if self.held is None else (*TIMES, Metric.CLIENT_MEMORY, Metric.SERVER_MEMORY)

    @property
    def minimum_loops(self) -> int:
        """The fewest connections that a value may have: three rounds of all, or one whole burst."""
        if self.connections is not None:
            return self.connections
        if self.held is not None:
            return self.concurrency - self.held
        return self.concurrency if self.burst else 3 * self.concurrency


def stored_name(case_name: str, metric: Metric) -> str:
    """Name a benchmark as pyperf's files do: wall is plain, the CPU times have a suffix."""
    return case_name if metric is Metric.WALL else f"{case_name} [{metric}]"
