"""The contract's clauses about `Backend.serve` with peers that do not behave: no peer may end or hold up a server."""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace

from loopmark.ledger import Ledger
from loopmark.service import EchoToEnd
from loopmark.spi import Address
from loopmark.testing.endpoint import End, Endpoint
from loopmark.testing.ground import (
    PING,
    PONG,
    Clause,
    Ground,
    Where,
    calling,
    clause,
    expect,
)
from loopmark.testing.peers import dial


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
def server_waits_for_a_peer_that_does_not_read(at: Ground) -> None:
    """A server stops reading from a peer that does not take its replies, and loses none of them."""

    def work(address: Address, ledger: Ledger) -> None:
        with calling() as clients:
            client = at.dial(address)
            clients.append(client)
            sent = _send_until_full(client.sock, at.patience)
            expect(sent < MOST, f"the server has taken {sent} bytes from a peer that reads nothing")
            client.sock.settimeout(at.patience)
            expect(client.read(sent) == _pattern(sent), f"of {sent} bytes others came back")
            client.reset()
        at.await_counts(ledger, lambda now: sum(now.faults.values()) == 1, "the reset as a fault")

    at.serve(work, service=EchoToEnd)


MOST = 96 << 20
"""Bytes that all buffers between two peers together do not hold: the kernel's, OpenSSL's and a library's."""


def _pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def _send_until_full(sock: socket.socket, patience: float) -> int:
    """Send a pattern until a socket takes no more, and stays so, or `MOST`; return how many bytes that were."""
    pattern = memoryview(_pattern(MOST))
    sock.setblocking(False)
    sent = full = 0
    end = time.monotonic() + patience
    while full < _FULL and sent < MOST:
        expect(time.monotonic() < end, f"after {sent} bytes the server still reads from a peer that does not")
        try:
            sent += sock.send(pattern[sent : sent + 16384])
            full = 0
        except (BlockingIOError, ssl.SSLWantWriteError):
            _, writable, _ = select.select([], [sock], [], 0.01)
            full = 0 if writable else full + 1
    return sent


_FULL = 20
"""Looks, each for ten milliseconds, after which a full buffer is no passing one."""


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
            with calling() as clients:
                clients.append(dial(address, go_ahead=at.options.go_ahead, patience=at.patience))
                each(clients[0])

        return visit

    # Some libraries tell of a connection after its handshake only; so whether these count as faults is theirs.
    _survives(at, [bare(each) for each in (plaintext, stopped, reset)], faults=None)


def _after_handshake(at: Ground, each: Callable[[Endpoint], None]) -> Callable[[Address], None]:
    def visit(address: Address) -> None:
        with calling() as clients:
            clients.append(at.dial(address))
            each(clients[0])

    return visit


def _survives(at: Ground, visits: list[Callable[[Address], None]], *, faults: int | None) -> None:
    def work(address: Address, ledger: Ledger) -> None:
        tls = at.client_tls()
        for number, visit in enumerate(visits, 1):
            visit(address)
            if faults is not None:
                at.await_counts(ledger, lambda now: sum(now.faults.values()) == number, f"{number} faults")  # noqa: B023  # called at once
            reply = at.call(address, tls)
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
        with calling() as clients:
            clients.append(dial(address, patience=at.patience))
            return at.call(address)

    reply = at.serve(work)
    expect(reply == PONG, f"beside a silent peer the reply is {reply!r}")


@clause(Where.ONCE_TLS)
def server_keeps_its_deadlines(at: Ground) -> None:
    """A peer that does not complete its handshake, or never answers close_notify, is dropped in time."""
    options = replace(at.options, handshake_timeout=0.3, close_timeout=0.2)

    def work(address: Address, _: Ledger) -> None:
        with calling() as clients:
            silent = dial(address, patience=at.patience)
            clients.append(silent)
            silent.read_to_end()
            expect(silent.end is not End.NONE, "a peer that begins no handshake is kept for ever")
            mute = at.dial(address)
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


CLAUSES: tuple[Clause, ...] = (
    server_survives_an_early_end,
    server_survives_a_reset,
    server_waits_for_a_peer_that_does_not_read,
    server_survives_garbage,
    server_survives_a_failed_handshake,
    server_holds_nobody_up,
    server_keeps_its_deadlines,
)
