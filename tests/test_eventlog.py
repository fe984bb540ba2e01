"""What is told of every connection: by the server's side, by the client's, and on every contender."""

import logging
import re
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from loopmark import eventlog, tls
from loopmark.case import Traffic
from loopmark.ledger import Ledger
from loopmark.listening import read_address
from loopmark.registry import registry
from loopmark.service import AnswerOnce, Reply, Service, Talk, Then
from loopmark.spi import Address, Backend, Facts, Feature, Options, TLSProfile
from loopmark.tls import Identity
from loopmark.traffic import Target, visit

PEER = "192.0.2.7:50000"


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "loopmark.eventlog")


def facts(peer: str | None = PEER) -> Facts:
    return Facts(loop="loop", transport="transport", nodelay=True, peer=peer)


def conversation(ledger: Ledger, *arriving: bytes) -> Service:
    service = eventlog.telling(ledger.accept)(facts)
    for data in arriving:
        service.receive(data)
    return service


def pingpong() -> Ledger:
    return Ledger(partial(AnswerOnce, b"PING", b"PONG"))


def test_a_server_tells_every_event_with_the_peers_address(caplog: pytest.LogCaptureFixture) -> None:
    conversation(pingpong(), b"PI", b"NG")
    assert caplog.messages == [
        f"{PEER}: connection accepted",
        f"{PEER}: received 2 bytes: b'PI'",
        f"{PEER}: received 2 bytes: b'NG'",
        f"{PEER}: message terminated",
        f"{PEER}: sends 4 bytes: b'PONG'",
        f"{PEER}: closing",
    ]


def test_only_the_beginning_of_a_long_message_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    conversation(Ledger(partial(AnswerOnce, b"x" * 100, b"")), b"x" * 41)
    assert caplog.messages[-1] == f"{PEER}: received 41 bytes: {b'x' * 40!r}..."


def test_a_wrong_request_is_told_with_what_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    conversation(pingpong(), b"HELLO")
    assert caplog.messages[-2].startswith(f"{PEER}: refused: protocol: expected the request b'PING'")
    assert caplog.messages[-1] == f"{PEER}: closing"


def test_the_end_of_a_stream_is_told(caplog: pytest.LogCaptureFixture) -> None:
    conversation(pingpong(), b"PI", b"")
    assert f"{PEER}: received the end of the stream" in caplog.messages


def test_a_lost_connection_is_told_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    conversation(pingpong(), b"PI").lost(ConnectionResetError("gone"))
    assert caplog.messages[-1] == f"{PEER}: lost: reset: ConnectionResetError: gone"


def test_a_connection_closes_once_and_may_hear_of_the_end_after_that(caplog: pytest.LogCaptureFixture) -> None:
    conversation(pingpong(), b"PING", b"")
    assert caplog.messages[-2:] == [f"{PEER}: closing", f"{PEER}: received the end of the stream"]


def test_the_end_after_the_conversation_is_no_loss(caplog: pytest.LogCaptureFixture) -> None:
    conversation(pingpong(), b"PING").lost(None)
    assert caplog.messages[-1] == f"{PEER}: closing"


def test_a_connection_is_told_of_as_soon_as_its_peer_is_known(caplog: pytest.LogCaptureFixture) -> None:
    ready = False

    def late() -> Facts:
        if not ready:
            raise RuntimeError("the handshake is not over")
        return facts()

    service = eventlog.telling(pingpong().accept)(late)
    assert caplog.messages == []
    ready = True
    service.receive(b"PI")
    assert caplog.messages == [f"{PEER}: connection accepted", f"{PEER}: received 2 bytes: b'PI'"]


def test_a_connection_that_was_lost_before_its_peer_was_known_is_told(caplog: pytest.LogCaptureFixture) -> None:
    eventlog.telling(pingpong().accept)(partial(facts, None)).lost(EOFError("cut"))
    assert caplog.messages == ["a peer that is gone: lost: eof: EOFError: cut"]


def test_a_watched_server_counts_as_an_unwatched_one() -> None:
    counts = []
    for accept in (lambda ledger: ledger.accept, lambda ledger: eventlog.telling(ledger.accept)):
        ledger = pingpong()
        for arriving in ([b"PING"], [b"PONG"], [b"PI", b""]):
            service = accept(ledger)(facts)
            replies = [service.receive(data) for data in arriving]
            service.lost(None)
        accept(ledger)(facts).lost(ConnectionResetError(104, "reset"))
        counts.append(ledger.counts())
    assert counts[0] == counts[1]
    assert replies[-1] == Reply(b"", Then.CLOSE)


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_every_contender_is_watched_on_both_sides(
    contender: Backend, identity: Identity, secure: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if (Feature.TLS if secure else Feature.TCP) not in contender.features:
        pytest.skip("it has no such feature")
    watched, ledger = eventlog.TellingBackend(contender), pingpong()
    profile = TLSProfile() if secure else None
    talk = Talk(parts=(b"PI", b"NG"), reply=b"PONG", reply_size=None)

    async def main() -> None:
        context = tls.server_context(profile, identity) if profile else None
        async with watched.serve(ledger.accept, Address("127.0.0.1", 0), tls=context, options=Options()) as server:
            address = read_address(server)
            client = tls.client_tls(profile, identity) if profile else None
            target = Target(address=address, talk=talk, tls=client, options=Options())
            await visit(watched, target)

    watched.run(main)
    sides: dict[str, list[str]] = {}
    for message in caplog.messages:
        who, _, event = message.partition(": ")
        sides.setdefault(who, []).append(event)
    (client,) = [events for who, events in sides.items() if who.endswith(" #1")]
    assert client == [
        "connecting",
        "connected, TLSv1.3, TLS_AES_256_GCM_SHA384" if secure else "connected, no TLS",
        "sends 2 bytes: b'PI'",
        "sends 2 bytes: b'NG'",
        "received 4 bytes: b'PONG', to the end of the stream",
        "closing",
        "closed",
    ]
    ((peer, server),) = [(who, events) for who, events in sides.items() if not who.endswith(" #1")]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", peer)
    # A protocol may hear of the client's own end after closing.
    server = server[: server.index("closing") + 1]
    assert server[0] == "connection accepted"
    assert server[1:-3] in (
        ["received 4 bytes: b'PING'"],
        ["received 2 bytes: b'PI'", "received 2 bytes: b'NG'"],
    )
    assert server[-3:] == ["message terminated", "sends 4 bytes: b'PONG'", "closing"]


def watchable() -> Iterator[str]:
    """Yield every conversation of one client and one server over TCP or TLS."""
    known = registry()
    for name in known.benchmarks:
        benchmark = known.benchmark(name)
        for shown, conversation in zip(benchmark.variants, benchmark.conversations.values(), strict=True):
            if conversation.traffic in (Traffic.CHURN, Traffic.MESSAGES):
                yield shown


@pytest.mark.parametrize("name", tuple(watchable()))
def test_every_conversation_is_watched(
    load: Callable[[str], Backend], identity: Identity, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    benchmark = registry().benchmark(name)
    conversation = benchmark.conversation(name.partition(":")[2])
    watched, ledger = eventlog.TellingBackend(load("asyncio")), Ledger(conversation.service)
    options = Options(go_ahead=conversation.go_ahead)

    async def main() -> None:
        context = tls.server_context(benchmark.tls, identity) if benchmark.tls else None
        async with watched.serve(ledger.accept, Address("127.0.0.1", 0), tls=context, options=options) as server:
            client = tls.client_tls(benchmark.tls, identity) if benchmark.tls else None
            await visit(
                watched, Target(address=read_address(server), talk=conversation.talk, tls=client, options=options)
            )
            for _ in range(1000):
                if ledger.counts().served:
                    break
                await watched.sleep(0.001)

    watched.run(main)
    assert ledger.counts().served == 1
    told = [each.partition(": ")[2] for each in caplog.messages]
    assert told.count("connection accepted") == told.count("message terminated") == told.count("closed") == 1
    assert any(each.startswith("received ") for each in told)


def test_a_server_that_is_not_there_is_told(caplog: pytest.LogCaptureFixture, contender: Backend) -> None:
    watched = eventlog.TellingBackend(contender)
    target = Target(
        address=Address("127.0.0.1", 1),
        talk=Talk(parts=(b"PING",), reply=b"PONG", reply_size=None),
        tls=None,
        options=Options(),
    )
    with pytest.raises(Exception, match=r"refused|111|All connection attempts failed|could not connect"):
        watched.run(lambda: visit(watched, target))
    assert caplog.messages[0] == "127.0.0.1:1 #1: connecting"
    assert caplog.messages[1].startswith("127.0.0.1:1 #1: not connected: ")
