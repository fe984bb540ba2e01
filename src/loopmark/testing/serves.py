"""The contract's clauses about `Backend.serve` with peers that behave: blocking reference clients in a thread."""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import socket
import sys
from dataclasses import replace
from pathlib import Path

from loopmark.ledger import Ledger
from loopmark.service import HANG_UP, KEEP_READING, AnswerOnce, Reply, Service, Then
from loopmark.spi import Address
from loopmark.testing.ground import (
    PING,
    PONG,
    Clause,
    Ground,
    NotApplicable,
    Where,
    calling,
    clause,
    expect,
)
from loopmark.testing.peers import dial
from loopmark.testing.resources import duplicate, own_socket
from loopmark.tls import handshakes

CROWD = 20
"""How many connections are open at once where many are."""


BACKLOG = 137
"""A number that nobody has as a default."""


_TCPI_SACKED = 28
"""Where Linux's `struct tcp_info` holds a listener's backlog (`sk_max_ack_backlog`), 32 bits wide."""


@clause(Where.FAMILIES)
def server_converses(at: Ground) -> None:
    """A server listens on a port that the system chose, completes handshakes, answers and closes."""
    context = at.server_context()

    def work(address: Address, ledger: Ledger) -> bytes:
        expect(address.port != 0, "the server's address has the port 0")
        reply = at.call(address)
        at.settle(ledger, 0)
        expect(ledger.counts().served == 1, f"after one conversation the ledger has {ledger.counts()}")
        return reply

    reply = at.serve(work, context=context)
    expect(reply == PONG, f"the reply is {reply!r} instead of {PONG!r}")
    if context is not None:
        expect(handshakes(context) == 1, f"the given context completed {handshakes(context)} handshakes instead of 1")


@clause(Where.ALL)
def server_holds_many(at: Ground) -> None:
    """Many connections are open at once, all past their handshake before the first sends its request."""

    def work(address: Address, ledger: Ledger) -> list[bytes]:
        tls = at.client_tls()
        with calling() as clients:
            clients.extend(at.dial(address, tls) for _ in range(CROWD))
            at.settle(ledger, CROWD)
            for client in clients:
                client.send(PING)
            replies = [client.read_to_end() for client in clients]
            for client in clients:
                client.finish()
        at.settle(ledger, 0)
        return replies

    expect(at.serve(work) == [PONG] * CROWD, "not every reply is right")


@clause(Where.ALL)
def server_accepts_once(at: Ground) -> None:
    """`accept` is called once for every connection, and its session is fed exactly the bytes that were sent."""
    size = 100_000
    sent = [bytes([65 + number]) * size for number in range(4)]
    fed: list[bytearray] = []

    class Sink(Service):
        def __init__(self) -> None:
            self._fed = bytearray()
            fed.append(self._fed)

        def receive(self, data: bytes, /) -> Reply:
            self._fed += data
            return self.finish(Reply(PONG, Then.CLOSE)) if len(self._fed) >= size or not data else KEEP_READING

    def work(address: Address, ledger: Ledger) -> None:
        tls = at.client_tls()
        for data in sent:
            reply = at.call(address, tls, request=data)
            expect(reply == PONG, f"after {size} bytes the server answered {reply!r} instead of {PONG!r}")
        at.settle(ledger, 0)
        accepted = ledger.counts().accepted
        expect(accepted == len(sent), f"{len(sent)} connections were accepted {accepted} times")

    at.serve(work, service=Sink)
    expect([bytes(each) for each in fed] == sent, "the sessions were fed other bytes than were sent")


@clause(Where.ALL)
def server_waits_for_the_whole_request(at: Ground) -> None:
    """A request that arrives byte by byte is answered once it is whole."""

    def work(address: Address, _: Ledger) -> bytes:
        with calling() as clients:
            client = at.dial(address)
            clients.append(client)
            for position in range(len(PING)):
                client.send(PING[position : position + 1])
                last = position == len(PING) - 1
                expect(last or not client.hears(0.005), f"the server ended after {position + 1} bytes of the request")
            return client.read_to_end()

    reply = at.serve(work)
    expect(reply == PONG, f"the reply is {reply!r} instead of {PONG!r}")


@clause(Where.ALL)
def server_keeps_reading(at: Ground) -> None:
    """A reply with `Then.READ` is sent at once and leaves the connection open for the next request."""
    rounds = 3

    class Echo(Service):
        left = rounds

        def receive(self, data: bytes, /) -> Reply:
            self.left -= 1
            return Reply(data, Then.READ) if self.left else self.finish(Reply(data, Then.CLOSE))

    def work(address: Address, _: Ledger) -> None:
        with calling() as clients:
            client = at.dial(address)
            clients.append(client)
            for number in range(rounds):
                client.send(b"round %d" % number)
                reply = client.read(7)
                expect(reply == b"round %d" % number, f"the reply of round {number} is {reply!r}")
            expect(not client.read_to_end(), "more came after the last reply")
            client.finish()

    at.serve(work, service=Echo)


@clause(Where.ALL)
def server_sends_everything(at: Ground) -> None:
    """A big reply arrives whole before the connection ends."""
    reply = bytes(range(256)) * 6_001

    def work(address: Address, _: Ledger) -> bytes:
        return at.call(address)

    received = at.serve(work, service=lambda: AnswerOnce(PING, reply))
    expect(received == reply, f"of a reply of {len(reply)} bytes arrived {len(received)}")


@clause(Where.ALL)
def server_facts_are_true(at: Ground) -> None:
    """The facts given to `accept` tell what the client sees, too: TLS version and cipher, no resumption, NODELAY."""

    def work(address: Address, ledger: Ledger) -> None:
        with calling() as clients:
            client = at.dial(address)
            clients.append(client)
            # Some libraries tell of a connection before its handshake: by the first reply it is complete.
            client.send(PING)
            client.read(len(PONG))
            facts = ledger.facts()
            assert facts is not None
            host, port = client.sock.getsockname()[:2]
            with own_socket(local=address, remote=Address(host, port)) as sock:
                nodelay = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        for what, told, real in (
            ("TLS version", facts.tls_version, client.version),
            ("cipher", facts.cipher, client.cipher),
            ("TCP_NODELAY", facts.nodelay, nodelay),
        ):
            expect(told == real, f"the {what} is told as {told}, and is {real}")
        expect(not facts.session_reused, "a full handshake is told as a resumed one")

    at.serve(work, service=_Patient)


class _Patient(Service):
    """Answers whatever comes and never closes, so that the connection can be looked at."""

    def receive(self, data: bytes, /) -> Reply:
        return Reply(PONG, Then.READ) if data else self.finish(HANG_UP)


@clause(Where.ONCE_PLAIN)
def server_sets_nodelay(at: Ground) -> None:
    """TCP_NODELAY is set on the server's sockets when the options say so."""

    def work(address: Address, _: Ledger) -> int:
        with calling() as clients:
            client = dial(address, patience=at.patience)
            clients.append(client)
            client.send(PING)
            client.read(len(PONG))
            host, port = client.sock.getsockname()[:2]
            with own_socket(local=address, remote=Address(host, port)) as sock:
                return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    expect(at.serve(work, service=_Patient) != 0, "TCP_NODELAY is off")


@clause(Where.ONCE)
def server_applies_the_backlog(at: Ground) -> None:
    """The listening socket has the backlog that the options ask for, cut where the system cuts it."""
    if sys.platform != "linux":
        raise NotApplicable("only Linux tells a listener's backlog")
    asked = min(BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text()))

    async def main() -> int:
        async with at.backend.serve(
            Ledger(_Patient).accept,
            Address(at.host, 0),
            tls=at.server_context(),
            options=replace(at.options, backlog=BACKLOG),
        ) as server:
            with duplicate(server.listeners[0].fileno()) as listener:
                info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return int.from_bytes(info[_TCPI_SACKED : _TCPI_SACKED + 4], sys.byteorder)

    backlog = at.backend.run(main)
    expect(backlog == asked, f"the backlog is {backlog} instead of {asked}")


CLAUSES: tuple[Clause, ...] = (
    server_converses,
    server_holds_many,
    server_accepts_once,
    server_waits_for_the_whole_request,
    server_keeps_reading,
    server_sends_everything,
    server_facts_are_true,
    server_sets_nodelay,
    server_applies_the_backlog,
)
