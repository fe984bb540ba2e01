"""Faults after the handshake: damaged records, wrong words, and ends that are none."""

# ruff: noqa: D401  # a fault's docstring says what the peer does

import time
from contextlib import suppress

from loopmark.errors import Kind
from loopmark.testing.faults_ground import BOTH, VERSIONS, Fault, Target, Told, all_are_dropped, fault
from loopmark.testing.ground import PING, PONG, BrokenContract, expect
from loopmark.testing.hostile import DATA, Hostile, flipped, garbage, oversized

_PIECE = PING * 16000


@fault(Kind.TLS, settings=VERSIONS)
def oversized_record(to: Target, count: int) -> None:
    """A peer sends a record of 65,535 bytes instead of PING."""
    all_are_dropped(count, lambda _: _says(to, oversized(DATA)))


@fault(Kind.TLS, settings=VERSIONS)
def flipped_bit(to: Target, count: int) -> None:
    """One bit of the record with PING is flipped, each time another one."""

    def begin(number: int) -> Hostile:
        peer = to.converse()
        peer.raw(flipped(peer.seal(PING), 31 * number))
        return peer

    all_are_dropped(count, begin)


@fault(Kind.TLS, settings=VERSIONS)
def garbage_for_a_record(to: Target, count: int) -> None:
    """A peer sends 300 random bytes where a record should be."""
    all_are_dropped(count, lambda number: _says(to, garbage(300, number)))


@fault(Kind.PROTOCOL, settings=BOTH)
def wrong_ping(to: Target, count: int) -> None:
    """A peer says PANG instead of PING."""
    all_are_dropped(count, lambda _: _to_the_end(_speaks(to, b"PANG")))


@fault(Kind.PROTOCOL, settings=BOTH)
def repeated_ping(to: Target, count: int) -> None:
    """A peer says PINGPING at once."""
    all_are_dropped(count, lambda _: _to_the_end(_speaks(to, PING * 2)))


@fault(Kind.EOF, settings=BOTH)
def cut_ping(to: Target, count: int) -> None:
    """A peer says PI and properly ends its stream, with close_notify on TLS."""

    def begin(_: int) -> Hostile:
        peer = _speaks(to, PING[:2])
        if to.tls is not None:
            peer.raw(peer.goodbye())
        peer.cut()
        return peer

    all_are_dropped(count, begin)


@fault(Kind.PROTOCOL, settings=BOTH, slow=True)
def endless_ping(to: Target, count: int) -> None:
    """A peer says PING for ever, reads nothing, and is dropped at the latest when the deadline for the end has come."""

    def begin(_: int) -> Hostile:
        peer = to.converse()
        sent, end = 0, time.monotonic() + to.patience
        # A timeout of ours is a failure, too: the server neither reads nor drops.
        with suppress(ConnectionError):
            while time.monotonic() < end:
                peer.send(_PIECE)
                sent += len(_PIECE)
            raise BrokenContract(f"the server has taken {sent} bytes of PING and not dropped the peer")
        peer.sock.close()
        return peer

    all_are_dropped(count, begin, at_once=1)


@fault(Kind.EOF, settings=BOTH)
def cut_before_ping(to: Target, count: int) -> None:
    """A peer ends its stream before PING, on TLS without close_notify."""

    def begin(_: int) -> Hostile:
        peer = to.converse()
        peer.cut()
        return peer

    all_are_dropped(count, begin)


# A library that looks for the end of the stream first tells of that.
@fault(Kind.RESET, Kind.EOF, settings=BOTH)
def reset_before_ping(to: Target, count: int) -> None:
    """A peer resets the connection within PING."""

    def begin(_: int) -> Hostile:
        peer = _speaks(to, PING[:2])
        peer.reset()
        return peer

    all_are_dropped(count, begin)


@fault(settings=BOTH, told=Told.SERVED)
def reset_after_pong(to: Target, count: int) -> None:
    """A peer resets the connection when it has read PONG."""

    def begin(_: int) -> Hostile:
        peer = _served(to)
        peer.reset()
        return peer

    all_are_dropped(count, begin)


@fault(told=Told.SERVED)
def cut_after_pong(to: Target, count: int) -> None:
    """A peer ends its stream after PONG without close_notify."""

    def begin(_: int) -> Hostile:
        peer = _served(to)
        peer.cut()
        return peer

    all_are_dropped(count, begin)


@fault(settings=VERSIONS, told=Told.SERVED, slow=True)
def no_close_notify(to: Target, count: int) -> None:
    """A peer never answers close_notify and stays."""
    all_are_dropped(count, lambda _: _served(to))


def _says(to: Target, raw: bytes) -> Hostile:
    """Begin a conversation and put bytes on its wire."""
    peer = to.converse()
    # The server may have dropped us before it has them all.
    with suppress(ConnectionError):
        peer.raw(raw)
    return peer


def _speaks(to: Target, words: bytes) -> Hostile:
    peer = to.converse()
    peer.send(words)
    return peer


def _to_the_end(peer: Hostile) -> Hostile:
    """End as a good peer would, so that the server has not to wait for anything."""
    peer.leave()
    return peer


def _served(to: Target) -> Hostile:
    """Have a good conversation up to the reply."""
    peer = _speaks(to, PING)
    reply = peer.read(len(PONG))
    expect(reply == PONG, f"a good request was answered with {reply!r}")
    return peer


CONVERSATIONS: tuple[Fault, ...] = (
    oversized_record,
    flipped_bit,
    garbage_for_a_record,
    wrong_ping,
    repeated_ping,
    cut_ping,
    endless_ping,
    cut_before_ping,
    reset_before_ping,
    reset_after_pong,
    cut_after_pong,
    no_close_notify,
)
