"""Every contender in every role, against blocking reference peers, the core's own traffic, and other contenders."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from loopmark.errors import Kind, ProtocolError, TrafficError
from loopmark.ledger import Counts, Ledger
from loopmark.service import Talk
from loopmark.spi import Address, Backend, Feature, Options, TLSProfile
from loopmark.testing import End, Endpoint, ReferenceServer, call
from loopmark.testing.ground import Ground
from loopmark.tls import Identity, client_tls, server_context
from loopmark.traffic import Target, churn, hold, release, visit

# asyncio and anyio lose a socket that is accepted at the very moment at which their server is left: it is closed by the
# garbage collector, with a warning. What a backend leaks is checked by counting descriptors.
pytestmark = [pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"), pytest.mark.usefixtures("_collected")]

T = TypeVar("T")

OPTIONS = Options(handshake_timeout=20, close_timeout=20)
TALK = Talk(parts=(b"PI", b"NG"), reply=b"PONG", reply_size=None)
PROFILES = (None, TLSProfile(version="1.2"), TLSProfile(version="1.3"))
C = 12

every_profile = pytest.mark.parametrize("profile", PROFILES, ids=["plain", "tls1.2", "tls1.3"])
every_tls = pytest.mark.parametrize("profile", PROFILES[1:], ids=["tls1.2", "tls1.3"])


@pytest.fixture(params=["ipv4", "ipv6"])
def host(request: pytest.FixtureRequest) -> str:
    return "127.0.0.1" if request.param == "ipv4" else str(request.getfixturevalue("ipv6"))


def need(backend: Backend, profile: TLSProfile | None) -> None:
    if profile is not None and Feature.TLS not in backend.features:
        pytest.skip("this backend has no TLS")


def pong(peer: Endpoint) -> None:
    peer.read(4)
    peer.send(b"PONG")
    peer.finish()


def aim(address: Address, profile: TLSProfile | None, identity: Identity, talk: Talk = TALK) -> Target:
    tls = client_tls(profile, identity) if profile else None
    return Target(address=address, talk=talk, tls=tls, options=OPTIONS)


def serve(ground: Ground, work: Callable[[Address, Ledger], T]) -> tuple[T, Counts]:
    """Serve while `work` runs in a thread; return what it did, and the counters once every connection is over."""

    def work_and_settle(address: Address, ledger: Ledger) -> tuple[T, Counts]:
        result = work(address, ledger)
        ground.settle(ledger, 0)
        return result, ledger.counts()

    return ground.serve(work_and_settle)


def reference(profile: TLSProfile | None, identity: Identity, host: str = "127.0.0.1") -> ReferenceServer:
    return ReferenceServer(pong, host=host, context=server_context(profile, identity) if profile else None)


@every_profile
def test_a_client_of_every_contender_visits_a_blocking_server(
    contender: Backend, identity: Identity, profile: TLSProfile | None, host: str
) -> None:
    need(contender, profile)
    with reference(profile, identity, host) as server:
        target = aim(server.address, profile, identity)
        facts = contender.run(lambda: visit(contender, target))
    assert facts.tls_version == (f"TLSv{profile.version}" if profile else None)
    assert [(bytes(peer.received), peer.closed) for peer in server.connections] == [(b"PING", True)]
    assert server.connections[0].end is (End.CLOSE_NOTIFY if profile else End.FIN)


@every_profile
def test_a_server_of_every_contender_answers_a_blocking_client(
    contender: Backend, identity: Identity, profile: TLSProfile | None, host: str
) -> None:
    need(contender, profile)
    tls = client_tls(profile, identity) if profile else None
    ground = Ground(backend=contender, identity=identity, profile=profile, host=host)
    reply, counts = serve(ground, lambda address, _: call(address, tls, b"PING"))
    assert reply == b"PONG"
    assert (counts.accepted, counts.served, counts.faults) == (1, 1, {})


@every_tls
def test_a_certificate_of_another_authority_is_refused(
    contender: Backend, identity: Identity, stranger: Identity, profile: TLSProfile
) -> None:
    need(contender, profile)
    with reference(profile, stranger) as server, pytest.raises(TrafficError) as caught:
        contender.run(lambda: visit(contender, aim(server.address, profile, identity)))
    assert caught.value.kind is Kind.CERTIFICATE
    assert server.handshakes == 0


@every_tls
def test_a_certificate_of_another_name_is_refused(contender: Backend, identity: Identity, profile: TLSProfile) -> None:
    need(contender, profile)
    elsewhere = replace(identity, server_name="elsewhere.invalid")
    with reference(profile, identity) as server, pytest.raises(TrafficError) as caught:
        contender.run(lambda: visit(contender, aim(server.address, profile, elsewhere)))
    assert caught.value.kind is Kind.CERTIFICATE
    assert server.handshakes == 0


@every_profile
@pytest.mark.parametrize("concurrency", [1, 4])
def test_churn_counts_the_replies_that_came(
    contender: Backend, identity: Identity, profile: TLSProfile | None, concurrency: int
) -> None:
    need(contender, profile)
    with reference(profile, identity) as server:
        target = aim(server.address, profile, identity)
        replies = contender.run(lambda: churn(contender, target, connections=C, concurrency=concurrency))
    assert replies == C
    assert server.accepted == C
    assert [bytes(peer.received) for peer in server.connections] == [b"PING"] * C


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_wrong_reply_ends_churn(contender: Backend, identity: Identity, concurrency: int) -> None:
    wrong = replace(TALK, reply=b"PUNG")

    async def main() -> None:
        try:
            await churn(contender, aim(server.address, None, identity, wrong), connections=C, concurrency=concurrency)
        except Exception as error:  # noqa: BLE001  # libraries wrap it, each in its own way
            failures.append(error)

    failures: list[Exception] = []
    with reference(None, identity) as server:
        contender.run(main)
    (failure,) = failures
    while isinstance(failure, ExceptionGroup):
        failure = failure.exceptions[0]
    assert isinstance(failure, ProtocolError)
    assert "expected the reply b'PUNG', got b'PONG'" in str(failure)
    assert server.accepted < C


@every_profile
def test_connections_that_are_held_are_all_open_at_once(
    contender: Backend, identity: Identity, profile: TLSProfile | None
) -> None:
    need(contender, profile)
    while_held: list[Counts] = []

    def work(address: Address, ledger: Ledger) -> None:
        target = aim(address, profile, identity)

        async def main() -> None:
            connections = await hold(contender, target, C)
            # With TLS 1.3 the server learns a little later than the client that the handshake is complete.
            while ledger.counts().open < C:
                await contender.sleep(0.001)
            while_held.append(ledger.counts())
            await release(contender, target, connections)

        contender.run(main)

    _, counts = serve(Ground(backend=contender, identity=identity, profile=profile), work)
    assert (while_held[0].open, while_held[0].served) == (C, 0)
    assert (counts.accepted, counts.served, counts.open) == (C, C, 0)


PAIRS = (
    ("asyncio", "trio"),
    ("trio", "uvloop"),
    ("uvloop-protocol", "anyio+trio"),
    ("anyio+uvloop", "asyncio-protocol"),
    ("blocking", "anyio+asyncio"),
    ("asyncio", "blocking"),
)


@every_profile
@pytest.mark.parametrize(("server", "client"), PAIRS)
def test_contenders_talk_to_each_other(
    load: Callable[[str], Backend], identity: Identity, profile: TLSProfile | None, server: str, client: str
) -> None:
    serving, calling = load(server), load(client)

    def work(address: Address, _: Ledger) -> int:
        target = aim(address, profile, identity)
        return calling.run(lambda: churn(calling, target, connections=C, concurrency=3))

    replies, counts = serve(Ground(backend=serving, identity=identity, profile=profile), work)
    assert replies == C
    assert (counts.accepted, counts.served, counts.open, counts.faults) == (C, C, 0, {})


@pytest.mark.parametrize(("server", "client"), PAIRS)
def test_contenders_upgrade_with_each_other(
    load: Callable[[str], Backend], identity: Identity, server: str, client: str
) -> None:
    serving, calling = load(server), load(client)
    ground = Ground(backend=serving, identity=identity, profile=TLSProfile(), options=OPTIONS).upgraded()

    def work(address: Address, _: Ledger) -> int:
        target = replace(aim(address, TLSProfile(), identity), options=ground.options)
        return calling.run(lambda: churn(calling, target, connections=C, concurrency=3))

    replies, counts = serve(ground, work)
    assert replies == C
    assert (counts.accepted, counts.served, counts.open, counts.faults) == (C, C, 0, {})


@pytest.mark.parametrize(
    ("server", "client"),
    [("asyncio-protocol", "trio"), ("uvloop-protocol", "blocking"), ("trio", "anyio+uvloop"), ("anyio+trio", "trio")],
)
def test_contenders_exchange_datagrams_with_each_other(
    load: Callable[[str], Backend], identity: Identity, server: str, client: str
) -> None:
    serving, calling = load(server), load(client)

    def work(address: Address, _: Ledger) -> list[bytes | None]:
        async def main() -> list[bytes | None]:
            sock = await calling.open_datagrams(address)
            try:
                return [await sock.exchange(b"%d" % number, 5.0) for number in range(C)]
            finally:
                await sock.close()

        return calling.run(main)

    ground = Ground(backend=serving, identity=identity, profile=None)
    assert ground.serve_datagrams(work, answer=lambda data: b"re: " + data) == [b"re: %d" % n for n in range(C)]
