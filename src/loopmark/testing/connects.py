"""The contract's clauses about `Backend.connect`: against a blocking reference server, which counts on its own."""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import ssl
from dataclasses import replace
from socket import IPPROTO_TCP, TCP_NODELAY

from loopmark.errors import Kind
from loopmark.spi import ClientTLS, Facts
from loopmark.testing.endpoint import End, Endpoint
from loopmark.testing.ground import (
    JOBS,
    PING,
    PONG,
    Clause,
    Ground,
    Where,
    both_ways,
    clause,
    expect,
    failure,
    pong,
)
from loopmark.testing.resources import own_socket


@clause(Where.FAMILIES)
@both_ways
def client_converses(at: Ground) -> None:
    """A client connects, with TLS completes one handshake, sends the request and returns the reply."""
    with at.reference_server(pong) as server:
        reply = at.backend.run(lambda: at.visit(server.address))
    expect(reply == PONG, f"the reply is {reply!r} instead of {PONG!r}")
    expect(server.accepted == 1, f"the server counts {server.accepted} connections instead of 1")
    if at.profile is not None:
        expect(server.handshakes == 1, f"the server counts {server.handshakes} handshakes instead of 1")


@clause(Where.TLS)
@both_ways
def client_refuses_an_unknown_authority(at: Ground) -> None:
    """A certificate from an authority that the context does not trust is refused, as a certificate's fault."""
    tls = at.client_tls()
    assert tls is not None
    trusting = tls.context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version, context.maximum_version = trusting.minimum_version, trusting.maximum_version
    _refused(at, ClientTLS(context=context, server_name=tls.server_name))


@clause(Where.TLS)
@both_ways
def client_refuses_a_wrong_name(at: Ground) -> None:
    """A certificate that does not name the server asked for is refused, as a certificate's fault."""
    tls = at.client_tls()
    assert tls is not None
    _refused(at, replace(tls, server_name="elsewhere.invalid"))


def _refused(at: Ground, tls: ClientTLS) -> None:
    with at.reference_server(pong) as server:
        error = failure(at.backend, lambda: at.visit(server.address, tls=tls), "the certificate was accepted")
    expect(error.kind is Kind.CERTIFICATE, f"the failure is told as {error}")


@clause(Where.TLS)
@both_ways
def client_uses_the_given_context(at: Ground) -> None:
    """The handshake is made with the context that was given and asks for the server by name (SNI)."""
    context, tls = at.server_context(), at.client_tls()
    assert context is not None
    assert tls is not None
    # A mark that no other context has.
    context.set_alpn_protocols(["loopmark-check"])
    tls.context.set_alpn_protocols(["loopmark-check"])
    with at.reference_server(pong, context) as server:
        at.backend.run(lambda: at.visit(server.address, tls=tls))
    expect(server.connections[0].alpn == "loopmark-check", "the handshake was made with another context")
    expect(server.server_names == [tls.server_name], f"the names asked for are {server.server_names}")


@clause(Where.ALL)
@both_ways
def client_connects_afresh(at: Ground) -> None:
    """Every `connect` makes a new connection, and on TLS a full handshake, even if the server offers tickets."""
    context, tls = at.server_context(), at.client_tls()
    if context is not None:
        context.num_tickets = 2
        context.options &= ~ssl.OP_NO_TICKET

    async def main() -> None:
        for _ in range(JOBS):
            await at.visit(server.address, tls=tls)

    with at.reference_server(pong, context) as server:
        at.backend.run(main)
    expect(server.accepted == JOBS, f"{JOBS} connects made {server.accepted} connections")
    if context is not None:
        expect(server.handshakes == JOBS, f"{JOBS} connects made {server.handshakes} handshakes")
        resumed = sum(each.resumed for each in server.connections)
        expect(resumed == 0, f"{resumed} of {JOBS} handshakes resumed a session")


@clause(Where.ONCE_TLS)
@both_ways
def client_gives_up_on_a_silent_server(at: Ground) -> None:
    """A handshake that does not come to its end fails after `handshake_timeout`."""
    impatient = replace(at, options=replace(at.options, handshake_timeout=0.2))
    # A server without TLS, which waits for more bytes than a handshake has.
    silent = replace(at, profile=None)
    with silent.reference_server(Endpoint.read_to_end) as server:
        failure(at.backend, lambda: impatient.visit(server.address), "a handshake succeeded with a silent server")
        peer = server.connections[0]
    expect(peer.end is not End.NONE, "the client keeps the connection whose handshake took too long")


@clause(Where.ALL)
def client_facts_are_true(at: Ground) -> None:
    """`facts` tell what the server sees, too: TLS version and cipher, no resumption, a verified peer, NODELAY."""

    async def main() -> tuple[Facts, bool]:
        connection = await at.connect(server.address)
        try:
            facts = connection.facts()
            with own_socket(remote=server.address) as sock:
                nodelay = sock.getsockopt(IPPROTO_TCP, TCP_NODELAY) != 0
            await connection.exchange((PING,), None, 1)
        finally:
            await connection.close()
        return facts, nodelay

    with at.reference_server(pong) as server:
        facts, nodelay = at.backend.run(main)
    peer = server.connections[0]
    _same("TLS version", facts.tls_version, peer.version)
    _same("cipher", facts.cipher, peer.cipher)
    _same("TCP_NODELAY", facts.nodelay, nodelay)
    # None says that the library does not let us see.
    secure = at.profile is not None
    expect(facts.session_reused in ((False, None) if secure else (None,)), f"session_reused is {facts.session_reused}")
    expect(facts.verified in ((True, None) if secure else (None,)), f"verified is {facts.verified}")


def _same(what: str, told: object, real: object) -> None:
    expect(told == real, f"the {what} is told as {told}, and is {real}")


@clause(Where.ONCE_PLAIN)
@both_ways
def client_sets_nodelay(at: Ground) -> None:
    """TCP_NODELAY is set on the client's socket when the options say so."""

    def look(peer: Endpoint) -> None:
        peer.read(len(PING))
        with own_socket(remote=server.address) as sock:
            expect(sock.getsockopt(IPPROTO_TCP, TCP_NODELAY) != 0, "TCP_NODELAY is off")
        peer.send(PONG)
        peer.finish()

    with at.reference_server(look) as server:
        at.backend.run(lambda: at.visit(server.address))


CLAUSES: tuple[Clause, ...] = (
    client_converses,
    client_refuses_an_unknown_authority,
    client_refuses_a_wrong_name,
    client_uses_the_given_context,
    client_connects_afresh,
    client_gives_up_on_a_silent_server,
    client_facts_are_true,
    client_sets_nodelay,
)
