"""What a process of a role is told, as plain data that goes through a pipe or a command line."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopmark.case import Benchmark, Case, Conversation, Cores, Role
from loopmark.errors import UsageError
from loopmark.registry import Contender, Source
from loopmark.spi import Options, TLSProfile
from loopmark.tls import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One role of one contender in one case.

    `cpu` is the core to run on, None for wherever the system puts it. `port` 0 lets the system choose. `namespace` is
    the side of a link that this role lives in (`loopmark.network`), None for where everybody is.
    """

    contender: Contender
    benchmark: Source
    case: Case
    identity: Identity | None
    host: str = "127.0.0.1"
    port: int = 0
    cpu: int | None = None
    options: Options = field(default_factory=Options)
    namespace: str | None = None

    def load_benchmark(self) -> Benchmark:
        """Import the benchmark."""
        benchmark = self.benchmark.load()
        if not isinstance(benchmark, Benchmark):
            raise UsageError(f"{self.benchmark.value} is no loopmark.case.Benchmark")
        return benchmark

    def conversation(self) -> Conversation:
        """Import the benchmark and pick the case's conversation."""
        return self.load_benchmark().conversation(self.case.variant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one arm has to do: always prove its work, then measure, or with `values` 0 only find its pace.

    `loops` connections make a value; before the first of `values` come `warmups` of the same size, and before those
    `untimed` connections. Before that the proof holds `at_once` connections open at the same time, and with `trace` one
    conversation goes through the recording relay. Each value makes `surplus` connections more than are counted, which
    only the positive control does. With `floor` the two sides talk in memory, in one process. With `fresh` the two are
    new interpreters, else forks of the block's; with `pinned` their malloc is pinned, too.
    """

    arm: str
    server: Task
    client: Task
    loops: int
    warmups: int
    values: int
    at_once: int
    untimed: int = 0
    surplus: int = 0
    trace: bool = False
    floor: bool = False
    fresh: bool = False
    pinned: bool = True
    deadline: float = 120.0
    """Seconds after which the arm is ended from outside."""


def to_json(thing: Task | Order) -> str:
    """Write a task or an order on one line."""
    return json.dumps(dataclasses.asdict(thing), default=_as_text)


def _as_text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def task_from(text: str | dict[str, Any]) -> Task:
    """Read what `to_json` wrote; only our own processes write it, so nothing is checked."""
    raw = json.loads(text) if isinstance(text, str) else text
    case = raw["case"]
    profile = case["tls"] and TLSProfile(**case["tls"])
    identity = raw["identity"]
    loop = raw["contender"]["loop"]
    return Task(
        contender=Contender(
            name=raw["contender"]["name"],
            backend=Source(**raw["contender"]["backend"]),
            loop=loop and Source(**loop),
            reference=raw["contender"]["reference"],
        ),
        benchmark=Source(**raw["benchmark"]),
        case=Case(**{**case, "role": Role(case["role"]), "cores": Cores(case["cores"]), "tls": profile}),
        identity=identity
        and Identity(
            ca=Path(identity["ca"]),
            chain=Path(identity["chain"]),
            key=Path(identity["key"]),
            server_name=identity["server_name"],
            client_chain=identity["client_chain"] and Path(identity["client_chain"]),
            client_key=identity["client_key"] and Path(identity["client_key"]),
        ),
        host=raw["host"],
        port=raw["port"],
        cpu=raw["cpu"],
        options=_options(raw["options"]),
        namespace=raw["namespace"],
    )


def _options(raw: dict[str, Any]) -> Options:
    binary = [each.name for each in dataclasses.fields(Options) if isinstance(each.default, bytes)]
    return Options(**{**raw, **{name: raw[name].encode("latin-1") for name in binary}})


def order_from(text: str) -> Order:
    """Read an order that `to_json` wrote."""
    raw = json.loads(text)
    return Order(**{**raw, "server": task_from(raw["server"]), "client": task_from(raw["client"])})
