"""Servers that do harm, for clients: each conversation ends in time, and in the same kind of error on every backend."""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from loopmark import certs
from loopmark.errors import Kind
from loopmark.pem import general_name, new_key, write_certificate, write_key
from loopmark.service import Talk
from loopmark.spi import Address, ClientTLS
from loopmark.testing.ground import (
    PING,
    PONG,
    Clause,
    Ground,
    Where,
    clause,
    expect,
    failure,
    pong,
)
from loopmark.testing.hostile import Hostile, flipped
from loopmark.tls import Identity, server_context
from loopmark.traffic import Target, fetch

SOON = 0.15
"""Seconds that a client has where it is to give up; all else that it could wait for is far longer."""

_REPLY = PONG * 16
"""Long enough to be cut in its middle."""

_SIZES = (None, len(_REPLY))
_LONG_AGO, _LATER = timedelta(days=-1000), timedelta(days=1000)
_BANNER = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"

Script = Callable[[Hostile], None]
"""What a server does with a connection that it has just accepted."""


@clause(Where.TLS)
def client_refuses_bad_certificates(at: Ground) -> None:
    """A certificate that is expired, not valid yet, self-signed or of another name or authority is told as such."""
    assert at.profile is not None
    tls = at.client_tls()
    assert tls is not None
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as directory:
        made = {
            name: certs.ensure(Path(directory) / name, key=at.profile.key, now=now + shift)
            for name, shift in (("expired", _LONG_AGO), ("not-yet-valid", _LATER), ("stranger", timedelta()))
        }
        trusted = {name: replace(at, identity=made[name]).client_tls() for name in ("expired", "not-yet-valid")}
        alone = _self_signed(Path(directory))
        for what, shown, client in (
            ("an expired certificate", made["expired"], trusted["expired"]),
            ("a certificate that is not valid yet", made["not-yet-valid"], trusted["not-yet-valid"]),
            ("a self-signed certificate", alone, tls),
            ("a certificate of another authority", made["stranger"], tls),
            ("a certificate of another name", at.identity, replace(tls, server_name="elsewhere.invalid")),
        ):
            context = server_context(at.profile, shown)
            for size in (None, len(PONG)):
                with at.reference_server(pong, context) as server:
                    _fails(at, server.address, Kind.CERTIFICATE, what, tls=client, reply_size=size)


@clause(Where.TLS)
def client_tells_plaintext(at: Ground) -> None:
    """A server that answers a ClientHello in plaintext is told as a fault of TLS."""

    def answer(peer: Hostile) -> None:
        _go_ahead(at, peer)
        peer.feed()
        peer.raw(_BANNER)
        peer.cut()

    for size in _SIZES:
        _all_fail(at, {"plaintext instead of TLS": (answer, Kind.TLS)}, reply_size=size)


@clause(Where.ALL)
def client_tells_an_early_end(at: Ground) -> None:
    """A server that ends its stream before the reply is whole is told as the end of the stream, whatever the phase."""
    _in_every_phase(at, "the end of the stream", Hostile.cut, Kind.EOF)
    if at.profile is not None:
        _in_every_phase(at, "close_notify", lambda peer: peer.raw(peer.goodbye()), Kind.EOF, only=_AFTER_THE_HANDSHAKE)


@clause(Where.ALL)
def client_tells_a_reset(at: Ground) -> None:
    """A server that resets the connection is told as a reset, or as the end that a library has seen first."""
    _in_every_phase(at, "a reset", Hostile.reset, (Kind.RESET, Kind.EOF))


@clause(Where.ALL)
def client_tells_wrong_bytes(at: Ground) -> None:
    """A wrong reply is told as a fault of the protocol, a record that no key opens as one of TLS."""

    def saying(reply: bytes) -> Script:
        def answer(peer: Hostile) -> None:
            _converse(at, peer)
            peer.send(reply)
            _finish(at, peer)

        return answer

    def damaged(peer: Hostile) -> None:
        _converse(at, peer)
        peer.raw(flipped(peer.seal(_REPLY), 77))
        peer.feed()

    wrong = {
        "another reply": (saying(b"PANG" * 16), Kind.PROTOCOL),
        "another end of the reply": (saying(_REPLY[:-1] + b"?"), Kind.PROTOCOL),
    }
    for size in _SIZES:
        _all_fail(at, wrong, reply_size=size)
    _all_fail(at, {"a reply that is too long": (saying(_REPLY + b"?"), Kind.PROTOCOL)})
    if at.profile is not None:
        for size in _SIZES:
            _all_fail(at, {"a damaged record": (damaged, Kind.TLS)}, reply_size=size)


@clause(Where.ALL)
def client_reads_byte_by_byte(at: Ground) -> None:
    """A server that answers one byte at a time, its handshake's too, has answered."""

    def drip(peer: Hostile) -> None:
        slow = _Drip(peer.sock, patience=at.patience)
        _converse(at, slow)
        for place in range(len(_REPLY)):
            slow.send(_REPLY[place : place + 1])
        _finish(at, slow)

    for size in _SIZES:
        with _serving(at, drip) as address:
            reply = at.backend.run(lambda: fetch(at.backend, _target(at, address, size)))  # noqa: B023  # run at once
        expect(reply == _REPLY, f"byte by byte came {reply!r}")


@clause(Where.ALL)
def client_gives_up_in_time(at: Ground) -> None:
    """A server that falls silent, whatever the phase, or never comes to an end, is given up after the deadline."""
    impatient = replace(at, options=replace(at.options, deadline=SOON))
    hasty = replace(at, options=replace(at.options, handshake_timeout=SOON))

    def stay(peer: Hostile) -> None:
        peer.is_dropped()

    def flood(peer: Hostile) -> None:
        _converse(at, peer)
        with suppress(OSError):
            while True:
                peer.send(_REPLY * 256)

    def trickle(peer: Hostile) -> None:
        _converse(at, peer)
        with suppress(OSError):
            while True:
                peer.send(PONG)
                peer.sock.settimeout(0.002)
                with suppress(TimeoutError):
                    if not peer.sock.recv(65536):
                        break

    without_end = {"as fast as it goes": flood, "bit by bit": trickle}
    _in_every_phase(impatient, "silence", stay, Kind.TIMEOUT)
    _all_fail(impatient, {f"a reply without an end, {how}": (each, Kind.TIMEOUT) for how, each in without_end.items()})
    _in_every_phase(hasty, "silence", stay, Kind.TIMEOUT, only=_OF_THE_HANDSHAKE)


def _self_signed(directory: Path) -> Identity:
    """Make a certificate that is right in all but that nobody has issued it."""
    path, key = directory / "alone.pem", new_key("p256")
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([general_name("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_certificate(path, certificate)
    write_key(path.with_suffix(".key"), key)
    return Identity(ca=path, chain=path, key=path.with_suffix(".key"))


Kinds: TypeAlias = Kind | tuple[Kind, ...]

_OF_THE_HANDSHAKE = ("before the handshake", "after the ClientHello", "in the handshake")
_AFTER_THE_HANDSHAKE = ("before the request", "after the request", "in the middle of the reply")


def _in_every_phase(
    at: Ground,
    what: str,
    harm: Script,
    kinds: Kinds,
    only: Sequence[str] = (*_OF_THE_HANDSHAKE, *_AFTER_THE_HANDSHAKE),
) -> None:
    """Do harm in each phase, to clients that read to the end of the stream, and to those that know the reply's size.

    The former may `ask`, the latter have the conversation in parts.
    """
    for phase, script in _phases(at, harm):
        for size in _SIZES:
            if phase in only:
                _all_fail(at, {f"{what} {phase}": (script, kinds)}, reply_size=size)


def _phases(at: Ground, harm: Script) -> Iterator[tuple[str, Script]]:
    """Yield scripts that do harm in every phase of a conversation."""

    def at_once(peer: Hostile) -> None:
        _go_ahead(at, peer)
        harm(peer)

    def before(peer: Hostile) -> None:
        _go_ahead(at, peer)
        peer.feed()
        harm(peer)

    def during(peer: Hostile) -> None:
        _go_ahead(at, peer)
        context = at.server_context()
        assert context is not None
        peer.begin_tls(context)
        peer.feed()
        flight = peer.flight()
        peer.raw(flight[: len(flight) // 2])
        harm(peer)

    def shaken(peer: Hostile) -> None:
        _shake_hands(at, peer)
        harm(peer)

    def asked(peer: Hostile) -> None:
        _converse(at, peer)
        harm(peer)

    def halfway(peer: Hostile) -> None:
        _converse(at, peer)
        peer.send(_REPLY[: len(_REPLY) // 2])
        harm(peer)

    if at.profile is not None:
        yield from zip(_OF_THE_HANDSHAKE, (at_once, before, during), strict=True)
    yield from zip(_AFTER_THE_HANDSHAKE, (shaken, asked, halfway), strict=True)


def _go_ahead(at: Ground, peer: Hostile) -> None:
    if at.profile is not None:
        peer.raw(at.options.go_ahead)


def _shake_hands(at: Ground, peer: Hostile) -> None:
    _go_ahead(at, peer)
    if (context := at.server_context()) is not None:
        peer.begin_tls(context)
        peer.handshake()


def _converse(at: Ground, peer: Hostile) -> None:
    """Go on until the request is there."""
    _shake_hands(at, peer)
    peer.read(len(PING))


def _finish(at: Ground, peer: Hostile) -> None:
    if at.profile is not None:
        peer.raw(peer.goodbye())
    peer.cut()


class _Drip(Hostile):
    """Puts every byte into a segment of its own."""

    def raw(self, data: bytes) -> None:
        for place in range(len(data)):
            super().raw(data[place : place + 1])


@contextmanager
def _serving(at: Ground, script: Script) -> Iterator[Address]:
    """Run a server that begins without TLS, whatever its clients expect."""

    def work(peer: Hostile) -> None:
        # A client that has given up is what we want to see.
        with suppress(OSError, EOFError):
            script(peer)

    plain = replace(at, profile=None)
    with plain.reference_server(lambda peer: work(Hostile(peer.sock, patience=at.patience))) as server:
        yield server.address


def _all_fail(at: Ground, harms: Mapping[str, tuple[Script, Kinds]], *, reply_size: int | None = None) -> None:
    for what, (script, kinds) in harms.items():
        with _serving(at, script) as address:
            _fails(at, address, kinds, what, reply_size=reply_size)


def _fails(
    at: Ground,
    address: Address,
    kinds: Kinds,
    what: str,
    *,
    tls: ClientTLS | None = None,
    reply_size: int | None = None,
) -> None:
    at.trying[:] = [what]
    target = _target(at, address, reply_size, tls)
    error = failure(at.backend, lambda: fetch(at.backend, target), f"{what}: the conversation succeeded")
    expected = (kinds,) if isinstance(kinds, Kind) else kinds
    expect(error.kind in expected, f"{what} is told as {error} instead of {' or '.join(expected)}")


def _target(at: Ground, address: Address, reply_size: int | None, tls: ClientTLS | None = None) -> Target:
    talk = Talk(parts=(PING,), reply=PONG if tls else _REPLY, reply_size=reply_size)
    return Target(address=address, talk=talk, tls=tls or at.client_tls(), options=at.options)


PATIENCE = 60.0
"""Seconds that one of these may take: most of them wait for deadlines, and in every setting."""

CLIENT_FAULTS: tuple[Clause, ...] = (
    client_refuses_bad_certificates,
    client_tells_plaintext,
    client_tells_an_early_end,
    client_tells_a_reset,
    client_tells_wrong_bytes,
    client_reads_byte_by_byte,
    client_gives_up_in_time,
)
"""In order of what a client meets."""
