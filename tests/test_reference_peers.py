import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable

import pytest

from loopmark.errors import ProtocolError
from loopmark.spi import TLSProfile
from loopmark.testing import End, Endpoint, ReferenceServer, call, dial
from loopmark.testing.ground import BrokenContract
from loopmark.testing.resources import nothing_left, own_socket
from loopmark.tls import Identity, client_tls, server_context

BOTH = pytest.mark.parametrize("version", ["1.2", "1.3"])


def pong(peer: Endpoint) -> None:
    peer.read(4)
    peer.send(b"PONG")
    peer.finish()


@BOTH
def test_the_reference_peers_talk_to_each_other(identity: Identity, version: str) -> None:
    profile = TLSProfile(version=version)
    with ReferenceServer(pong, context=server_context(profile, identity)) as server:
        reply = call(server.address, client_tls(profile, identity), b"PING")
    (peer,) = server.connections
    assert reply == b"PONG"
    assert (server.accepted, server.handshakes, server.peak, server.open) == (1, 1, 1, 0)
    assert server.server_names == ["localhost"]
    assert (peer.version, bytes(peer.received)) == (f"TLSv{version}", b"PING")
    assert (peer.end, peer.closed, peer.partner_first) == (End.CLOSE_NOTIFY, True, False)


@BOTH
def test_the_reference_peers_upgrade_after_a_go_ahead(identity: Identity, version: str) -> None:
    profile = TLSProfile(version=version)
    with ReferenceServer(pong, context=server_context(profile, identity), go_ahead=b"GO") as server:
        reply = call(server.address, client_tls(profile, identity), b"PING", go_ahead=b"GO")
    (peer,) = server.connections
    assert reply == b"PONG"
    assert (server.handshakes, peer.version, bytes(peer.received)) == (1, f"TLSv{version}", b"PING")


def test_another_go_ahead_ends_the_reference_client(identity: Identity) -> None:
    with (
        ReferenceServer(pong, context=server_context(TLSProfile(), identity), go_ahead=b"NO") as server,
        pytest.raises(ProtocolError, match="expected the go-ahead b'GO', got b'NO'"),
    ):
        dial(server.address, client_tls(TLSProfile(), identity), go_ahead=b"GO")
    assert (server.handshakes, len(server.failed_handshakes)) == (0, 1)


def test_the_reference_peers_talk_without_tls_on_ipv6(ipv6: str) -> None:
    with ReferenceServer(pong, host=ipv6) as server:
        assert call(server.address, None, b"PING") == b"PONG"
    assert (server.accepted, server.handshakes) == (1, 0)
    assert server.connections[0].end is End.FIN


@BOTH
@pytest.mark.parametrize(
    ("leave", "end"), [(Endpoint.finish, End.CLOSE_NOTIFY), (Endpoint.cut, End.CUT), (Endpoint.reset, End.RESET)]
)
def test_the_reference_server_tells_how_its_client_left(
    identity: Identity, version: str, leave: Callable[[Endpoint], None], end: End
) -> None:
    profile = TLSProfile(version=version)
    with ReferenceServer(lambda peer: None, context=server_context(profile, identity)) as server:
        client = dial(server.address, client_tls(profile, identity))
        leave(client)
        client.close()
    (peer,) = server.connections
    # The ssl module before 3.13 tells of a reset as of a cut.
    assert peer.end is end or (sys.version_info < (3, 13) and (peer.end, end) == (End.CUT, End.RESET))
    assert peer.partner_first


def test_a_client_that_keeps_its_socket_open_after_goodbye_has_not_closed(identity: Identity) -> None:
    def pong_and_hear_goodbye(peer: Endpoint) -> None:
        pong(peer)
        peer.read_to_end()
        # From here on nothing comes any more, and there is no point in waiting for it as long as for the goodbye.
        peer.sock.settimeout(0.01)

    profile = TLSProfile()
    with ReferenceServer(pong_and_hear_goodbye, context=server_context(profile, identity)) as server:
        client = dial(server.address, client_tls(profile, identity))
        client.send(b"PING")
        client.read_to_end()
        client.say_goodbye()
    client.close()
    assert server.connections[0].end is End.CLOSE_NOTIFY
    assert not server.connections[0].closed


def test_open_connections_are_counted_at_their_peak() -> None:
    everybody = threading.Barrier(3)

    def wait(peer: Endpoint) -> None:
        if peer.index < 3:
            everybody.wait(5)

    def leave(client: Endpoint) -> None:
        client.finish()
        client.read_to_end()
        client.close()

    with ReferenceServer(wait) as server:
        for client in [dial(server.address) for _ in range(3)]:
            leave(client)
        leave(dial(server.address))
    assert (server.accepted, server.peak, server.open) == (4, 3, 0)


def test_a_failed_handshake_is_counted_apart(identity: Identity) -> None:
    with ReferenceServer(pong, context=server_context(TLSProfile(), identity)) as server:
        client = dial(server.address)
        client.send(b"this is not TLS")
        client.read_to_end()
        client.close()
    assert (server.accepted, server.handshakes, len(server.failed_handshakes)) == (1, 0, 1)


def test_a_script_that_fails_is_kept_as_a_fault() -> None:
    with ReferenceServer(pong) as server:
        client = dial(server.address)
        client.send(b"PI")
        client.finish()
        client.read_to_end()
        client.close()
    (fault,) = server.faults
    assert str(fault) == "2 of 4 bytes, then FIN"


def test_an_answer_without_an_end_is_no_answer() -> None:
    def stay(peer: Endpoint) -> None:
        peer.send(b"PONG")
        peer.read_to_end()

    with ReferenceServer(stay) as server, pytest.raises(TimeoutError, match="b'PONG' came, and the stream did not end"):
        call(server.address, None, b"PING", patience=1.0)


def test_a_client_of_an_unknown_authority_is_refused(identity: Identity, stranger: Identity) -> None:
    profile = TLSProfile()
    with (
        ReferenceServer(pong, context=server_context(profile, stranger)) as server,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        dial(server.address, client_tls(profile, identity))


def test_own_sockets_are_found_behind_their_owners_back() -> None:
    with ReferenceServer(pong) as server, socket.create_connection(server.address) as client:
        with own_socket(remote=server.address) as found:
            assert found.getsockname() == client.getsockname()
        client.sendall(b"PING")
    with pytest.raises(BrokenContract, match="there is no connection"):
        own_socket(remote=server.address)


def test_looking_at_a_socket_does_not_make_it_a_blocking_one() -> None:
    with ReferenceServer(pong) as server, socket.create_connection(server.address) as client:
        client.setblocking(False)
        with own_socket(remote=server.address) as found:
            assert found.fileno() != client.fileno()
        assert not os.get_blocking(client.fileno())


def test_a_descriptor_that_is_left_open_is_noticed() -> None:
    left: list[socket.socket] = []
    with pytest.raises(BrokenContract, match="1 descriptors are left open"), nothing_left():
        left.append(socket.socket())
    left[0].close()


def test_a_socket_that_is_left_to_the_collector_is_noticed() -> None:
    with pytest.raises(BrokenContract, match="1 objects were not closed, among them: unclosed"), nothing_left():
        socket.socket()


def test_a_thread_that_is_left_is_noticed() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="left over")
    with pytest.raises(BrokenContract, match="threads are left: left over"), nothing_left():
        thread.start()
    end.set()
    thread.join()
