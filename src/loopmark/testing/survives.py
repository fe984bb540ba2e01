"""The contract's clauses about `Backend.serve` with peers that do not behave: no peer may end or hold up a server."""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import socket
from collections.abc import Callable
from dataclasses import replace

from loopmark.ledger import Ledger
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
    server_survives_garbage,
    server_survives_a_failed_handshake,
    server_holds_nobody_up,
    server_keeps_its_deadlines,
)
