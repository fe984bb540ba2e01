"""The contract's clauses about `Connection.exchange`: what is sent, what is returned, and what is a failure."""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import threading
from collections.abc import Callable
from contextlib import suppress

from loopmark.errors import Kind, TrafficError
from loopmark.testing.endpoint import Endpoint
from loopmark.testing.ground import (
    PING,
    PONG,
    BrokenContract,
    Clause,
    Ground,
    Where,
    both_ways,
    clause,
    expect,
    failure,
)


@clause(Where.ALL)
@both_ways
def client_returns_each_reply(at: Ground) -> None:
    """`exchange` returns what the server sent on this connection, not what it sent on another."""
    replies: list[bytes] = []

    def number(peer: Endpoint) -> None:
        peer.read(len(PING))
        peer.send(b"reply %d" % peer.index)
        peer.finish()

    async def main() -> None:
        tls = at.client_tls()
        replies.extend([await at.visit(server.address, tls=tls) for _ in range(3)])

    with at.reference_server(number) as server:
        at.backend.run(main)
    expect(replies == [b"reply 0", b"reply 1", b"reply 2"], f"the server counted, and the replies are {replies}")


@clause(Where.ALL)
def client_repeats_its_rounds(at: Ground) -> None:
    """With `rounds` the request is sent that often, each after a reply; the last one is returned."""
    rounds = 4

    def echo(peer: Endpoint) -> None:
        for number in range(rounds):
            request = peer.read(6)
            expect(request == b"ab-cde", f"the server got {request!r} instead of b'ab-cde'")
            peer.send(b"reply %d" % number)

    with at.reference_server(echo) as server:
        reply = at.backend.run(
            lambda: at.visit(server.address, parts=(b"ab", b"-", b"cde"), reply_size=7, rounds=rounds)
        )
    received = len(server.connections[0].received)
    expect(received == 6 * rounds, f"{rounds} rounds of 6 bytes sent {received} bytes")
    expect(reply == b"reply 3", f"the last reply is b'reply 3', returned was {reply!r}")


@clause(Where.ALL)
def client_sends_everything_in_order(at: Ground) -> None:
    """Parts are written completely and in order, however big they are."""
    parts = (b"a" * 70_001, b"b", bytes(range(256)) * 1200, b"c" * 3)

    def take(peer: Endpoint) -> None:
        peer.read(sum(map(len, parts)))
        peer.send(PONG)
        peer.finish()

    with at.reference_server(take) as server:
        at.backend.run(lambda: at.visit(server.address, parts=parts))
    expect(bytes(server.connections[0].received) == b"".join(parts), "the server got other bytes than were given")


@clause(Where.ALL)
def client_waits_for_the_whole_reply(at: Ground) -> None:
    """A reply that arrives byte by byte is returned as a whole."""

    def dribble(peer: Endpoint) -> None:
        for _ in range(2):
            peer.read(len(PING))
            for position in range(len(PONG)):
                peer.send(PONG[position : position + 1])
                # Whoever is content with less says something before the rest is sent.
                if position < len(PONG) - 1 and peer.hears(0.005):
                    raise BrokenContract(f"the client was content with {position + 1} of {len(PONG)} bytes")

    with at.reference_server(dribble) as server:
        reply = at.backend.run(lambda: at.visit(server.address, reply_size=len(PONG), rounds=2))
    expect(reply == PONG, f"of the reply {PONG!r}, byte by byte, came {reply!r}")


@clause(Where.ALL)
@both_ways
def client_reads_to_the_end(at: Ground) -> None:
    """Without `reply_size` everything up to the end of the stream is returned."""
    chunks = [bytes([65 + number]) * 40_009 for number in range(8)]

    def stream(peer: Endpoint) -> None:
        peer.read(len(PING))
        # One who hangs up before the end is told by what it returns.
        with suppress(OSError):
            for chunk in chunks:
                peer.send(chunk)
        peer.finish()

    with at.reference_server(stream) as server:
        reply = at.backend.run(lambda: at.visit(server.address))
    expect(reply == b"".join(chunks), f"of {sum(map(len, chunks))} bytes before the end came {len(reply)}")


@clause(Where.ALL)
def client_reports_an_early_end(at: Ground) -> None:
    """A stream that ends before `reply_size` bytes is a failure, of the kind `eof`."""

    def stop(peer: Endpoint) -> None:
        peer.read(len(PING))
        peer.send(PONG[:3])
        peer.finish()

    for script in (stop, _stop_at_once):
        error = _failure(at, script, len(PONG), "a cut reply was returned as a whole one")
        expect(error.kind is Kind.EOF, f"the failure is told as {error}")


def _stop_at_once(peer: Endpoint) -> None:
    peer.read(len(PING))
    peer.finish()


def _failure(at: Ground, script: Callable[[Endpoint], None], reply_size: int | None, instead: str) -> TrafficError:
    with at.reference_server(script) as server:
        return failure(at.backend, lambda: at.visit(server.address, reply_size=reply_size), instead)


@clause(Where.ALL)
@both_ways
def client_reports_a_reset(at: Ground) -> None:
    """A connection that is reset is a failure, with `reply_size` or without, during `exchange` or before."""

    def reset(peer: Endpoint) -> None:
        peer.read(len(PING))
        peer.send(PONG[:3])
        peer.reset()

    async def late() -> bytes:
        connection = await at.connect(server.address)
        try:
            gone.set()
            await at.backend.sleep(0.01)
            return await connection.exchange((PING,), None, 1)
        finally:
            await connection.close()

    def reset_before(peer: Endpoint) -> None:
        gone.wait(at.patience)
        peer.reset()

    for size in (8, None):
        error = _failure(at, reset, size, f"what came before a reset was returned as the reply (reply_size={size})")
        expect(error.kind in (Kind.RESET, Kind.EOF), f"the failure is told as {error}")
    gone = threading.Event()
    with at.reference_server(reset_before) as server:
        failure(at.backend, late, "a reset that came before the exchange was returned as an empty reply")


CLAUSES: tuple[Clause, ...] = (
    client_returns_each_reply,
    client_repeats_its_rounds,
    client_sends_everything_in_order,
    client_waits_for_the_whole_reply,
    client_reads_to_the_end,
    client_reports_an_early_end,
    client_reports_a_reset,
)
