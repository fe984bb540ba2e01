"""The contract's clauses about servers: a backend's `serve`.

Each is checked with blocking reference clients in a thread, and with the core's own ledger.
"""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import gc
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from loopmark.case import ClosePolicy
from loopmark.ledger import Ledger
from loopmark.relay import RecordingRelay
from loopmark.service import HANG_UP, KEEP_READING, AnswerOnce, Reply, Service, Talk, Then
from loopmark.spi import Address
from loopmark.testing.ground import PING, PONG, BrokenContract, Clause, Ground, NotApplicable, Where, clause, expect
from loopmark.testing.peers import End, Endpoint, call, dial
from loopmark.testing.resources import duplicate, nothing_left, own_socket
from loopmark.tls import handshakes
from loopmark.wire import judge

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
        reply = call(address, at.client_tls(), PING, patience=at.patience)
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
        with _clients() as clients:
            clients.extend(dial(address, tls, patience=at.patience) for _ in range(CROWD))
            at.settle(ledger, CROWD)
            for client in clients:
                client.send(PING)
            replies = [client.read_to_end() for client in clients]
            for client in clients:
                client.finish()
        at.settle(ledger, 0)
        counts = ledger.counts()
        expect(counts.peak == CROWD, f"{CROWD} were open at once, and the ledger's peak is {counts.peak}")
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
            return Reply(PONG, Then.CLOSE) if len(self._fed) >= size or not data else KEEP_READING

    def work(address: Address, ledger: Ledger) -> None:
        tls = at.client_tls()
        for data in sent:
            reply = call(address, tls, data, patience=at.patience)
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
        with _clients() as clients:
            client = dial(address, at.client_tls(), patience=at.patience)
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
            return Reply(data, Then.READ if self.left else Then.CLOSE)

    def work(address: Address, _: Ledger) -> None:
        with _clients() as clients:
            client = dial(address, at.client_tls(), patience=at.patience)
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
        return call(address, at.client_tls(), PING, patience=at.patience)

    received = at.serve(work, service=lambda: AnswerOnce(PING, reply))
    expect(received == reply, f"of a reply of {len(reply)} bytes arrived {len(received)}")


@clause(Where.ALL)
def server_keeps_the_close_policy(at: Ground) -> None:
    """On the wire there are the conversation's bytes and the agreed end only, with the server's goodbye first."""
    talk = Talk(parts=(PING,), reply=PONG, reply_size=None)

    def work(address: Address, _: Ledger) -> None:
        with RecordingRelay(address) as relay, _clients() as clients:
            client = dial(relay.address, at.client_tls(), patience=at.patience)
            clients.append(client)
            client.send(PING)
            client.read_to_end()
            wanted = End.CLOSE_NOTIFY if at.profile else End.FIN
            expect(client.end is wanted, f"the server ended its stream with {client.end} instead of {wanted}")
            client.complete()
            expect(client.closed, "the server left its socket open")
            client.close()
            traces = relay.traces(at.patience)
        expect(len(traces) == 1, f"the relay saw {len(traces)} connections instead of 1")
        policy = ClosePolicy.FIN if at.profile is None else ClosePolicy.BOTH_NOTIFY
        fault = judge(traces[0], policy, tls=at.profile, talk=talk)
        expect(fault is None, f"{fault}: {', '.join(traces[0].records)}")

    at.serve(work)


@clause(Where.ALL)
def server_survives_an_early_end(at: Ground) -> None:
    """A peer that ends its stream early is counted as a fault, and the next one is served."""

    def silent(client: Endpoint) -> None:
        client.finish()

    def half(client: Endpoint) -> None:
        client.send(PING[:2])
        client.finish()

    def cut(client: Endpoint) -> None:
        client.send(PING[:2])
        client.cut()

    _survives(at, [_after_handshake(at, each) for each in (silent, half, cut)], faults=3)


@clause(Where.ALL)
def server_survives_a_reset(at: Ground) -> None:
    """A peer that resets its connection is counted as a fault, and the next one is served."""

    def half(client: Endpoint) -> None:
        client.send(PING[:2])
        client.reset()

    _survives(at, [_after_handshake(at, each) for each in (half, Endpoint.reset)], faults=2)


@clause(Where.ALL)
def server_survives_garbage(at: Ground) -> None:
    """A peer that says what makes no sense is dropped, and the next one is served."""

    def wrong(client: Endpoint) -> None:
        client.send(b"GARBAGE")
        client.read_to_end()

    def damaged(client: Endpoint) -> None:
        # A record that no key opens.
        socket.socket.sendall(client.sock, b"\x17\x03\x03\x00\x20" + bytes(32))
        client.read_to_end()

    visits = [_after_handshake(at, wrong)]
    if at.profile is not None:
        visits.append(_after_handshake(at, damaged))
    _survives(at, visits, faults=len(visits))


@clause(Where.TLS)
def server_survives_a_failed_handshake(at: Ground) -> None:
    """A peer that speaks no TLS, or stops or resets in its handshake, is dropped, and the next one is served."""

    def plaintext(client: Endpoint) -> None:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        client.read_to_end()

    def stopped(client: Endpoint) -> None:
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
        client.finish()
        client.read_to_end()

    def reset(client: Endpoint) -> None:
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
        client.reset()

    def bare(each: Callable[[Endpoint], None]) -> Callable[[Address], None]:
        def visit(address: Address) -> None:
            with _clients() as clients:
                clients.append(dial(address, patience=at.patience))
                each(clients[0])

        return visit

    # Some libraries tell of a connection after its handshake only; so whether these count as faults is theirs.
    _survives(at, [bare(each) for each in (plaintext, stopped, reset)], faults=None)


def _after_handshake(at: Ground, each: Callable[[Endpoint], None]) -> Callable[[Address], None]:
    def visit(address: Address) -> None:
        with _clients() as clients:
            clients.append(dial(address, at.client_tls(), patience=at.patience))
            each(clients[0])

    return visit


def _survives(at: Ground, visits: list[Callable[[Address], None]], *, faults: int | None) -> None:
    def work(address: Address, ledger: Ledger) -> None:
        tls = at.client_tls()
        for number, visit in enumerate(visits, 1):
            visit(address)
            if faults is not None:
                at.await_counts(ledger, lambda now: sum(now.faults.values()) == number, f"{number} faults")  # noqa: B023  # called at once
            reply = call(address, tls, PING, patience=at.patience)
            expect(reply == PONG, f"after bad peer number {number} the reply is {reply!r}")
        at.settle(ledger, 0)
        counts = ledger.counts()
        told = sum(counts.faults.values())
        expect(faults in (None, told), f"of {faults} bad peers {told} were told as faults: {counts}")
        expect(counts.served == len(visits), f"{len(visits)} good conversations are counted as {counts.served}")

    at.serve(work)


@clause(Where.ALL)
def server_holds_nobody_up(at: Ground) -> None:
    """A peer that connects and says nothing, not even a handshake, does not keep the others from being served."""

    def work(address: Address, _: Ledger) -> bytes:
        with _clients() as clients:
            clients.append(dial(address, patience=at.patience))
            return call(address, at.client_tls(), PING, patience=at.patience)

    reply = at.serve(work)
    expect(reply == PONG, f"beside a silent peer the reply is {reply!r}")


@clause(Where.ONCE_TLS)
def server_keeps_its_deadlines(at: Ground) -> None:
    """A peer that does not complete its handshake, or never answers close_notify, is dropped in time."""
    options = replace(at.options, handshake_timeout=0.3, close_timeout=0.2)

    def work(address: Address, _: Ledger) -> None:
        with _clients() as clients:
            silent = dial(address, patience=at.patience)
            clients.append(silent)
            silent.read_to_end()
            expect(silent.end is not End.NONE, "a peer that begins no handshake is kept for ever")
            mute = dial(address, at.client_tls(), patience=at.patience)
            clients.append(mute)
            mute.send(PING)
            mute.read_to_end()
            dropped = _tcp_ends(mute)
            expect(dropped, "a peer that never answers close_notify is kept for ever")

    at.serve(work, options=options)


def _tcp_ends(client: Endpoint) -> bool:
    try:
        while socket.socket.recv(client.sock, 65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@clause(Where.ALL)
def server_facts_are_true(at: Ground) -> None:
    """The facts given to `accept` tell what the client sees, too: TLS version and cipher, no resumption, NODELAY."""

    def work(address: Address, ledger: Ledger) -> None:
        with _clients() as clients:
            client = dial(address, at.client_tls(), patience=at.patience)
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
        return Reply(PONG, Then.READ) if data else HANG_UP


@clause(Where.ONCE_PLAIN)
def server_sets_nodelay(at: Ground) -> None:
    """TCP_NODELAY is set on the server's sockets when the options say so."""

    def work(address: Address, _: Ledger) -> int:
        with _clients() as clients:
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


@clause(Where.ALL)
def server_leaves_at_once(at: Ground) -> None:
    """Leaving the context waits for nobody: not for idle peers, and not for one that is in its handshake."""
    # asyncio before 3.13 and uvloop give nobody a hold on a connection in its handshake, so that one is not closed.
    with warnings.catch_warnings(), _clients() as clients:
        warnings.simplefilter("ignore", ResourceWarning)
        at.serve(lambda address, ledger: _occupy(at, address, ledger, clients, in_handshake=1))
        gc.collect()
        for client in clients[:_IDLE]:
            client.read_to_end()
            expect(client.end is not End.NONE, "a connection outlives the server")


@clause(Where.ALL)
def server_leaves_nothing_behind(at: Ground) -> None:
    """After leaving the context with idle connections no descriptor, thread or unclosed object is left."""
    at.backend.run(lambda: at.backend.sleep(0))
    with nothing_left(), _clients() as clients:
        address = at.serve(lambda address, ledger: _occupy(at, address, ledger, clients, in_handshake=0))
        with suppress(OSError):
            dial(address, patience=at.patience).close()
            raise BrokenContract("the port outlives the server")
        for client in clients:
            client.close()


_IDLE = 4


def _occupy(at: Ground, address: Address, ledger: Ledger, clients: list[Endpoint], *, in_handshake: int) -> Address:
    """Leave connections open in every state."""
    tls = at.client_tls()
    clients.extend(dial(address, tls, patience=at.patience) for _ in range(_IDLE))
    at.settle(ledger, _IDLE)
    clients[0].send(PING[:2])
    if at.profile is not None:
        clients.extend(dial(address, patience=at.patience) for _ in range(in_handshake))
    return address


@contextmanager
def _clients() -> Iterator[list[Endpoint]]:
    """Collect reference clients that are closed in the end, whatever happens."""
    clients: list[Endpoint] = []
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


CLAUSES: tuple[Clause, ...] = (
    server_converses,
    server_holds_many,
    server_accepts_once,
    server_waits_for_the_whole_request,
    server_keeps_reading,
    server_sends_everything,
    server_keeps_the_close_policy,
    server_survives_an_early_end,
    server_survives_a_reset,
    server_survives_garbage,
    server_survives_a_failed_handshake,
    server_holds_nobody_up,
    server_keeps_its_deadlines,
    server_facts_are_true,
    server_sets_nodelay,
    server_applies_the_backlog,
    server_leaves_at_once,
    server_leaves_nothing_behind,
)
