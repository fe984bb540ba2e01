"""The client's role in a process of its own: prove the work on live connections, then let pyperf measure.

Only what a connection needs is timed: from before connect to after close, inside the running loop. Imports, contexts,
the start of loop and server, and warm-up are not. The server's CPU time is read from outside, between two moments at
which the server is at rest, so that no work of one value is charged to another.
"""

import dataclasses
import os
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyperf

from loopmark import procfs, tls, wire
from loopmark.case import Benchmark
from loopmark.errors import FactsError, LoopmarkError, VoidError, translate
from loopmark.peer import Handle, LoopWitness, die_with_parent, place, spawned
from loopmark.readings import Readings
from loopmark.relay import RecordingRelay
from loopmark.spi import Backend, Facts
from loopmark.task import Order, Task, order_from
from loopmark.traffic import Target, churn, hold, release, visit
from loopmark.turns import Turns

# Clocks differ a little; a process on one core cannot use more CPU time than there was wall time.
CLOCK_SHARE, CLOCK_SECONDS = 0.005, 50e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value: seconds for all of its connections together."""

    wall: float
    client_cpu: float
    server_cpu: float


class Caller:
    """A contender that calls a server in another process."""

    def __init__(self, task: Task, server: Handle) -> None:
        self.task = task
        self.case = task.case
        self.server = server
        # First of all, as on the other side: libraries that are mapped after the same steps lie at the same addresses.
        self.backend: Backend = task.contender.load()
        self.benchmark: Benchmark = task.load_benchmark()
        self.loops = LoopWitness(self.backend)
        client = None
        if task.case.tls is not None:
            assert task.identity is not None
            client = tls.client_tls(task.case.tls, task.identity)
        server.wait_until_ready()
        # Only now, so that the two sides of an arm can import at the same time, each on a core.
        place(task.cpu)
        self.target = Target(address=server.address, talk=self.benchmark.talk, tls=client, options=task.options)
        self._server_clock = procfs.cpu_clock(server.pid)
        self._readings = Readings(server)
        self._peak = 0

    def prove(self, at_once: int) -> dict[str, Any]:
        """Make untimed connections, one and then `at_once`, and return the facts of both sides.

        Raises FactsError when a fact contradicts the case.
        """
        facts = self.backend.run(lambda: visit(self.backend, self.target))
        self.loops.check(facts.loop)
        theirs = self.backend.run(lambda: self._hold(at_once))
        return _check_facts(facts, theirs, self.case.tls is not None, self.task.options.nodelay)

    def warm_up(self, connections: int) -> None:
        """Make untimed connections, where there is no warm-up value."""
        concurrency = min(connections, self.case.concurrency)
        traffic = self.backend.churn or churn
        self.backend.run(lambda: traffic(self.backend, self.target, connections=connections, concurrency=concurrency))

    async def _hold(self, count: int) -> dict[str, Any]:
        """Hold connections open at once, and let the server say that it has as many."""
        before = self.server.ask("counts")
        connections = await hold(self.backend, self.target, count)
        if self.server.counted:
            self._peak = self._await_open(count, before["handshakes"])
        theirs = self.server.ask("facts")
        await release(self.backend, self.target, connections)
        return theirs

    def _await_open(self, wanted: int, handshakes: int | None) -> int:
        """Wait until the server has open what our side has, and return how many those are.

        Its last handshakes may still be under way when ours are over.
        """
        for _ in range(10_000):
            counts = self.server.ask("counts")
            shaken = wanted if handshakes is None else counts["handshakes"] - handshakes
            if min(counts["open"], shaken) >= wanted:
                break
            time.sleep(0.001)
        if counts["open"] != wanted or shaken != wanted:
            raise FactsError(f"holds {wanted} connections open, but the server has {counts['open']}, {shaken} shaken")
        return wanted

    def trace(self) -> dict[str, Any]:
        """Have the conversation once through the recording relay; raises FactsError when the wire tells otherwise."""
        with RecordingRelay(self.server.address) as relay:
            target = dataclasses.replace(self.target, address=relay.address)
            self.backend.run(lambda: visit(self.backend, target))
            traces = relay.traces()
        if len(traces) != 1:
            raise FactsError(f"one conversation used {len(traces)} connections")
        why = wire.judge(traces[0], self.benchmark.close_policy, tls=self.case.tls, talk=self.benchmark.talk)
        return {"trace": dataclasses.asdict(traces[0]), "judgement": why}

    def time(self, connections: int) -> Value:
        """Take one value of `connections` connections; raises FactsError when any count or clock does not fit."""
        overflows = procfs.listen_overflows()
        before = self.server.ask("counts")
        server_start = self._at_rest()
        wall, client_cpu, server_so_far, replies = self.backend.run(lambda: self._timed(connections))
        server_cpu = self._at_rest() - server_start
        value = Value(wall=wall, client_cpu=client_cpu, server_cpu=server_cpu)
        after = self.server.ask("counts")
        self._check_counts(before, after, connections, replies)
        if overflows is not None and procfs.listen_overflows() != overflows:
            raise VoidError("the accept queue overflowed, so the kernel dropped connections: the value is void")
        if self.task.cpu is not None:
            for side, cpu in (("client", client_cpu), ("server", server_so_far - server_start)):
                if cpu > wall * (1 + CLOCK_SHARE) + CLOCK_SECONDS:
                    raise FactsError(f"on one core the {side} used {cpu:.6f} s of CPU time in {wall:.6f} s")
        return value

    async def _timed(self, connections: int) -> tuple[float, float, float, int]:
        traffic = self.backend.churn or churn
        cpu = time.process_time()
        start = time.perf_counter()
        replies = await traffic(self.backend, self.target, connections=connections, concurrency=self.case.concurrency)
        wall = time.perf_counter() - start
        client_cpu = time.process_time() - cpu
        return wall, client_cpu, self._server_clock(), replies

    def _at_rest(self) -> float:
        """Wait until the server's CPU clock stands still; return it, in seconds."""
        last = self._server_clock()
        for _ in range(10_000):
            time.sleep(0.0005)
            now = self._server_clock()
            if now == last:
                return now
            last = now
        raise FactsError("the server never comes to rest after its clients are gone")

    def _check_counts(self, before: dict[str, Any], after: dict[str, Any], connections: int, replies: int) -> None:
        counted = {"replies that the client received": replies}
        if after["handshakes"] is not None:
            counted["handshakes that the server completed"] = after["handshakes"] - before["handshakes"]
        if self.server.counted:
            counted["connections that the server accepted"] = after["accepted"] - before["accepted"]
            counted["conversations that the server finished"] = after["served"] - before["served"]
        for what, count in counted.items():
            if count != connections:
                raise FactsError(f"{what}: {count} instead of {connections}")

    def measure(
        self, turns: Turns, proof: dict[str, Any], *, loops: int, warmups: int, values: int, surplus: int = 0
    ) -> dict[str, Any]:
        """Let a pyperf worker take the values, each in its turn; return them with all readings, per connection.

        The proof is told once pyperf is ready, too: what it does to get there must not disturb those whose turn it is.

        The `surplus` connections of each value are made and proven like the others, but not counted.
        """
        taken: list[Value] = []

        def take(count: int) -> float:
            if not taken:
                turns.tell(proof)
            turns.wait()
            if len(taken) == warmups:
                self._readings.settle()
            taken.append(self.time(count + surplus))
            turns.tell({"timed_seconds": taken[-1].wall})
            if len(taken) == warmups + values:
                # What pyperf and we do at the end must not disturb those whose turn it is now.
                turns.wait()
            return taken[-1].wall

        run = pyperf_worker(self.case.name, take, loops, warmups, values, self.task.cpu)
        timed = taken[warmups:]
        return {
            "loops": loops,
            "wall": [value.wall / loops for value in timed],
            "client_cpu": [value.client_cpu / loops for value in timed],
            "server_cpu": [value.server_cpu / loops for value in timed],
            "warmups": [value.wall / loops for value in taken[:warmups]],
            **self._readings.result(loops * values),
            "peak": self._peak,
            "metadata": run.get_metadata(),
        }


def pyperf_worker(
    name: str, take: Callable[[int], float], loops: int, warmups: int, values: int, cpu: int | None
) -> pyperf.Run:
    """Run pyperf's worker mode inside this process; its one run comes back.

    The worker protocol is not documented: the dependency is held below 3, and a test guards what is used here.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)  # pyperf closes it
    options = ["--worker", "--pipe", str(nowhere), "--worker-task=0"]
    options += ["--loops", str(loops), "--warmups", str(warmups), "--values", str(values)]
    if cpu is not None:
        # Else pyperf would move this process to isolated cores, where there are some.
        options += ["--affinity", str(cpu)]
    runner = pyperf.Runner()
    runner.parse_args(options)
    benchmark = runner.bench_time_func(name, take)
    return benchmark.get_runs()[0]


def _check_facts(ours: Facts, theirs: dict[str, Any], secure: bool, nodelay: bool) -> dict[str, Any]:
    """Put the facts together: `equal` must be the same for all contenders; each side's own are kept beside."""
    equal = {
        "nodelay": ours.nodelay,
        "tls_version": ours.tls_version,
        "cipher": ours.cipher,
        "session_reused": ours.session_reused,
        "verified": ours.verified,
        "backlog": theirs.get("backlog"),
        "openssl": ssl.OPENSSL_VERSION,
    }
    for name in ("nodelay", "tls_version", "cipher", "openssl"):
        if theirs and theirs.get(name, equal[name]) != equal[name]:
            raise FactsError(f"the client's side says {name} is {equal[name]}, the server's {theirs[name]}")
    if ours.nodelay is not nodelay:
        raise FactsError(f"TCP_NODELAY is {ours.nodelay}")
    if secure and not ours.verified:
        raise FactsError("the client has not verified the server's certificate and name")
    if secure and ours.session_reused:
        raise FactsError("the handshake resumed an older session instead of being a full one")
    return {
        "equal": equal,
        "client": {"loop": ours.loop, "transport": ours.transport},
        "server": {"loop": theirs.get("loop"), "transport": theirs.get("transport")},
    }


def fulfil(order: Order, server: Handle, turns: Turns) -> None:
    """Do what an arm was told, in the client's process: prove the work, then wait for its turns; all is told."""
    caller = Caller(order.client, server)
    start = time.perf_counter()
    answer: dict[str, Any] = {"facts": caller.prove(order.at_once)}
    if order.trace:
        answer |= caller.trace()
    if order.untimed:
        caller.warm_up(order.untimed)
    if not order.values:
        answer["pace"] = caller.time(order.loops).wall / order.loops
    proof = {**answer, "proof_seconds": time.perf_counter() - start}
    if not order.values:
        turns.tell(proof)
        return
    readings = caller.measure(
        turns, proof, loops=order.loops, warmups=order.warmups, values=order.values, surplus=order.surplus
    )
    turns.tell(readings)


def report(turns: Turns, work: Callable[[], None]) -> None:
    """Do the work; a failure is told as `{"error": sentence}`."""
    try:
        work()
    except FactsError as error:
        turns.tell({"error": str(error), "facts": True})
    except LoopmarkError as error:
        turns.tell({"error": str(error)})
    except Exception as error:  # noqa: BLE001  # whatever a backend raises fails its arm and nothing else
        turns.tell({"error": str(translate(error))})


def _main() -> None:
    """Be the client's side of an arm in fresh processes: `python -m loopmark.caller ORDER PARENT_PID`."""
    die_with_parent(int(sys.argv[2]))
    order = order_from(sys.argv[1])
    # What a library prints must not mix with the report.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with spawned(order.server) as server, out:
        turns = Turns(sys.stdin.fileno(), out)
        report(turns, lambda: fulfil(order, server, turns))


if __name__ == "__main__":
    _main()
