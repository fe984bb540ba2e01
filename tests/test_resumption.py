"""Full and resumed handshakes and client certificates over real sockets, on either side of every contender.

What counts is what OpenSSL's own counters of the server say.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace

import pytest

from loopmark import certs, tls
from loopmark.case import ClosePolicy
from loopmark.errors import FactsError, Kind, ProtocolError, TrafficError
from loopmark.ledger import Ledger
from loopmark.relay import RecordingRelay
from loopmark.resumption import resume_from_now_on
from loopmark.service import HANG_UP, Reply, Service, Talk, Then
from loopmark.spi import Address, Backend, ClientTLS, Feature, Options, TLSProfile
from loopmark.testing.endpoint import End, Endpoint
from loopmark.testing.ground import PING, PONG, Ground, pong
from loopmark.testing.peers import ReferenceServer, call, dial
from loopmark.tls import Identity
from loopmark.traffic import Target, churn, visit
from loopmark.wire import judge

# See test_contract.py.
pytestmark = [pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"), pytest.mark.usefixtures("_collected")]

TALK = Talk(parts=(PING,), reply=PONG, reply_size=None)
OPTIONS = Options(handshake_timeout=20.0, close_timeout=20.0)
FULL = TLSProfile(client_key="ed25519")
RESUMED = replace(FULL, tickets=1, resumed=True)
PROFILES = [
    pytest.param(replace(profile, version=version), id=f"{version}-{'resumed' if profile.resumed else 'full'}")
    for version in tls.VERSIONS
    for profile in (FULL, RESUMED)
]
CONNECTIONS = 12


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return certs.ensure(tmp_path_factory.mktemp("certs"), client_key="ed25519")


@pytest.fixture
def secure(contender: Backend) -> Backend:
    if Feature.TLS not in contender.features:
        pytest.skip("it has no TLS")
    return contender


def prepared(profile: TLSProfile, identity: Identity, address: Address, talk: Talk = TALK) -> ClientTLS:
    """Make a client as the caller does it."""
    client = tls.client_tls(profile, identity)
    if profile.resumed:
        resume_from_now_on(client, address, talk, OPTIONS)
    return client


@contextmanager
def reference_server(context: ssl.SSLContext, script: Callable[[Endpoint], object] = pong) -> Iterator[Address]:
    with ReferenceServer(script, context=context) as server:
        yield server.address


@pytest.mark.parametrize("profile", PROFILES)
def test_a_client_makes_the_handshakes_of_its_profile(secure: Backend, profile: TLSProfile, identity: Identity) -> None:
    context = tls.server_context(profile, identity)
    with reference_server(context) as address:
        client = prepared(profile, identity, address)
        full = tls.handshakes(context)
        target = Target(address=address, talk=TALK, tls=client, options=OPTIONS)
        facts = secure.run(lambda: visit(secure, target))
        secure.run(lambda: churn(secure, target, connections=CONNECTIONS - 1, concurrency=4))
    assert tls.handshakes(context) - full == CONNECTIONS
    assert tls.resumptions(context) == (CONNECTIONS if profile.resumed else 0)
    assert (facts.session_reused, facts.verified) == (profile.resumed, True)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_server_makes_the_handshakes_of_its_profile(secure: Backend, profile: TLSProfile, identity: Identity) -> None:
    context = tls.server_context(profile, identity)

    def work(address: Address, _ledger: Ledger) -> None:
        client = prepared(profile, identity, address)
        before = tls.handshakes(context)
        for _ in range(CONNECTIONS):
            assert call(address, client, PING) == PONG
        assert tls.handshakes(context) - before == CONNECTIONS

    Ground(backend=secure, identity=identity, profile=profile).serve(work, context=context)
    assert tls.resumptions(context) == (CONNECTIONS if profile.resumed else 0)


@pytest.mark.parametrize("profile", [*PROFILES, pytest.param(TLSProfile(), id="anonymous")])
def test_a_server_tells_whether_it_has_verified_its_client(
    secure: Backend, profile: TLSProfile, identity: Identity
) -> None:
    def work(address: Address, ledger: Ledger) -> tuple[bool | None, bool | None]:
        # The first conversation ends when the client does, like all of this service.
        talk = replace(TALK, reply_size=len(PONG))
        client = dial(address, prepared(profile, identity, address, talk))
        try:
            client.send(PING)
            client.read(len(PONG))
            facts = ledger.facts()
            assert facts is not None
            return facts.verified, facts.session_reused
        finally:
            client.close()

    at = Ground(backend=secure, identity=identity, profile=profile)
    verified = profile.client_key is not None
    assert at.serve(work, service=Patient) == (verified, profile.resumed)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_wire_shows_the_profile(secure: Backend, profile: TLSProfile, identity: Identity) -> None:
    def work(address: Address, _ledger: Ledger) -> None:
        client = prepared(profile, identity, address)
        with RecordingRelay(address) as relay:
            assert call(relay.address, client, PING) == PONG
            (trace,) = relay.traces()
        assert judge(trace, ClosePolicy.BOTH_NOTIFY, tls=profile, talk=TALK) is None, trace.records

    Ground(backend=secure, identity=identity, profile=profile).serve(work)
    with reference_server(tls.server_context(profile, identity)) as address:
        client = prepared(profile, identity, address)
        with RecordingRelay(address) as relay:
            target = Target(address=relay.address, talk=TALK, tls=client, options=OPTIONS)
            secure.run(lambda: visit(secure, target))
            (trace,) = relay.traces()
    assert judge(trace, ClosePolicy.BOTH_NOTIFY, tls=profile, talk=TALK) is None, trace.records


@pytest.mark.parametrize("version", tls.VERSIONS)
def test_a_server_refuses_a_client_without_a_certificate_and_serves_the_next(
    secure: Backend, version: str, identity: Identity
) -> None:
    profile = replace(FULL, version=version)
    anonymous = tls.client_tls(replace(profile, client_key=None), identity)
    context = tls.server_context(profile, identity)

    def work(address: Address, _ledger: Ledger) -> None:
        reply = b""
        # In TLS 1.3 a client has done its handshake before it can be refused: its first read fails, or finds nothing.
        with suppress(ssl.SSLError, ConnectionError):
            reply = call(address, anonymous, PING)
        assert reply == b""
        assert call(address, tls.client_tls(profile, identity), PING) == PONG

    Ground(backend=secure, identity=identity, profile=profile).serve(work, context=context)
    assert tls.handshakes(context) == 1


# The one full handshake before


def test_a_server_without_tickets_is_told_from_one_that_resumes(identity: Identity) -> None:
    with reference_server(tls.server_context(TLSProfile(), identity)) as address:
        client = tls.client_tls(TLSProfile(tickets=1, resumed=True), identity)
        with pytest.raises(FactsError, match="gave no session ticket"):
            resume_from_now_on(client, address, TALK, OPTIONS)
    assert not vars(client.context)


def test_a_wrong_first_reply_is_a_wrong_reply(identity: Identity) -> None:
    def pang(peer: Endpoint) -> None:
        peer.read(4)
        peer.send(b"PANG")

    context, client = tls.server_context(TLSProfile(tickets=1), identity), tls.client_tls(TLSProfile(), identity)
    with reference_server(context, pang) as address, pytest.raises(ProtocolError, match="PANG"):
        resume_from_now_on(client, address, replace(TALK, reply_size=len(PONG)), OPTIONS)


def test_a_first_handshake_that_fails_is_told_like_any_other(identity: Identity, stranger: Identity) -> None:
    context, client = tls.server_context(TLSProfile(tickets=1), stranger), tls.client_tls(TLSProfile(), identity)
    with reference_server(context) as address, pytest.raises(TrafficError) as caught:
        resume_from_now_on(client, address, TALK, OPTIONS)
    assert caught.value.kind is Kind.CERTIFICATE


def test_rounds_of_a_fixed_size_on_a_server_that_waits_for_our_end(identity: Identity) -> None:
    def answer_thrice(peer: Endpoint) -> None:
        for _ in range(3):
            assert peer.read(4) == PING
            peer.send(PONG)
        assert peer.read_to_end() == b""

    context = tls.server_context(TLSProfile(tickets=1), identity)
    talk = Talk(parts=(b"PI", b"NG"), reply=PONG, reply_size=len(PONG), rounds=3)
    with ReferenceServer(answer_thrice, context=context) as server:
        resume_from_now_on(tls.client_tls(TLSProfile(), identity), server.address, talk, OPTIONS)
    assert not server.faults
    assert server.connections[0].end is End.CLOSE_NOTIFY


@pytest.mark.parametrize(("said", "fine"), [(b"GO", True), (b"NO", False)])
def test_an_upgrade_starts_with_the_go_ahead(identity: Identity, said: bytes, fine: bool) -> None:
    context = tls.server_context(TLSProfile(tickets=1), identity)

    def upgrade(peer: Endpoint) -> None:
        peer.send(said)
        with context.wrap_socket(peer.sock, server_side=True) as sock:
            pong(Endpoint(sock))
            sock.recv(1)

    client = tls.client_tls(TLSProfile(), identity)
    outcome = nullcontext() if fine else pytest.raises(ProtocolError, match="go-ahead")
    with ReferenceServer(upgrade) as server, outcome:
        resume_from_now_on(client, server.address, TALK, replace(OPTIONS, go_ahead=b"GO"))
    assert bool(vars(client.context)) is fine


class Patient(Service):
    """Answers whatever comes and never closes."""

    def receive(self, data: bytes, /) -> Reply:
        return Reply(PONG, Then.READ) if data else self.finish(HANG_UP)
