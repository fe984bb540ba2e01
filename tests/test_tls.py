"""Handshakes in memory, both ends from `loopmark.tls`: what is negotiated, what is refused, what is resumed."""

import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from loopmark import certs, tls
from loopmark.errors import UsageError, is_cut
from loopmark.spi import TLSProfile
from loopmark.tls import Identity

X25519 = 0x001D
SECP256R1 = 0x0017
KEY_SHARE = b"\x00\x33"

PREFERS_A_HYBRID = ssl.OPENSSL_VERSION_INFO >= (3, 5)


def sets(group: str) -> bool:
    """Tell whether this Python can set a context's one group."""
    with suppress(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ecdh_curve(group)
        return True
    return False


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
        self.client = client.wrap_bio(self._to_client, self._from_client, server_hostname=server_name)
        if session is not None:
            self.client.session = session
        self.to_client = b""

    def shake(self) -> "Pair":
        for end in (self.client, self.server, self.client, self.server, self.client):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
            self.move()
        return self

    def cut(self) -> None:
        """End both streams without close_notify."""
        self._to_server.write_eof()
        self._to_client.write_eof()

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

    def converse(self) -> "Pair":
        """Shake hands, say something, hang up."""
        self.shake()
        assert self.say(b"PONG") == b"PONG"
        self.hang_up()
        return self


def contexts(identity: Identity, profile: TLSProfile) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return tls.server_context(profile, identity), tls.client_tls(profile, identity).context


def connected(identity: Identity, profile: TLSProfile) -> Pair:
    return Pair(*contexts(identity, profile)).shake()


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


@pytest.fixture
def only_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that can set elliptic curves only."""
    set_curve = ssl.SSLContext.set_ecdh_curve

    def refuse(context: ssl.SSLContext, name: str) -> None:
        if name == "X25519":
            raise ssl.SSLError("unknown group")
        set_curve(context, name)

    monkeypatch.setattr(ssl.SSLContext, "set_ecdh_curve", refuse)


@pytest.mark.skipif(PREFERS_A_HYBRID, reason="this OpenSSL prefers another group by itself")
@pytest.mark.parametrize("version", tls.VERSIONS)
@pytest.mark.usefixtures("only_curves")
def test_x25519_is_agreed_on_where_python_cannot_set_it(identity: Identity, version: str) -> None:
    assert group_of(connected(identity, TLSProfile(version=version)).to_client, version) == X25519


@pytest.mark.usefixtures("only_curves")
def test_x25519_is_refused_where_nobody_would_choose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_INFO", (3, 5, 0, 0, 0))
    with pytest.raises(UsageError, match="no group 'X25519' that Python can set; try prime256v1 or secp384r1"):
        tls.check(TLSProfile())


@pytest.mark.skipif(not sets("X25519"), reason="this Python cannot set the one group")
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


# Tickets and resumption


@pytest.mark.parametrize("version", tls.VERSIONS)
def test_tickets_alone_resume_nothing(identity: Identity, version: str) -> None:
    server, client = contexts(identity, TLSProfile(version=version, tickets=1))
    for _ in range(3):
        pair = Pair(server, client).converse()
        assert pair.client.session is not None
        assert pair.client.session.has_ticket
    assert (tls.handshakes(server), tls.resumptions(server)) == (3, 0)


@pytest.mark.parametrize("tickets", [1, 2])
def test_a_server_of_tls_1_3_sends_as_many_tickets_as_the_profile_says(identity: Identity, tickets: int) -> None:
    flights = [len(connected(identity, TLSProfile(tickets=count)).to_client) for count in (0, tickets)]
    ticket = (len(connected(identity, TLSProfile(tickets=1)).to_client) - flights[0]) // 10 * 10
    assert (flights[1] - flights[0]) // ticket == tickets


@pytest.mark.parametrize("client_key", [None, "ed25519"])
@pytest.mark.parametrize("version", tls.VERSIONS)
def test_an_offered_session_is_resumed_in_every_handshake(
    directory: Path, version: str, client_key: str | None
) -> None:
    identity = certs.ensure(directory, client_key=client_key)
    server, client = contexts(identity, TLSProfile(version=version, tickets=1, resumed=True, client_key=client_key))
    session = Pair(server, client).converse().client.session
    assert session is not None
    assert tls.resumptions(server) == 0
    tls.offer(client, session)
    for _ in range(3):
        pair = Pair(server, client).converse()
        assert pair.client.session_reused
        assert pair.client.getpeercert()
        assert bool(pair.server.getpeercert()) is (client_key is not None)
    assert (tls.handshakes(server), tls.resumptions(server)) == (4, 3)


def test_a_session_of_another_context_cannot_be_offered(identity: Identity) -> None:
    profile = TLSProfile(tickets=1, resumed=True)
    server, client = contexts(identity, profile)
    session = Pair(server, client).converse().client.session
    assert session is not None
    other = tls.client_tls(profile, identity).context
    tls.offer(other, session)
    with pytest.raises(ValueError, match="different SSLContext"):
        Pair(server, other)


@pytest.mark.parametrize("profile", [TLSProfile(), TLSProfile(tickets=1), TLSProfile(tickets=1, resumed=True)])
def test_a_new_context_has_nothing_of_ours_set(identity: Identity, profile: TLSProfile) -> None:
    assert not vars(tls.client_tls(profile, identity).context)


# Ciphers


@pytest.mark.parametrize("key", ["p256", "ed25519", "rsa2048"])
def test_every_cipher_that_is_listed_can_be_had(directory: Path, key: str) -> None:
    identity = certs.ensure(directory, key=key)
    names = tls.ciphers("1.2", key)
    assert len(names) > 2
    for name in names:
        pair = connected(identity, TLSProfile(version="1.2", key=key, cipher=name))
        found = pair.client.cipher()
        assert found is not None
        assert found[0] == name
        assert group_of(pair.to_client, "1.2") == X25519


@pytest.mark.parametrize(
    ("cipher", "key"),
    [
        ("ECDHE-RSA-AES128-GCM-SHA256", "p256"),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", "rsa2048"),
        ("AES128-GCM-SHA256", "rsa2048"),
        ("ECDHE-ECDSA-AES128-SHA256", "p256"),
        ("TLS_AES_128_GCM_SHA256", "p256"),
        ("ALL", "p256"),
        ("", "p256"),
    ],
)
def test_a_cipher_that_does_not_fit_is_refused_with_those_that_do(cipher: str, key: str) -> None:
    profile = TLSProfile(version="1.2", key=key, cipher=cipher)
    with pytest.raises(UsageError, match=rf"no cipher '{cipher}' for TLS 1.2 with a {key} key; there are ECDHE-"):
        tls.check(profile)


@pytest.mark.skipif(hasattr(ssl.SSLContext, "set_ciphersuites"), reason="this Python can")
def test_the_cipher_of_tls_1_3_is_refused_where_python_cannot_set_it() -> None:
    with pytest.raises(UsageError, match=r"cannot choose the cipher of TLS 1\.3"):
        tls.check(TLSProfile(cipher="TLS_AES_128_GCM_SHA256"))


def test_the_cipher_of_tls_1_3_is_set_where_python_can(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(ssl.SSLContext, "set_ciphersuites", lambda _, name: chosen.append(name), raising=False)
    contexts(identity, TLSProfile(cipher="TLS_AES_128_GCM_SHA256"))
    assert chosen == ["TLS_AES_128_GCM_SHA256"] * 2
    with pytest.raises(UsageError, match="there are TLS_"):
        tls.check(TLSProfile(cipher="TLS_AES_1"))


# Client certificates


@pytest.mark.parametrize("version", tls.VERSIONS)
@pytest.mark.parametrize("key", certs.KEYS)
def test_the_server_verifies_a_client_of_every_key_type(directory: Path, key: str, version: str) -> None:
    group = "prime256v1" if version == "1.2" else "X25519"
    identity = certs.ensure(directory, client_key=key)
    pair = connected(identity, TLSProfile(version=version, client_key=key, group=group))
    assert pair.say(b"PONG") == b"PONG"
    assert dict(rdn[0] for rdn in pair.server.getpeercert()["subject"])["commonName"] == "loopmark client"  # type: ignore[index, misc]  # a decoded certificate


def refused(server: ssl.SSLContext, client: ssl.SSLContext, why: str) -> None:
    with pytest.raises(ssl.SSLError, match=why):
        Pair(server, client).shake()
    assert tls.handshakes(server) == 0


@pytest.mark.parametrize("version", tls.VERSIONS)
def test_a_client_without_a_certificate_is_refused(identity: Identity, version: str) -> None:
    server = tls.server_context(TLSProfile(version=version, client_key="ed25519"), identity)
    refused(server, tls.client_tls(TLSProfile(version=version), identity).context, "PEER_DID_NOT_RETURN_A_CERTIFICATE")


@pytest.mark.parametrize("version", tls.VERSIONS)
def test_a_client_of_another_authority_is_refused(identity: Identity, tmp_path: Path, version: str) -> None:
    profile = TLSProfile(version=version, client_key="ed25519")
    stranger = certs.ensure(tmp_path, client_key="ed25519")
    client = tls.client_tls(profile, replace(stranger, ca=identity.ca)).context
    refused(tls.server_context(profile, identity), client, "CERTIFICATE_VERIFY_FAILED")


def test_a_servers_certificate_is_refused_as_a_clients(identity: Identity) -> None:
    profile = TLSProfile(client_key="p256")
    posing = replace(identity, client_chain=identity.chain, client_key=identity.key)
    client = tls.client_tls(profile, posing).context
    refused(tls.server_context(profile, identity), client, "CERTIFICATE_VERIFY_FAILED")


def test_a_client_certificate_that_is_not_there_is_named_with_its_cure(identity: Identity) -> None:
    with pytest.raises(UsageError, match="make it with loopmark certs --client-key rsa2048"):
        tls.client_tls(TLSProfile(client_key="rsa2048"), identity)


# The end


@pytest.mark.parametrize("version", tls.VERSIONS)
def test_a_cut_stream_has_not_ended(identity: Identity, version: str) -> None:
    pair = connected(identity, TLSProfile(version=version))
    pair.cut()
    for end in (pair.client, pair.server):
        with pytest.raises(ssl.SSLError) as caught:
            end.read(1)
        assert is_cut(caught.value)


# What cannot be had


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        (TLSProfile(version="1.1"), r"unknown TLS version '1\.1'; there are 1\.2, 1\.3"),
        (TLSProfile(group="X25519MLKEM9"), "no group 'X25519MLKEM9'"),
        (TLSProfile(group=""), "no group ''"),
        (TLSProfile(version="1.2", tickets=2), r"of TLS 1\.2 sends 0 to 1 session tickets, not 2"),
        (TLSProfile(tickets=-1), r"of TLS 1\.3 sends 0 to 16 session tickets, not -1"),
        (TLSProfile(tickets=17), "not 17"),
        (TLSProfile(resumed=True), "need exactly 1 session ticket, not 0"),
        (TLSProfile(version="1.2", resumed=True), "need exactly 1 session ticket, not 0"),
        (TLSProfile(tickets=2, resumed=True), "need exactly 1 session ticket, not 2"),
        (TLSProfile(version="1.2", client_key="p256"), "use the group prime256v1"),
    ],
    ids=str,
)
def test_a_profile_that_cannot_be_had_is_wrong_usage(profile: TLSProfile, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        tls.check(profile)


@pytest.mark.skipif(not sets("X25519"), reason="this Python leaves all groups to be agreed on")
def test_openssl_still_refuses_what_we_refuse_for_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "check", lambda _: None)
    with pytest.raises(ssl.SSLError, match="WRONG_CURVE"):
        connected(certs.ensure(directory, client_key="p256"), TLSProfile(version="1.2", client_key="p256"))
