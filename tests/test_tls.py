"""Handshakes in memory, both ends from `loopmark.tls`: what is negotiated, what is refused, what is never resumed."""

import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from loopmark import certs, tls
from loopmark.errors import UsageError
from loopmark.spi import TLSProfile
from loopmark.tls import Identity

X25519 = 0x001D
SECP256R1 = 0x0017
KEY_SHARE = b"\x00\x33"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certs")


@pytest.fixture(scope="module")
def identity(directory: Path) -> Identity:
    return certs.ensure(directory)


class Pair:
    """Two TLS ends joined by memory; `to_client` keeps what the server sent during the handshake."""

    def __init__(
        self,
        server: ssl.SSLContext,
        client: ssl.SSLContext,
        server_name: str = "localhost",
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._to_server, self._from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._to_client, self._from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.wrap_bio(self._to_server, self._from_server, server_side=True)
        self.client = client.wrap_bio(self._to_client, self._from_client, server_hostname=server_name, session=session)
        self.to_client = b""

    def shake(self) -> "Pair":
        for end in (self.client, self.server, self.client, self.server, self.client):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
            self.move()
        return self

    def move(self) -> None:
        self._to_server.write(self._from_client.read())
        flight = self._from_server.read()
        self.to_client += flight
        self._to_client.write(flight)

    def say(self, text: bytes) -> bytes:
        """Send from server to client: what a TLS 1.3 client needs before it has a session, if there is one at all."""
        self.server.write(text)
        self.move()
        return self.client.read()

    def hang_up(self) -> None:
        """End with close_notify on both sides, after which an old server would let its session be resumed."""
        for end in (self.server, self.client, self.server):
            with suppress(ssl.SSLWantReadError):
                end.unwrap()
            self.move()


def connected(identity: Identity, profile: TLSProfile) -> Pair:
    return Pair(tls.server_context(profile, identity), tls.client_tls(profile, identity).context).shake()


def records(flight: bytes) -> Iterator[tuple[int, bytes]]:
    while flight:
        size = int.from_bytes(flight[3:5], "big")
        yield flight[0], flight[5 : 5 + size]
        flight = flight[5 + size :]


def group_of(flight: bytes, version: str) -> int:
    """Read the group off the ServerHello's key_share (TLS 1.3) or the ServerKeyExchange (TLS 1.2)."""
    handshake = b"".join(body for kind, body in records(flight) if kind == 22)
    if version == "1.3":
        size = int.from_bytes(handshake[1:4], "big")
        hello = handshake[4 : 4 + size]
        at = hello.index(KEY_SHARE, 34)
        return int.from_bytes(hello[at + 4 : at + 6], "big")
    while handshake:
        kind, size = handshake[0], int.from_bytes(handshake[1:4], "big")
        if kind == 12:
            return int.from_bytes(handshake[5:7], "big")
        handshake = handshake[4 + size :]
    raise AssertionError("no ServerKeyExchange")


@pytest.mark.parametrize("version", tls.VERSIONS)
@pytest.mark.parametrize("key", certs.KEYS)
def test_every_key_type_and_version_shakes_hands_and_is_verified(directory: Path, key: str, version: str) -> None:
    pair = connected(certs.ensure(directory, key=key), TLSProfile(version=version, key=key))
    assert pair.client.version() == pair.server.version() == f"TLSv{version}"
    assert pair.client.getpeercert()
    assert pair.say(b"PONG") == b"PONG"


@pytest.mark.parametrize("key", certs.KEYS)
def test_strict_verification_accepts_every_leaf(directory: Path, key: str) -> None:
    identity = certs.ensure(directory, key=key)
    client = ssl.create_default_context(cafile=identity.ca)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert Pair(tls.server_context(TLSProfile(key=key), identity), client).shake().client.getpeercert()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "myhost"])
def test_every_name_of_the_certificate_is_accepted(tmp_path: Path, name: str) -> None:
    identity = certs.ensure(tmp_path, names=["myhost"])
    profile = TLSProfile()
    pair = Pair(tls.server_context(profile, identity), tls.client_tls(profile, identity).context, name)
    assert pair.shake().client.getpeercert()


@pytest.mark.parametrize("version", tls.VERSIONS)
def test_another_authority_is_refused(identity: Identity, tmp_path: Path, version: str) -> None:
    # Ours has the same name in every directory: only the signature tells them apart.
    stranger = certs.ensure(tmp_path)
    profile = TLSProfile(version=version)
    pair = Pair(tls.server_context(profile, identity), tls.client_tls(profile, stranger).context)
    with pytest.raises(ssl.SSLCertVerificationError):
        pair.shake()


@pytest.mark.parametrize("version", tls.VERSIONS)
@pytest.mark.parametrize("name", ["example.org", "127.0.0.2"])
def test_another_host_name_is_refused(identity: Identity, version: str, name: str) -> None:
    profile = TLSProfile(version=version)
    pair = Pair(tls.server_context(profile, identity), tls.client_tls(profile, identity).context, name)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        pair.shake()


@pytest.mark.parametrize(("server", "client"), [("1.2", "1.3"), ("1.3", "1.2")])
def test_no_other_version_is_negotiated(identity: Identity, server: str, client: str) -> None:
    pair = Pair(
        tls.server_context(TLSProfile(version=server), identity),
        tls.client_tls(TLSProfile(version=client), identity).context,
    )
    with pytest.raises(ssl.SSLError):
        pair.shake()


@pytest.mark.parametrize("version", tls.VERSIONS)
@pytest.mark.parametrize(("group", "number"), [("X25519", X25519), ("prime256v1", SECP256R1)])
def test_the_group_is_the_one_of_the_profile(identity: Identity, version: str, group: str, number: int) -> None:
    pair = connected(identity, TLSProfile(version=version, group=group))
    assert group_of(pair.to_client, version) == number


def test_a_tls_1_3_client_offers_no_other_group(identity: Identity) -> None:
    pair = Pair(
        tls.server_context(TLSProfile(group="prime256v1"), identity),
        tls.client_tls(TLSProfile(group="X25519"), identity).context,
    )
    with pytest.raises(ssl.SSLError):
        pair.shake()


def test_the_server_has_no_tickets_to_give(identity: Identity) -> None:
    context = tls.server_context(TLSProfile(), identity)
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET


@pytest.mark.parametrize("version", tls.VERSIONS)
def test_no_ticket_is_on_the_wire(identity: Identity, version: str) -> None:
    pair = connected(identity, TLSProfile(version=version))
    pair.say(b"PONG")
    session = pair.client.session
    assert session is not None
    assert not session.has_ticket


@pytest.mark.parametrize("version", tls.VERSIONS)
def test_a_second_connection_is_a_full_handshake(identity: Identity, version: str) -> None:
    profile = TLSProfile(version=version)
    server, client = tls.server_context(profile, identity), tls.client_tls(profile, identity).context
    for _ in range(2):
        pair = Pair(server, client).shake()
        pair.say(b"PONG")
        assert not pair.client.session_reused
        pair.hang_up()
    assert server.session_stats()["hits"] == 0


def test_a_tls_1_3_session_that_is_offered_again_is_not_resumed(identity: Identity) -> None:
    server, client = tls.server_context(TLSProfile(), identity), tls.client_tls(TLSProfile(), identity).context
    first = Pair(server, client).shake()
    first.say(b"PONG")
    first.hang_up()
    second = Pair(server, client, session=first.client.session).shake()
    assert second.client.session_reused is False
    assert server.session_stats()["hits"] == 0


def test_completed_handshakes_are_counted_and_failed_ones_are_not(identity: Identity) -> None:
    profile = TLSProfile()
    server, client = tls.server_context(profile, identity), tls.client_tls(profile, identity).context
    for _ in range(3):
        Pair(server, client).shake()
    with pytest.raises(ssl.SSLCertVerificationError):
        Pair(server, client, "example.org").shake()
    assert tls.handshakes(server) == 3


@pytest.mark.parametrize("make", [tls.server_context, tls.client_tls])
def test_an_unknown_version_is_wrong_usage_and_names_what_exists(identity: Identity, make: object) -> None:
    assert callable(make)
    with pytest.raises(UsageError, match=r"unknown TLS version '1\.1'; there are 1\.2, 1\.3"):
        make(TLSProfile(version="1.1"), identity)
