"""The recording relay between blocking peers of the standard library, over real sockets."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeAlias

import pytest

from loopmark import certs, tls
from loopmark.case import ClosePolicy
from loopmark.record import Trace
from loopmark.relay import RecordingRelay, _Conversation
from loopmark.service import Talk
from loopmark.spi import Address, TLSProfile
from loopmark.tls import Identity
from loopmark.traces import read_trace
from loopmark.wire import judge

Handler: TypeAlias = Callable[[socket.socket], None]

TALK = Talk(parts=(b"PING",), reply=b"PONG", reply_size=None)
PATIENCE = 20.0
VERSIONS = pytest.mark.parametrize("profile", [TLSProfile(), TLSProfile(version="1.2")], ids=["tls1.3", "tls1.2"])


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return certs.ensure(tmp_path_factory.mktemp("certs"))


@contextmanager
def serving(
    handler: Handler, context: ssl.SSLContext | None = None, host: str = "127.0.0.1", connections: int = 1
) -> Iterator[Address]:
    """Serve this many connections, one by one, in a thread; what the handler raises is raised at the end."""
    errors: list[BaseException] = []
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        listener.settimeout(PATIENCE)

        def serve() -> None:
            try:
                for _ in range(connections):
                    raw, _ = listener.accept()
                    raw.settimeout(PATIENCE)
                    with context.wrap_socket(raw, server_side=True) if context else raw as sock:
                        handler(sock)
            except BaseException as error:  # noqa: BLE001 - it is raised in the test's own thread
                errors.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address(*listener.getsockname()[:2])
        finally:
            thread.join()
    for error in errors:
        raise error


def count(sock: socket.socket) -> int:
    """Count bytes until the end of the stream."""
    return sum(iter(lambda: len(sock.recv(65536)), 0))


def connect(address: Address) -> socket.socket:
    return socket.create_connection(address, timeout=PATIENCE)


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while more := sock.recv(1000):
        data += more
    return data


def send_close_notify(sock: socket.socket) -> None:
    """Send close_notify without waiting for the peer's."""
    assert isinstance(sock, ssl.SSLSocket)
    sock.settimeout(0)
    with suppress(ssl.SSLWantReadError):
        sock.unwrap()


def abort(sock: socket.socket) -> None:
    """Let the close send a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def answer(sock: socket.socket) -> None:
    assert sock.recv(100) == b"PING"
    sock.sendall(b"PONG")


# The server's and the client's ways of behaving; each starts when the connection (and the handshake) is complete.


def good_server(sock: socket.socket) -> None:
    answer(sock)
    send_close_notify(sock)


def patient_server(sock: socket.socket) -> None:
    answer(sock)
    assert isinstance(sock, ssl.SSLSocket)
    sock.unwrap().close()


def silent_server(sock: socket.socket) -> None:
    answer(sock)


def second_server(sock: socket.socket) -> None:
    """Say nothing after the reply until the client has."""
    answer(sock)
    assert sock.recv(100) == b""
    send_close_notify(sock)


def wordy_server(sock: socket.socket) -> None:
    answer(sock)
    sock.sendall(b"!")
    send_close_notify(sock)


def ask(sock: socket.socket, reply: bytes = b"PONG") -> None:
    sock.sendall(b"PING")
    assert read_all(sock) == reply


def good_client(sock: socket.socket) -> None:
    ask(sock)
    send_close_notify(sock)


def rude_client(sock: socket.socket) -> None:
    ask(sock)


def client_of_silent_server(sock: socket.socket) -> None:
    # An end of file without close_notify may be an error for OpenSSL, and so is the unwrap after it.
    sock.sendall(b"PING")
    assert sock.recv(4) == b"PONG"
    with suppress(ssl.SSLError):
        sock.recv(1)
    with suppress(OSError):
        send_close_notify(sock)


def hasty_client(sock: socket.socket) -> None:
    sock.sendall(b"PING")
    assert sock.recv(4) == b"PONG"
    assert isinstance(sock, ssl.SSLSocket)
    sock.unwrap().close()


def wordy_client(sock: socket.socket) -> None:
    ask(sock)
    sock.sendall(b"!")
    send_close_notify(sock)


def client_of_wordy_server(sock: socket.socket) -> None:
    ask(sock, b"PONG!")
    send_close_notify(sock)


def converse(
    profile: TLSProfile,
    identity: Identity,
    *,
    server: Handler = good_server,
    client: Handler = good_client,
    tickets: int = 0,
) -> Trace:
    """Take one conversation through the relay; return what it saw."""
    context = tls.server_context(replace(profile, tickets=tickets), identity)
    caller = tls.client_tls(profile, identity)
    with serving(server, context) as upstream, RecordingRelay(upstream) as relay:
        with (
            connect(relay.address) as raw,
            caller.context.wrap_socket(raw, server_hostname=caller.server_name) as sock,
        ):
            client(sock)
        (trace,) = relay.traces(PATIENCE)
    return trace


def why(trace: Trace, profile: TLSProfile) -> str | None:
    return judge(trace, ClosePolicy.BOTH_NOTIFY, tls=profile, talk=TALK)


@VERSIONS
@pytest.mark.parametrize("server", [good_server, patient_server])
def test_a_conversation_as_promised_is_comparable(profile: TLSProfile, server: Handler, identity: Identity) -> None:
    trace = converse(profile, identity, server=server)
    assert why(trace, profile) is None
    assert trace.group == "X25519"
    assert trace.first_close_notify == "server"


def test_the_trace_of_tls_1_3_shows_every_record(identity: Identity) -> None:
    trace = converse(TLSProfile(), identity)
    assert trace.records[0].startswith("> handshake ")
    assert trace.records[1].startswith("< handshake ")
    assert [record for record in trace.records if record.startswith(">")][-2:] == ["> data 21", "> data 19"]
    assert [record for record in trace.records if record.startswith("<")][-2:] == ["< data 21", "< data 19"]
    sent, received = (
        sum(5 + int(record.split()[2]) for record in trace.records if record.startswith(way) and "reset" not in record)
        for way in "><"
    )
    assert (trace.bytes_to_server, trace.bytes_to_client) == (sent, received)


@VERSIONS
@pytest.mark.parametrize(
    ("server", "client", "reason"),
    [
        (silent_server, client_of_silent_server, "the server sent no close_notify"),
        (good_server, rude_client, "the client sent no close_notify"),
        (second_server, hasty_client, "the client sent its close_notify before the server's"),
        (wordy_server, client_of_wordy_server, "the server sent data "),
        (good_server, wordy_client, "the client sent data "),
    ],
)
def test_a_broken_promise_is_seen(
    profile: TLSProfile, server: Handler, client: Handler, reason: str, identity: Identity
) -> None:
    trace = converse(profile, identity, server=server, client=client)
    assert (why(trace, profile) or "").startswith(reason)


def impatient_client(sock: socket.socket) -> None:
    """End first, and be gone before the server can answer."""
    sock.sendall(b"PING")
    assert sock.recv(4) == b"PONG"
    send_close_notify(sock)


@VERSIONS
@pytest.mark.parametrize("client", [hasty_client, impatient_client])
def test_a_client_that_ends_first_is_comparable_whether_it_waits_or_not(
    profile: TLSProfile, client: Handler, identity: Identity
) -> None:
    trace = converse(profile, identity, server=second_server, client=client)
    assert judge(trace, ClosePolicy.CLIENT_NOTIFY, tls=profile, talk=TALK) is None
    assert trace.first_close_notify == "client"


@VERSIONS
def test_an_upgrade_is_comparable(profile: TLSProfile, identity: Identity) -> None:
    context, caller = tls.server_context(profile, identity), tls.client_tls(profile, identity)

    def server(plain: socket.socket) -> None:
        plain.sendall(b"GO")
        with context.wrap_socket(plain, server_side=True) as sock:
            good_server(sock)

    def client(plain: socket.socket) -> None:
        assert plain.recv(2, socket.MSG_WAITALL) == b"GO"
        with caller.context.wrap_socket(plain, server_hostname=caller.server_name) as sock:
            good_client(sock)

    trace = plain(server, client)
    assert judge(trace, ClosePolicy.BOTH_NOTIFY, tls=profile, talk=TALK, go_ahead=b"GO") is None


@VERSIONS
def test_tickets_are_seen(profile: TLSProfile, identity: Identity) -> None:
    assert "ticket" in (why(converse(profile, identity, tickets=1), profile) or "")


@VERSIONS
def test_another_group_is_seen(profile: TLSProfile, identity: Identity) -> None:
    trace = converse(replace(profile, group="prime256v1"), identity)
    assert why(trace, profile) == "the key exchange used P-256 instead of X25519"


def test_the_clients_last_words_are_recorded_although_the_server_is_gone(identity: Identity) -> None:
    gone = threading.Event()
    profile = TLSProfile()

    def closing_server(sock: socket.socket) -> None:
        good_server(sock)
        sock.close()
        gone.set()

    def late_client(sock: socket.socket) -> None:
        ask(sock)
        assert gone.wait(PATIENCE)
        send_close_notify(sock)

    trace = converse(profile, identity, server=closing_server, client=late_client)
    assert trace.first_fin == "server"
    assert trace.records[-1] == "> data 19"
    assert why(trace, profile) is None


# Plain TCP


def plain(server: Handler, client: Handler, host: str = "127.0.0.1") -> Trace:
    with serving(server, host=host) as upstream, RecordingRelay(upstream) as relay:
        assert relay.address.host == host
        with connect(relay.address) as sock:
            client(sock)
        (trace,) = relay.traces(PATIENCE)
    return trace


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_plain_conversation_as_promised_is_comparable(host: str) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    trace = plain(answer, ask, host)
    assert trace.records == ("> plain 4", "< plain 4")
    assert (trace.bytes_to_server, trace.bytes_to_client) == (4, 4)
    assert (trace.group, trace.first_close_notify, trace.first_fin) == (None, None, "server")
    assert judge(trace, ClosePolicy.FIN, tls=None, talk=TALK) is None


def test_a_half_close_is_passed_on_and_the_other_direction_goes_on() -> None:
    def server(sock: socket.socket) -> None:
        assert read_all(sock) == b"PING"
        sock.sendall(b"PONG")

    def client(sock: socket.socket) -> None:
        sock.sendall(b"PING")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"PONG"

    trace = plain(server, client)
    assert trace.first_fin == "client"
    assert trace.records == ("> plain 4", "< plain 4")
    assert judge(trace, ClosePolicy.HALF_CLOSE, tls=None, talk=TALK) is None
    assert judge(trace, ClosePolicy.FIN, tls=None, talk=TALK)


def test_a_reset_of_the_server_reaches_the_client() -> None:
    def server(sock: socket.socket) -> None:
        assert sock.recv(100) == b"PING"
        abort(sock)

    def client(sock: socket.socket) -> None:
        sock.sendall(b"PING")
        with pytest.raises(ConnectionResetError):
            sock.recv(100)

    trace = plain(server, client)
    assert trace.records == ("> plain 4", "< reset 0")
    assert trace.first_fin is None


def test_a_reset_of_the_client_reaches_the_server() -> None:
    def server(sock: socket.socket) -> None:
        answer(sock)
        with pytest.raises(ConnectionResetError):
            sock.recv(100)

    def client(sock: socket.socket) -> None:
        sock.sendall(b"PING")
        assert sock.recv(4) == b"PONG"
        abort(sock)

    assert plain(server, client).records == ("> plain 4", "< plain 4", "> reset 0")


def test_more_than_any_buffer_holds_goes_through_both_ways() -> None:
    # More than the relay's own sockets take; the peers' are kept from growing.
    size = 16_000_000

    def server(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.sendall(b"x" * size)
        sock.shutdown(socket.SHUT_WR)
        assert count(sock) == size

    def client(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        # Neither reads before all is sent: only a relay that never waits for one of them gets through.
        sock.sendall(b"y" * size)
        sock.shutdown(socket.SHUT_WR)
        assert count(sock) == size

    trace = plain(server, client)
    assert (trace.bytes_to_server, trace.bytes_to_client) == (size, size)


def test_what_a_slow_server_does_not_take_at_once_is_sent_later() -> None:
    size = 16_000_000
    sent = threading.Event()

    def server(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        assert sent.wait(PATIENCE)
        # By now the relay has more than its socket takes, and soon nothing left to read that would wake it.
        assert count(sock) == size

    def client(sock: socket.socket) -> None:
        sock.sendall(b"x" * size)
        sock.shutdown(socket.SHUT_WR)
        sent.set()
        assert sock.recv(1) == b""

    assert plain(server, client).bytes_to_server == size


# The relay's own life


def test_conversations_are_recorded_one_after_the_other() -> None:
    with serving(answer, connections=2) as upstream, RecordingRelay(upstream) as relay:
        assert relay.traces() == []
        for count in (1, 2):
            with connect(relay.address) as sock:
                ask(sock)
            assert len(relay.traces(PATIENCE)) == count


def test_a_client_that_is_gone_already_still_has_its_conversation() -> None:
    def server(sock: socket.socket) -> None:
        assert read_all(sock) == b"PING"

    with serving(server, connections=20) as upstream, RecordingRelay(upstream) as relay:
        for number in range(1, 21):
            with connect(relay.address) as sock:
                sock.sendall(b"PING")
            assert len(relay.traces(PATIENCE)) == number


@contextmanager
def relayed() -> Iterator[tuple[socket.socket, socket.socket, _Conversation, socket.socket]]:
    """Connect a client and a server through a relay that does not run until it is told to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client, server = (connect(Address(*listener.getsockname()[:2])) for _ in range(2))
        to_client, to_server = (listener.accept()[0] for _ in range(2))
    stop, stopper = socket.socketpair()
    with client, server, to_client, to_server, stop, stopper:
        for sock in (to_client, to_server):
            sock.setblocking(False)
        yield client, server, _Conversation(to_client, to_server), stop


def test_what_the_client_sent_before_it_could_know_of_a_reset_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loopmark.relay._CHUNK", 10)
    with relayed() as (client, server, conversation, stop):
        client.sendall(b"x" * 100)
        abort(server)
        server.close()
        assert conversation.pump(stop)
        assert read_trace(conversation.events).bytes_to_server == 100


def test_a_conversation_that_has_not_ended_is_not_reported() -> None:
    done = threading.Event()

    def server(sock: socket.socket) -> None:
        answer(sock)
        assert done.wait(PATIENCE)

    with serving(server) as upstream, RecordingRelay(upstream) as relay, connect(relay.address) as sock:
        sock.sendall(b"PING")
        assert sock.recv(4) == b"PONG"
        assert relay.traces(timeout=0) == []
        done.set()
        assert sock.recv(1) == b""


def test_leaving_ends_an_open_conversation_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())

    def server(sock: socket.socket) -> None:
        answer(sock)
        assert sock.recv(1) == b""

    with serving(server) as upstream:
        with RecordingRelay(upstream) as relay:
            sock = connect(relay.address)
            address = relay.address
            sock.sendall(b"PING")
            assert sock.recv(4) == b"PONG"
        with sock:
            assert sock.recv(1) == b""
    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        connect(address)


def test_a_client_of_a_server_that_is_not_there_is_reset_and_leaves_no_trace() -> None:
    # Bound, so that nobody else gets the port, but not listening.
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        with RecordingRelay(Address(*deaf.getsockname()[:2])) as relay:
            with pytest.raises(ConnectionResetError), connect(relay.address) as sock:
                sock.recv(1)
            assert relay.traces(PATIENCE) == []
