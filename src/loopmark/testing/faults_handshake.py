"""Faults before the end of the handshake, or where there is none, before a word was said."""

# ruff: noqa: D401  # a fault's docstring says what the peer does

import ssl

from loopmark.errors import Kind
from loopmark.testing.faults_ground import (
    BOTH,
    UPGRADED,
    VERSIONS,
    Fault,
    Setting,
    Target,
    Told,
    all_are_dropped,
    fault,
)
from loopmark.testing.hostile import HANDSHAKE, Hostile, garbage, of_tls_1_0, oversized, without_ciphers

MANY = 1000
"""Silent connections at once."""


@fault(Kind.TLS, settings=UPGRADED, told=Told.LIBRARY)
def plaintext(to: Target, count: int) -> None:
    """A peer sends a request in the clear to the port for TLS."""
    all_are_dropped(count, lambda _: _sends(to, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))


@fault(Kind.EOF, Kind.RESET, settings=BOTH, told=Told.LIBRARY)
def connect_and_close(to: Target, count: int) -> None:
    """A peer connects and closes."""
    all_are_dropped(count, lambda _: _closed(to.connect()))


@fault(Kind.TIMEOUT, settings=UPGRADED, told=Told.LIBRARY, slow=True)
def connect_and_silence(to: Target, count: int) -> None:
    """A peer connects and says nothing until the deadline for handshakes."""
    all_are_dropped(count, lambda _: to.connect())


@fault(Kind.EOF, Kind.RESET, told=Told.LIBRARY, least=lambda to: len(to.hello()))
def cut_hello(to: Target, count: int) -> None:
    """A peer's ClientHello is cut, once at every byte, and its stream ends."""

    def begin(number: int) -> Hostile:
        hello = to.hello()
        peer = _sends(to, hello[: number % len(hello)])
        peer.cut()
        return peer

    all_are_dropped(count, begin)


@fault(Kind.TIMEOUT, told=Told.LIBRARY, slow=True)
def silence_in_the_hello(to: Target, count: int) -> None:
    """A peer stops in its ClientHello, within the header, after it, or before the last byte, and stays silent."""

    def begin(number: int) -> Hostile:
        hello = to.hello()
        return _sends(to, hello[: (3, 9, len(hello) - 1)[number % 3]])

    all_are_dropped(count, begin)


@fault(Kind.TLS, told=Told.LIBRARY)
def garbage_for_a_hello(to: Target, count: int) -> None:
    """A peer sends 300 random bytes instead of a ClientHello."""
    all_are_dropped(count, lambda number: _sends(to, garbage(300, number)))


@fault(Kind.TLS, told=Told.LIBRARY)
def oversized_hello(to: Target, count: int) -> None:
    """A peer begins with a record of 65,535 bytes."""
    all_are_dropped(count, lambda _: _sends(to, oversized(HANDSHAKE)))


@fault(Kind.EOF, Kind.RESET, settings=UPGRADED, told=Told.LIBRARY)
def reset_in_the_handshake(to: Target, count: int) -> None:
    """A peer resets the connection when it has the server's first flight."""

    def begin(_: int) -> Hostile:
        peer = _sends(to, to.hello())
        peer.feed()
        peer.reset()
        return peer

    all_are_dropped(count, begin)


@fault(Kind.TLS, settings=VERSIONS, told=Told.LIBRARY)
def only_tls_1_0(to: Target, count: int) -> None:
    """A peer knows no newer TLS than 1.0."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    all_are_dropped(count, lambda _: _sends(to, of_tls_1_0(to.hello(context))))


@fault(Kind.TLS, settings=VERSIONS, told=Told.LIBRARY)
def no_common_cipher(to: Target, count: int) -> None:
    """A peer offers none but ciphers that no server takes."""
    all_are_dropped(count, lambda _: _sends(to, without_ciphers(to.hello())))


@fault(Kind.TIMEOUT, told=Told.LIBRARY, least=lambda _: MANY, at_once=MANY, slow=True)
def a_thousand_silent(to: Target, count: int) -> None:
    """A thousand peers at once connect and say nothing, and beside them a good one is served."""

    def begin(number: int) -> Hostile:
        if number == MANY // 2:
            to.require_answer()
        return to.connect()

    all_are_dropped(count, begin, at_once=MANY)


@fault(Kind.EOF, Kind.RESET, settings=frozenset({Setting.PLAIN}))
def silence_on_plain_tcp(to: Target, count: int) -> None:
    """Peers connect, say nothing while others are served, and close."""
    peers = [to.connect() for _ in range(count)]
    to.require_answer()
    for peer in peers:
        _closed(peer)


@fault(
    Kind.EOF,
    Kind.RESET,
    Kind.TIMEOUT,
    settings=frozenset({Setting.PLAIN}),
    least=lambda _: MANY,
    at_once=MANY,
    slow=True,
)
def a_thousand_silent_on_plain_tcp(to: Target, count: int) -> None:
    """A thousand peers at once connect, say nothing while a good one is served, and close."""
    for start in range(0, count, MANY):
        peers = [to.connect() for _ in range(min(MANY, count - start))]
        to.require_answer()
        for peer in peers:
            _closed(peer)


def _sends(to: Target, data: bytes) -> Hostile:
    peer = to.connect()
    peer.raw(data)
    return peer


def _closed(peer: Hostile) -> Hostile:
    peer.sock.close()
    return peer


HANDSHAKES: tuple[Fault, ...] = (
    plaintext,
    connect_and_close,
    connect_and_silence,
    cut_hello,
    silence_in_the_hello,
    garbage_for_a_hello,
    oversized_hello,
    reset_in_the_handshake,
    only_tls_1_0,
    no_common_cipher,
    silence_on_plain_tcp,
    a_thousand_silent,
    a_thousand_silent_on_plain_tcp,
)
