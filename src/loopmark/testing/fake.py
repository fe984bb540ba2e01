"""An executor without processes, on a virtual clock: scheduling, storing and reporting are tested in no time with it.

Its answers have the shape of `loopmark.caller.report`. What an arm costs is known exactly, what goes wrong is scripted.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopmark.arms import BlockDiedError
from loopmark.case import Case, Cores, Role
from loopmark.errors import FactsError, VoidError
from loopmark.record import Arm
from loopmark.registry import Contender, Source
from loopmark.task import Order, Task

OPENING = 0.25
"""Virtual seconds that a block's interpreter takes to start."""

STARTING = 0.125
"""Virtual seconds that an arm's processes take to start, and to prove their work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mishap:
    """Something that goes wrong, once, when the arm `arm` (None: any) runs for the time `run`, counted from 0.

    Calibrations count apart from runs that measure. `case` None: in any case. `what` is done then: a BlockDiedError and
    what is no `Exception` (an interrupt, say) are raised, another exception becomes the answer's error as it would in
    a client, and a function may doctor the answer in place.
    """

    what: BaseException | Callable[[dict[str, Any]], None]
    arm: str | None = None
    run: int = 0
    case: str | None = None
    calibrating: bool = False
    step: str = "start"
    """When: at its `start`, in its first `turn`, or at its `finish`."""


@dataclass(slots=True, kw_only=True)
class FakeExecutor:
    """Implements `loopmark.arms.Executor`.

    `costs` are seconds of CPU time per connection on either side, by contender; `cost` is everybody else's, `floor` is
    the floor's. `noise` is the standard deviation of a value's logarithm; each block has a level of its own, the same
    for all of its arms. By `slowing` the values of every block last longer than those of the block before.
    """

    costs: Mapping[str, float] = field(default_factory=dict)
    cost: float = 0.0002
    floor: float = 0.0001
    noise: float = 0.01
    slowing: float = 0.0
    seed: int = 0
    mishaps: Sequence[Mishap] = ()
    now: float = 0.0
    """The virtual time in seconds."""
    orders: list[Order] = field(default_factory=list)
    """All that were given, the newest last."""
    turns: list[str] = field(default_factory=list)
    """Whose turn it was, the newest last."""
    blocks: int = 0
    """How many were opened."""
    is_open: bool = False
    _drawn: random.Random = field(init=False)
    _level: float = 1.0
    _started: dict[str, tuple[Order, dict[str, Any], list[float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._drawn = random.Random(self.seed)  # noqa: S311  # reproducible, not secret

    def clock(self) -> float:
        """Return the virtual time, in seconds."""
        return self.now

    def open_block(self) -> None:
        """Draw a new level; raises RuntimeError when the last block was not closed."""
        if self.is_open:
            raise RuntimeError("the last block is still open")
        self.is_open = True
        self.blocks += 1
        self.now += OPENING
        self._level = self._drawn.uniform(0.8, 1.25) * (1 + self.slowing) ** self.blocks

    def close_block(self) -> None:
        """End the block and all of its arms; closing one that never opened is fine."""
        self._started.clear()
        self.is_open = False

    def start(self, order: Order) -> dict[str, Any]:
        """Let the time of an arm's start pass and answer as a client would."""
        if not self.is_open:
            raise RuntimeError("no block is open")
        if order.arm in self._started:
            raise RuntimeError(f"{order.arm} has been started twice")
        self.orders.append(order)
        self.now += STARTING
        answer = self._befall("start", order, self._answer(order))
        if "error" in answer:
            return {**answer, "seconds": STARTING}
        if not order.values:
            self.now += answer["pace"] * order.loops
            return {**answer, "seconds": STARTING + answer["pace"] * order.loops}
        self._started[order.arm] = (order, answer, [*answer["warmups"], *answer["wall"]])
        return {name: answer[name] for name in ("facts", "proof_seconds", "trace", "judgement") if name in answer}

    def round(self, arms: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Let the time of one value of each pass."""
        return {arm: self._turn(arm) for arm in arms}

    def _turn(self, arm: str) -> dict[str, Any]:
        order, _, walls = self._started[arm]
        self.turns.append(arm)
        seconds = walls.pop(0) * order.loops
        self.now += seconds
        first = len(walls) == order.warmups + order.values - 1
        return self._befall("turn", order, {"timed_seconds": seconds}) if first else {"timed_seconds": seconds}

    def finish(self, arm: str) -> dict[str, Any]:
        """Answer with all that was measured; raises RuntimeError when a value was not taken."""
        order, answer, walls = self._started.pop(arm)
        if walls:
            raise RuntimeError(f"{arm} has not taken all of its values")
        values = [*answer["warmups"], *answer["wall"]]
        return self._befall("finish", order, {**answer, "seconds": STARTING + sum(values) * order.loops})

    def _befall(self, step: str, order: Order, answer: dict[str, Any]) -> dict[str, Any]:
        for mishap in self.mishaps:
            if mishap.step == step and self._is_due(mishap, order):
                answer = _apply(mishap, answer)
        return answer

    def _is_due(self, mishap: Mishap, order: Order) -> bool:
        def fits(each: Order) -> bool:
            return (
                mishap.arm in (None, each.arm)
                and mishap.case in (None, each.client.case.name)
                and mishap.calibrating == (each.values == 0)
            )

        return fits(order) and sum(map(fits, self.orders)) == mishap.run + 1

    def _answer(self, order: Order) -> dict[str, Any]:
        if order.floor:
            return self._floor(order)
        answer: dict[str, Any] = {"facts": _facts(order), "proof_seconds": STARTING / 2}
        if order.trace:
            answer |= {"trace": dict(TRACE), "judgement": None}
        rows = [self._value(order) for _ in range(order.warmups + max(order.values, 1))]
        if not order.values:
            return answer | {"pace": rows[0][0]}
        wall, client, server = ([row[column] for row in rows] for column in range(3))
        timed = slice(order.warmups, None)
        return answer | {
            "loops": order.loops,
            "wall": wall[timed],
            "client_cpu": client[timed],
            "server_cpu": server[timed],
            "warmups": wall[: order.warmups],
            "client": dict(SIDE),
            "server": dict(SIDE),
            "peak": order.client.case.concurrency,
            "metadata": {"python_version": "3.13.0 (64-bit)", "loops": order.loops},
        }

    def _floor(self, order: Order) -> dict[str, Any]:
        rows = [self.floor * self._level * self._drawn.lognormvariate(0, self.noise) for _ in range(order.values)]
        return {
            "facts": _facts(order),
            "proof_seconds": STARTING / 2,
            "loops": order.loops,
            "wall": [2 * cost for cost in rows],
            "client_cpu": rows,
            "server_cpu": rows,
            "warmups": [2 * self.floor * self._level] * order.warmups,
            "client": dict.fromkeys(SIDE),
            "server": dict.fromkeys(SIDE),
            "peak": 0,
            "metadata": {"python_version": "3.13.0 (64-bit)", "loops": order.loops},
        }

    def _value(self, order: Order) -> tuple[float, float, float]:
        """Return wall, client CPU and server CPU of one value, in seconds per connection."""
        client, server = (
            self.costs.get(task.contender.name, self.cost)
            * (1 + order.surplus / order.loops)
            * self._level
            * self._drawn.lognormvariate(0, self.noise)
            for task in (order.client, order.server)
        )
        one_core = order.client.case.cores is Cores.SHARED
        return (client + server if one_core else max(client, server)), client, server


TRACE: Mapping[str, Any] = {
    "records": ["> handshake 517", "< handshake 122", "< change_cipher_spec 1", "< application_data 23"],
    "bytes_to_server": 689,
    "bytes_to_client": 1003,
    "group": "X25519",
    "first_close_notify": "server",
    "first_fin": "server",
}

SIDE: Mapping[str, Any] = {
    "minor_faults": 0.5,
    "voluntary_switches": 1.0,
    "involuntary_switches": 0.0,
    "run_delay": 1e-6,
    "collections": 2,
    "private_kib": 1024.0,
}


def assign(case: Case, arm: Arm) -> tuple[Task, Task, bool]:
    """Say what both sides of an arm have to do, as `loopmark.campaign` does, for contenders that need not exist."""

    def task(name: str | None, cpu: int) -> Task:
        assert name is not None
        nowhere = Source(value="nowhere:nothing")
        return Task(
            contender=Contender(name=name, backend=nowhere), benchmark=nowhere, case=case, identity=None, cpu=cpu
        )

    server = arm.contender if case.role is not Role.CLIENT else case.peer
    client = arm.caller or (arm.contender if case.role is not Role.SERVER else case.peer)
    return task(server, 0), task(client, 0 if case.cores is Cores.SHARED else 1), False


def _facts(order: Order) -> dict[str, Any]:
    return {
        "equal": {"nodelay": True, "tls_version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "backlog": 4096},
        "client": {"loop": f"{order.client.contender.name}.Loop", "transport": "fake.Transport"},
        "server": {"loop": f"{order.server.contender.name}.Loop", "transport": "fake.Transport"},
    }


def _apply(mishap: Mishap, answer: dict[str, Any]) -> dict[str, Any]:
    match mishap.what:
        case FactsError() as error:
            return {"error": str(error), "facts": True}
        case VoidError() as error:
            return {"error": str(error), "void": True}
        case BlockDiedError() as error:
            raise error
        case Exception() as error:
            return {"error": str(error)}
        case BaseException() as error:
            raise error
        case doctor:
            doctor(answer)
            return answer
