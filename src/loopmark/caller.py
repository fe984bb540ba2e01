"""The client's role in a process of its own: prove the work on live connections, then let pyperf measure.

Only what a connection needs is timed: from before connect to after close, inside the running loop. Imports, contexts,
the start of loop and server, and warm-up are not. The server's CPU time is read from outside, between two moments at
which the server is at rest, so that no work of one value is charged to another.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyperf

from loopmark import network, procfs, tls, wire
from loopmark.case import Benchmark, Conversation, Traffic
from loopmark.deadlines import of_traffic
from loopmark.errors import FactsError, LoopmarkError, VoidError, translate
from loopmark.factcheck import check_facts
from loopmark.gauges import Clocks, Memory, untimed
from loopmark.peer import Handle, LoopWitness, die_with_parent, place, spawned
from loopmark.readings import Readings
from loopmark.relay import RecordingRelay
from loopmark.resumption import resume_from_now_on
from loopmark.spi import Backend, Facts, Main, T
from loopmark.task import Order, Task, order_from
from loopmark.traffic import DATAGRAM_DEADLINE, Stopwatch, Target, converse, fetch, hold, release, visit
from loopmark.turns import Turns

# Clocks differ a little; a process on one core cannot use more CPU time than there was wall time.
CLOCK_SHARE, CLOCK_SECONDS = 0.005, 50e-6

PACE_SECONDS = 0.005
"""What is timed to find the pace lasts at least so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value, for all of its connections together: seconds, and bytes where connections are held."""

    wall: float
    client_cpu: float
    server_cpu: float
    client_memory: float | None = None
    server_memory: float | None = None


class Caller:
    """A contender that calls a server in another process."""

    def __init__(self, task: Task, server: Handle) -> None:
        self.task = task
        self.case = task.case
        self.server = server
        # First of all, as on the other side: libraries that are mapped after the same steps lie at the same addresses.
        self.backend: Backend = task.contender.load()
        self.benchmark: Benchmark = task.load_benchmark()
        self.conversation: Conversation = self.benchmark.conversation(task.case.variant)
        self.loops = LoopWitness(self.backend)
        client = None
        if task.case.tls is not None:
            assert task.identity is not None
            client = tls.client_tls(task.case.tls, task.identity)
        server.wait_until_ready()
        # Only now, so that the two sides of an arm can import at the same time, each on a core.
        place(task.cpu)
        talk, *others = self.conversation.talks
        self.target = Target(address=server.address, talk=talk, tls=client, options=task.options, others=tuple(others))
        self._wall_clock: Callable[[], float] = time.perf_counter
        self._server_clock = procfs.cpu_clock(server.pid)
        self._readings = Readings(server)
        self._peak = 0

    def prove(self, at_once: int) -> dict[str, Any]:
        """Make untimed connections, one and then `at_once`, and return the facts of both sides.

        Raises FactsError when a fact contradicts the case.
        """
        if self.conversation.traffic is Traffic.DATAGRAMS:
            facts, theirs = self.backend.run(lambda: self._within(1, self._send))
            self.loops.check(facts.loop)
            return check_facts(facts, theirs, profile=None, nodelay=None)
        resumed = self.case.tls is not None and self.case.tls.resumed
        if resumed:
            assert self.target.tls is not None
            resume_from_now_on(self.target.tls, self.target.address, self.target.talk, self.task.options)
        facts = self.backend.run(lambda: visit(self.backend, self.target))
        self.loops.check(facts.loop)
        held = self.conversation.slots or at_once
        theirs = self.backend.run(lambda: self._within(held, lambda: self._hold(held)))
        return check_facts(facts, theirs, profile=self.case.tls, nodelay=self.task.options.nodelay)

    def warm_up(self, connections: int) -> None:
        """Make untimed connections, where there is no warm-up value."""
        self.backend.run(lambda: self._converse(untimed(), connections, min(connections, self.case.concurrency)))

    async def _within(self, units: int, job: Main[T]) -> T:
        """Bound what is not timed; values are bounded from outside, as a timer costs each of a loop's wake-ups time."""
        return await self.backend.within(of_traffic(self.task.options, units), job)

    async def _converse(self, watch: Stopwatch, count: int, concurrency: int) -> tuple[int, int]:
        return await converse(self.backend, self.target, self.conversation, watch, count=count, concurrency=concurrency)

    async def _send(self) -> tuple[Facts, dict[str, Any]]:
        """Have one answer to a datagram, and the facts of both sides."""
        sock = await self.backend.open_datagrams(self.target.address)
        try:
            facts = sock.facts()
            reply = await sock.exchange(self.target.talk.parts[0], DATAGRAM_DEADLINE)
        finally:
            await sock.close()
        if reply is None:
            raise FactsError("the server does not answer a datagram")
        self.target.talk.check(reply)
        return facts, self.server.ask("facts")

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
        policy = self.benchmark.close_policy(self.case.variant)
        if policy is None:
            return {}
        with RecordingRelay(self.server.address) as relay:
            target = dataclasses.replace(self.target, address=relay.address)
            reply = self.backend.run(lambda: fetch(self.backend, target))
            traces = relay.traces()
        if len(traces) != 1:
            raise FactsError(f"one conversation used {len(traces)} connections")
        # By the reply that really came: of a reference's the talk may accept another header.
        talk = dataclasses.replace(self.target.talk, reply=reply)
        why = wire.judge(traces[0], policy, tls=self.case.tls, talk=talk, go_ahead=self.task.options.go_ahead)
        return {"trace": dataclasses.asdict(traces[0]), "judgement": why}

    def time(self, count: int, *, is_short: bool = False) -> Value:
        """Take one value of `count` units; raises FactsError when a count does not fit, VoidError for a clock.

        The clocks of a short one are not compared: that one of them was read late would look like a second core.
        """
        before = self._settled()
        clocks = Clocks(self._wall_clock, self._server_clock, self._resting, self._at_rest)
        memory = Memory(self.server, self._settled, self.case.concurrency)
        watch = Stopwatch(start=clocks.start, stop=clocks.stop, rest=clocks.rest)
        if self.case.held is not None:
            watch = memory.around(watch)
        replies, connections = self.backend.run(lambda: self._converse(watch, count, self.case.concurrency))
        clocks.rest()
        after = self._settled()
        self._check_counts(before, after, count, connections, replies)
        # Each of them alone moves for other reasons, too: a socket's own by resets for connections that are gone, the
        # kernel's by anybody's full queue.
        if before["drops"] != after["drops"] and before["overflows"] != after["overflows"]:
            raise VoidError("the accept queue overflowed, so the kernel dropped connections: the value is void")
        if self.task.cpu is not None and not is_short:
            for side, cpu in (("client", clocks.client_cpu), ("server", clocks.server_so_far)):
                if cpu > clocks.wall * (1 + CLOCK_SHARE) + CLOCK_SECONDS:
                    # A machine that halts for a moment has that in one clock only: once is no proof of a second core.
                    raise VoidError(f"on one core the {side} used {cpu:.6f} s of CPU time in {clocks.wall:.6f} s")
        grown = {f"{side}_memory": size for side, size in memory.grown().items()}
        return Value(wall=clocks.wall, client_cpu=clocks.client_cpu, server_cpu=clocks.server_cpu, **grown)

    def _settled(self, connections: int = 0) -> dict[str, Any]:
        """Ask for the counts once so many connections are open.

        The server may not have heard yet of all that its client has begun or ended.
        """
        for _ in range(2_000):
            counts = self.server.ask("counts")
            if counts["open"] == connections or not self.server.counted:
                break
            time.sleep(0.0005)
        return counts

    def _resting(self, connections: int) -> float:
        self._settled(connections)
        return self._at_rest()

    def _at_rest(self) -> float:
        """Wait until the server's CPU clock stands still; return it, in seconds."""
        # What the client has sent last may still be under way.
        time.sleep((self.case.rtt or 0.0) / 1000)
        last, still = self._server_clock(), 0
        for _ in range(10_000):
            time.sleep(0.0005)
            now = self._server_clock()
            # Twice, since a server that is kept from its core stands still, too.
            still = still + 1 if now == last else 0
            if still == 2:
                return now
            last = now
        raise FactsError("the server never comes to rest after its clients are gone")

    def pace(self, count: int) -> float:
        """Return the wall seconds of one unit, from `count` units or as many more as the clocks need."""
        while (wall := self.time(count, is_short=True).wall) < PACE_SECONDS:
            count *= 8
        return wall / count

    def _check_counts(
        self, before: dict[str, Any], after: dict[str, Any], count: int, connections: int, replies: int
    ) -> None:
        counted = {"replies that the client received": (replies, count)}
        if after["handshakes"] is not None:
            counted["handshakes that the server completed"] = (after["handshakes"] - before["handshakes"], connections)
            resumed = self.case.tls is not None and self.case.tls.resumed
            older = after["resumptions"] - before["resumptions"]
            counted["handshakes that resumed a session"] = (older, connections if resumed else 0)
        if self.server.counted:
            many = self.conversation.traffic in (Traffic.MESSAGES, Traffic.POOL, Traffic.DATAGRAMS)
            called = 0 if self.conversation.traffic is Traffic.DATAGRAMS else connections
            for what, name, due in (
                ("connections that the server accepted", "accepted", called),
                ("conversations that the server finished", "served", called),
                ("messages that the server answered", "exchanged", count if many else 0),
            ):
                counted[what] = (after[name] - before[name], due)
        for what, (found, due) in counted.items():
            if found != due:
                raise FactsError(f"{what}: {found} instead of {due}")

    def measure(
        self, turns: Turns, proof: dict[str, Any], *, loops: int, warmups: int, values: int, surplus: int = 0
    ) -> dict[str, Any]:
        """Let a pyperf worker take the values, each in its turn; return them with all readings, per connection.

        The proof is told once pyperf is ready, too: what it does to get there must not disturb those whose turn it is.

        The `surplus` connections of each value are made and proven like the others, but not counted.
        """
        taken: list[Value] = []
        self._wall_clock = turns.clock

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
            **{
                name: [size / loops for value in timed if (size := getattr(value, name)) is not None]
                for name in ("client_memory", "server_memory")
            },
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
        answer["pace"] = caller.pace(order.loops)
    proof = {**answer, "proof_seconds": time.perf_counter() - start, "serving": server.pid}
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
    except VoidError as error:
        turns.tell({"error": str(error), "void": True})
    except LoopmarkError as error:
        turns.tell({"error": str(error)})
    except ProcessLookupError:
        # Its clocks and counters are read from outside.
        turns.tell({"error": "the server's process ended"})
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
        network.enter(order.client.namespace)
        turns = Turns(sys.stdin.fileno(), out)
        report(turns, lambda: fulfil(order, server, turns))


if __name__ == "__main__":
    _main()
