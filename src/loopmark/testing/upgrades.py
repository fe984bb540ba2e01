"""The contract's clauses about TLS on a connection that began in the clear: the go-ahead, and what goes wrong after it.

That an upgraded connection is one like any other is checked by the other clauses: it is one of their settings.
"""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import socket
import ssl
from contextlib import suppress
from dataclasses import replace

from loopmark.errors import Kind
from loopmark.ledger import Ledger
from loopmark.service import Reply, Service, Then
from loopmark.spi import Address, ClientTLS, Feature
from loopmark.testing.endpoint import Endpoint
from loopmark.testing.ground import (
    GO_AHEAD,
    JOBS,
    PING,
    PONG,
    BrokenContract,
    Clause,
    Ground,
    Where,
    both_ways,
    calling,
    clause,
    expect,
    failure,
    pong,
)
from loopmark.testing.peers import dial
from loopmark.testing.resources import nothing_left

_PAUSE = 0.02
"""Seconds for which a side must be silent; one that is not says something at once."""

_TLS_DATA = b"\x17\x03\x03"


@clause(Where.UPGRADES, needs=Feature.START_TLS)
def server_says_the_go_ahead_first(at: Ground) -> None:
    """A server says the go-ahead unasked, once and in the clear, and nothing more before its client begins TLS."""

    def work(address: Address, _: Ledger) -> None:
        tls = at.client_tls()
        assert tls is not None
        with calling() as clients:
            client = dial(address, patience=at.patience)
            clients.append(client)
            said = client.read(len(GO_AHEAD))
            expect(said == GO_AHEAD, f"the server said {said!r} instead of {GO_AHEAD!r}")
            expect(not client.hears(_PAUSE), "more than the go-ahead was said before TLS")
            client.begin_tls(tls.context, tls.server_name)
            client.send(PING)
            reply = client.read_to_end()
            expect(reply == PONG, f"after an upgrade the reply is {reply!r} instead of {PONG!r}")
            client.finish()

    at.serve(work)


@clause(Where.UPGRADES, needs=Feature.START_TLS)
@both_ways
def client_waits_for_the_go_ahead(at: Ground) -> None:
    """A client says nothing before it has the whole go-ahead, and then begins TLS."""
    context = at.server_context()
    assert context is not None

    def hesitate(peer: Endpoint) -> None:
        for number in range(len(GO_AHEAD)):
            early = peer.hears(_PAUSE if number in (0, len(GO_AHEAD) - 1) else 0.001)
            expect(not early, f"the client began after {number} of {len(GO_AHEAD)} bytes of the go-ahead")
            peer.send(GO_AHEAD[number : number + 1])
        peer.begin_tls(context)
        pong(peer)

    with replace(at, profile=None).reference_server(hesitate) as server:
        reply = at.backend.run(lambda: at.visit(server.address))
    expect(reply == PONG, f"after an upgrade the reply is {reply!r} instead of {PONG!r}")


@clause(Where.UPGRADES, needs=Feature.START_TLS)
@both_ways
def client_refuses_another_go_ahead(at: Ground) -> None:
    """Other bytes than the go-ahead are a failure of the kind `protocol`, a cut one of `eof`; no byte is sent then."""

    def wrong(peer: Endpoint) -> None:
        peer.send(b"-ERR" + GO_AHEAD[4:])
        peer.read_to_end()

    def cut(peer: Endpoint) -> None:
        peer.send(GO_AHEAD[:5])
        peer.finish()
        peer.read_to_end()

    for script, kinds in ((wrong, [Kind.PROTOCOL]), (cut, [Kind.EOF, Kind.PROTOCOL])):
        with replace(at, profile=None).reference_server(script) as server:
            error = failure(at.backend, lambda: at.visit(server.address), f"a {script.__name__} go-ahead was taken")
        expect(error.kind in kinds, f"a {script.__name__} go-ahead is told as {error}")
        said = bytes(server.connections[0].received)
        expect(not said, f"after a {script.__name__} go-ahead the client said {said[:20]!r}")


@clause(Where.UPGRADES, needs=Feature.START_TLS)
def server_keeps_what_comes_with_the_handshake(at: Ground) -> None:
    """What a client says in one segment with the end of its handshake is answered, never in the clear."""

    class Echo(Service):
        def receive(self, data: bytes, /) -> Reply:
            return self.finish(Reply(data, Then.CLOSE))

    def work(address: Address, ledger: Ledger) -> None:
        tls = at.client_tls()
        assert tls is not None
        for number in range(JOBS):
            with calling() as clients:
                clients.append(dial(address, patience=at.patience))
                clients[0].read(len(GO_AHEAD))
                request = b"request %d" % number
                reply = _say_at_once(clients[0].sock, tls, request)
            expect(reply == request, f"{request!r}, which came with the handshake, was answered with {reply!r}")
        at.settle(ledger, 0)
        expect(ledger.counts().served == JOBS, f"{JOBS} conversations were counted as {ledger.counts()}")

    at.serve(work, service=Echo)


def _say_at_once(sock: socket.socket, tls: ClientTLS, request: bytes) -> bytes:
    """Send a request as early as TLS lets a client, which is with its Finished in 1.3; return the reply."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = tls.context.wrap_bio(incoming, outgoing, server_hostname=tls.server_name)

    def more() -> None:
        sock.sendall(outgoing.read())
        data = sock.recv(65536)
        if not data:
            raise BrokenContract("the server ended its stream before its answer")
        incoming.write(data)

    while True:
        try:
            secure.do_handshake()
            break
        except ssl.SSLWantReadError:
            more()
    secure.write(request)
    sock.sendall(outgoing.read())
    start = sock.recv(65536)
    expect(start.startswith(_TLS_DATA), f"the answer came in the clear: {start[:20]!r}" if start else "no answer came")
    incoming.write(start)
    while True:
        try:
            return secure.read(len(request))
        except ssl.SSLWantReadError:
            more()


@clause(Where.UPGRADES, needs=Feature.START_TLS)
@both_ways
def failed_upgrades_leave_nothing_behind(at: Ground) -> None:
    """An upgrade that fails after the go-ahead leaves no descriptor, thread or unclosed object, on either side."""
    at.backend.run(lambda: at.backend.sleep(0))
    with nothing_left():
        _fail_as_client(at)
    with nothing_left(), calling() as clients:
        at.serve(lambda address, ledger: _fail_as_server(at, address, ledger, clients))
        for client in clients:
            client.close()


def _fail_as_client(at: Ground) -> None:
    tls = at.client_tls()
    assert tls is not None

    def leave(peer: Endpoint) -> None:
        peer.send(GO_AHEAD)
        peer.finish()

    def speak_in_the_clear(peer: Endpoint) -> None:
        peer.send(GO_AHEAD)
        peer.read(1)
        peer.send(b"and now something else")
        peer.read_to_end()

    for script in (leave, speak_in_the_clear):
        with replace(at, profile=None).reference_server(script) as server:
            failure(at.backend, lambda: at.visit(server.address), "a handshake succeeded without TLS")
    with at.reference_server(pong) as server:
        stranger = replace(tls, server_name="elsewhere.invalid")
        error = failure(at.backend, lambda: at.visit(server.address, tls=stranger), "the certificate was accepted")
    expect(error.kind is Kind.CERTIFICATE, f"another server's certificate is told as {error}")


def _fail_as_server(at: Ground, address: Address, ledger: Ledger, clients: list[Endpoint]) -> None:
    def speak_in_the_clear(client: Endpoint) -> None:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        client.read_to_end()

    def reset_in_the_handshake(client: Endpoint) -> None:
        # Not before: where a peer is gone, `wrap_socket` of Python before 3.13 itself leaves a socket unclosed.
        tls, hello = at.client_tls(), ssl.MemoryBIO()
        assert tls is not None
        with suppress(ssl.SSLWantReadError):
            tls.context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname=tls.server_name).do_handshake()
        client.send(hello.read())
        client.read(1)
        client.reset()

    for misbehave in (speak_in_the_clear, Endpoint.cut, reset_in_the_handshake):
        client = dial(address, patience=at.patience)
        clients.append(client)
        client.read(len(GO_AHEAD))
        with suppress(ConnectionError):
            misbehave(client)
        reply = at.call(address)
        expect(reply == PONG, f"after a failed upgrade the reply is {reply!r}")
    at.settle(ledger, 0)
    expect(ledger.counts().served == 3, f"3 good conversations were counted as {ledger.counts()}")
    # The server is left while this one has its go-ahead only.
    clients.append(dial(address, patience=at.patience))
    clients[-1].read(len(GO_AHEAD))


CLAUSES: tuple[Clause, ...] = (
    server_says_the_go_ahead_first,
    client_waits_for_the_go_ahead,
    client_refuses_another_go_ahead,
    server_keeps_what_comes_with_the_handshake,
    failed_upgrades_leave_nothing_behind,
)
