"""The floor: handshake and messages of a case in memory, with the same OpenSSL, without socket, kernel or loop.

Two `ssl.SSLObject`s over `ssl.MemoryBIO`s talk to each other in one process, with the contexts that the contenders get:
where those resume sessions or show certificates to both sides, so do these. What is said in the clear is left out.
What a contender on Python's ssl needs beyond that is its own cost and the kernel's; needing less would be a bug.

One clock reading separates the two sides' turns. Wall time divides the process's CPU time between them, since reading
the CPU clock itself asks the kernel each time.
"""

import os
import ssl
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, TypeVar

from loopmark import tls
from loopmark.caller import pyperf_worker, report
from loopmark.errors import FactsError
from loopmark.peer import die_with_parent, place, settle
from loopmark.service import Service, Talk, Then
from loopmark.spi import ClientTLS
from loopmark.task import Order, order_from
from loopmark.turns import Turns

T = TypeVar("T")
CHUNK = 65536

WARM_UP = 20
"""Untimed conversations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """Seconds of CPU time for all conversations of a value together, by side."""

    client: float
    server: float


class Floor:
    """Both sides of a case in this process."""

    def __init__(self, order: Order, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        task = order.client
        assert task.case.tls is not None
        assert task.identity is not None
        conversation = task.conversation()
        self._service: Callable[[], Service] = conversation.service
        self._talks: tuple[Talk, ...] = conversation.talks
        self._profile = task.case.tls
        self._client: ClientTLS = tls.client_tls(task.case.tls, task.identity)
        self._server = tls.server_context(task.case.tls, task.identity)
        if self._profile.resumed:
            first, _ = self._conversation()
            session = first.tls.session
            assert session is not None
            tls.offer(self._client.context, session)
        place(task.cpu)

    def facts(self) -> dict[str, Any]:
        """Have one conversation and return what must be equal for all arms; raises FactsError for other facts."""
        ours, theirs = self._conversation()
        if bool(theirs.tls.getpeercert()) is not (self._profile.client_key is not None):
            raise FactsError("in memory, the server's view of the client's certificate is not what the case promises")
        cipher = ours.tls.cipher()
        return {
            "equal": {
                "tls_version": ours.tls.version(),
                "cipher": cipher[0] if cipher else None,
                "session_reused": bool(ours.tls.session_reused),
                "verified": bool(ours.tls.getpeercert()),
                "openssl": ssl.OPENSSL_VERSION,
            },
            "client": {"loop": "none", "transport": "ssl.MemoryBIO"},
            "server": {"loop": "none", "transport": "ssl.MemoryBIO"},
        }

    def time(self, conversations: int) -> Value:
        """Take one value; raises FactsError for handshakes of the wrong kind, ProtocolError for a wrong reply."""
        before, resumed_before = tls.handshakes(self._server), tls.resumptions(self._server)
        cpu, client, server = time.process_time(), 0.0, 0.0
        for talk in islice(cycle(self._talks), conversations):
            start = self._clock()
            ours, theirs = self._sides(talk)
            half = (self._clock() - start) / 2
            our_time, their_time = _converse(ours, theirs, self._clock)
            client += our_time + half
            server += their_time + half
        cpu = time.process_time() - cpu
        made, resumed = tls.handshakes(self._server) - before, tls.resumptions(self._server) - resumed_before
        due = conversations if self._profile.resumed else 0
        if (made, resumed) != (conversations, due):
            raise FactsError(f"the floor made {made} handshakes, {resumed} resumed, not {conversations} and {due}")
        return Value(client=cpu * client / (client + server), server=cpu * server / (client + server))

    def _conversation(self) -> tuple["_Side", "_Side"]:
        """Have one, untimed."""
        ours, theirs = self._sides(self._talks[0])
        _converse(ours, theirs, self._clock)
        return ours, theirs

    def _sides(self, talk: Talk) -> tuple["_Side", "_Side"]:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self._client.context.wrap_bio(down, up, server_hostname=self._client.server_name)
        server = self._server.wrap_bio(up, down, server_side=True)
        return (
            _Side(client, up, _call(client, talk)),
            _Side(server, down, _answer(server, self._service())),
        )


@dataclass(slots=True)
class _Side:
    """`steps` runs until it needs the other side's bytes; what it has to say is in `outgoing` then."""

    tls: ssl.SSLObject
    outgoing: ssl.MemoryBIO
    steps: Iterator[None]


def _converse(client: _Side, server: _Side, clock: Callable[[], float]) -> tuple[float, float]:
    """Let the two take turns to the end; return the seconds of each."""
    spent = [0.0, 0.0]
    open_ = [True, True]
    idle = 0
    start = clock()
    while any(open_):
        for turn, side in enumerate((client, server)):
            said = side.outgoing.pending
            open_[turn] = open_[turn] and next(side.steps, "end") is None
            idle = 0 if side.outgoing.pending > said else idle + 1
            end = clock()
            spent[turn] += end - start
            start = end
        if idle > 4:  # two rounds in which nobody said anything
            raise FactsError("in memory, client and server wait for each other")
    return spent[0], spent[1]


def _call(connection: ssl.SSLObject, talk: Talk) -> Iterator[None]:
    """Be the client, which reads the reply and then closes as the close policy wants it."""
    yield from _wait(connection.do_handshake)
    reply = b""
    for _ in range(talk.rounds):
        for part in talk.parts:
            connection.write(part)
        reply = b""
        while talk.reply_size is None or len(reply) < talk.reply_size:
            data = yield from _wait(lambda: connection.read(CHUNK))
            if not data:
                break
            reply += data
    talk.check(reply)
    connection.unwrap()


def _answer(connection: ssl.SSLObject, service: Service) -> Iterator[None]:
    """Be the server."""
    yield from _wait(connection.do_handshake)
    then = Then.READ
    while then is Then.READ:
        reply = service.receive((yield from _wait(lambda: connection.read(CHUNK))))
        if reply.data:
            connection.write(reply.data)
        then = reply.then
    if service.failure is not None:
        raise service.failure
    yield from _wait(connection.unwrap)


def _wait(operation: Callable[[], T]) -> Generator[None, None, T]:
    """Repeat what needs bytes from the other side."""
    while True:
        try:
            return operation()
        except ssl.SSLWantReadError:
            yield


NOTHING = {
    "minor_faults": None,
    "voluntary_switches": None,
    "involuntary_switches": None,
    "run_delay": None,
    "collections": None,
    "private_kib": None,
}
"""What a floor's process uses besides CPU time is of no interest."""


def fulfil(order: Order, turns: Turns) -> None:
    """Do what the order says, and tell it in the shape of `loopmark.caller.fulfil`; `wall` is both sides together."""
    start = time.perf_counter()
    floor = Floor(order, turns.clock)
    answer = {"facts": floor.facts()}
    floor.time(WARM_UP)
    settle()
    proof = {**answer, "proof_seconds": time.perf_counter() - start}
    taken: list[Value] = []

    def take(count: int) -> float:
        if not taken:
            turns.tell(proof)
        turns.wait()
        taken.append(floor.time(count))
        together = taken[-1].client + taken[-1].server
        turns.tell({"timed_seconds": together})
        if len(taken) == order.warmups + order.values:
            turns.wait()
        return together

    case = order.client.case
    run = pyperf_worker(case.name, take, order.loops, order.warmups, order.values, order.client.cpu)
    timed = taken[order.warmups :]
    turns.tell(
        {
            "loops": order.loops,
            "wall": [(value.client + value.server) / order.loops for value in timed],
            "client_cpu": [value.client / order.loops for value in timed],
            "server_cpu": [value.server / order.loops for value in timed],
            "warmups": [(value.client + value.server) / order.loops for value in taken[: order.warmups]],
            "client": NOTHING,
            "server": NOTHING,
            "peak": 0,
            "metadata": run.get_metadata(),
        }
    )


def _main() -> None:
    """Be the floor in a fresh process: `python -m loopmark.floor ORDER PARENT_PID`."""
    die_with_parent(int(sys.argv[2]))
    order = order_from(sys.argv[1])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with out:
        turns = Turns(sys.stdin.fileno(), out)
        report(turns, lambda: fulfil(order, turns))


if __name__ == "__main__":
    _main()
