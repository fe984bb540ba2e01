"""The contract's clauses about clients: a backend's `connect`, `exchange`, `close` and `gather`.

Each is checked against a blocking reference server, which counts on its own.
"""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from socket import IPPROTO_TCP, TCP_NODELAY

from loopmark.case import ClosePolicy
from loopmark.errors import Kind, TrafficError
from loopmark.relay import RecordingRelay
from loopmark.service import Talk
from loopmark.spi import Address, ClientTLS, Facts
from loopmark.testing.ground import (
    PING,
    PONG,
    BrokenContract,
    Clause,
    Ground,
    Where,
    clause,
    expect,
    failure,
)
from loopmark.testing.peers import End, Endpoint
from loopmark.testing.resources import nothing_left, own_socket
from loopmark.wire import judge

JOBS = 8
"""How many connections are made where several are."""


def pong(peer: Endpoint) -> None:
    """Answer PING with PONG, then close_notify and FIN: what most clauses' server does."""
    request = peer.read(len(PING))
    expect(request == PING, f"the server got {request!r} instead of {PING!r}")
    peer.send(PONG)
    peer.finish()


@clause(Where.FAMILIES)
def client_converses(at: Ground) -> None:
    """A client connects, with TLS completes one handshake, sends the request and returns the reply."""
    with at.reference_server(pong) as server:
        reply = at.backend.run(lambda: at.visit(server.address))
    expect(reply == PONG, f"the reply is {reply!r} instead of {PONG!r}")
    expect(server.accepted == 1, f"the server counts {server.accepted} connections instead of 1")
    if at.profile is not None:
        expect(server.handshakes == 1, f"the server counts {server.handshakes} handshakes instead of 1")


@clause(Where.TLS)
def client_refuses_an_unknown_authority(at: Ground) -> None:
    """A certificate from an authority that the context does not trust is refused, as a certificate's fault."""
    tls = at.client_tls()
    assert tls is not None
    trusting = tls.context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version, context.maximum_version = trusting.minimum_version, trusting.maximum_version
    _refused(at, ClientTLS(context=context, server_name=tls.server_name))


@clause(Where.TLS)
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


@clause(Where.ALL)
def client_returns_each_reply(at: Ground) -> None:
    """`exchange` returns what the server sent on this connection, not what it sent on another."""
    replies: list[bytes] = []

    def number(peer: Endpoint) -> None:
        peer.read(len(PING))
        peer.send(b"reply %d" % peer.index)
        peer.finish()

    async def main() -> None:
        tls = at.client_tls()
        replies.extend([await at.visit(server.address, tls=tls) for _ in range(3)])

    with at.reference_server(number) as server:
        at.backend.run(main)
    expect(replies == [b"reply 0", b"reply 1", b"reply 2"], f"the server counted, and the replies are {replies}")


@clause(Where.ALL)
def client_repeats_its_rounds(at: Ground) -> None:
    """With `rounds` the request is sent that often, each time after a reply; the last reply is returned."""
    rounds = 4

    def echo(peer: Endpoint) -> None:
        for number in range(rounds):
            request = peer.read(6)
            expect(request == b"ab-cde", f"the server got {request!r} instead of b'ab-cde'")
            peer.send(b"reply %d" % number)

    with at.reference_server(echo) as server:
        reply = at.backend.run(
            lambda: at.visit(server.address, parts=(b"ab", b"-", b"cde"), reply_size=7, rounds=rounds)
        )
    received = len(server.connections[0].received)
    expect(received == 6 * rounds, f"{rounds} rounds of 6 bytes sent {received} bytes")
    expect(reply == b"reply 3", f"the last reply is b'reply 3', returned was {reply!r}")


@clause(Where.ALL)
def client_sends_everything_in_order(at: Ground) -> None:
    """Parts are written completely and in order, however big they are."""
    parts = (b"a" * 70_001, b"b", bytes(range(256)) * 1200, b"c" * 3)

    def take(peer: Endpoint) -> None:
        peer.read(sum(map(len, parts)))
        peer.send(PONG)
        peer.finish()

    with at.reference_server(take) as server:
        at.backend.run(lambda: at.visit(server.address, parts=parts))
    expect(bytes(server.connections[0].received) == b"".join(parts), "the server got other bytes than were given")


@clause(Where.ALL)
def client_waits_for_the_whole_reply(at: Ground) -> None:
    """A reply that arrives byte by byte is returned as a whole."""

    def dribble(peer: Endpoint) -> None:
        for _ in range(2):
            peer.read(len(PING))
            for position in range(len(PONG)):
                peer.send(PONG[position : position + 1])
                # Whoever is content with less says something before the rest is sent.
                if position < len(PONG) - 1 and peer.hears(0.005):
                    raise BrokenContract(f"the client was content with {position + 1} of {len(PONG)} bytes")

    with at.reference_server(dribble) as server:
        reply = at.backend.run(lambda: at.visit(server.address, reply_size=len(PONG), rounds=2))
    expect(reply == PONG, f"of the reply {PONG!r}, byte by byte, came {reply!r}")


@clause(Where.ALL)
def client_reads_to_the_end(at: Ground) -> None:
    """Without `reply_size` everything up to the end of the stream is returned."""
    chunks = [bytes([65 + number]) * 40_009 for number in range(8)]

    def stream(peer: Endpoint) -> None:
        peer.read(len(PING))
        # One who hangs up before the end is told by what it returns.
        with suppress(OSError):
            for chunk in chunks:
                peer.send(chunk)
        peer.finish()

    with at.reference_server(stream) as server:
        reply = at.backend.run(lambda: at.visit(server.address))
    expect(reply == b"".join(chunks), f"of {sum(map(len, chunks))} bytes before the end came {len(reply)}")


@clause(Where.ALL)
def client_reports_an_early_end(at: Ground) -> None:
    """A stream that ends before `reply_size` bytes is a failure, of the kind `eof`."""

    def stop(peer: Endpoint) -> None:
        peer.read(len(PING))
        peer.send(PONG[:3])
        peer.finish()

    for script in (stop, _stop_at_once):
        error = _failure(at, script, len(PONG), "a cut reply was returned as a whole one")
        expect(error.kind is Kind.EOF, f"the failure is told as {error}")


def _stop_at_once(peer: Endpoint) -> None:
    peer.read(len(PING))
    peer.finish()


def _failure(at: Ground, script: Callable[[Endpoint], None], reply_size: int | None, instead: str) -> TrafficError:
    with at.reference_server(script) as server:
        return failure(at.backend, lambda: at.visit(server.address, reply_size=reply_size), instead)


@clause(Where.ALL)
def client_reports_a_reset(at: Ground) -> None:
    """A connection that is reset is a failure, with `reply_size` or without, during `exchange` or before."""

    def reset(peer: Endpoint) -> None:
        peer.read(len(PING))
        peer.send(PONG[:3])
        peer.reset()

    async def late() -> bytes:
        connection = await at.connect(server.address)
        try:
            gone.set()
            await at.backend.sleep(0.01)
            return await connection.exchange((PING,), None, 1)
        finally:
            await connection.close()

    def reset_before(peer: Endpoint) -> None:
        gone.wait(at.patience)
        peer.reset()

    for size in (8, None):
        error = _failure(at, reset, size, f"what came before a reset was returned as the reply (reply_size={size})")
        expect(error.kind in (Kind.RESET, Kind.EOF), f"the failure is told as {error}")
    gone = threading.Event()
    with at.reference_server(reset_before) as server:
        failure(at.backend, late, "a reset that came before the exchange was returned as an empty reply")


@clause(Where.ALL)
def client_says_goodbye(at: Ground) -> None:
    """`close` sends close_notify on TLS and ends the TCP stream, in both orders: the server first, the client first."""

    def answer(peer: Endpoint) -> None:
        peer.read(len(PING))
        peer.send(PONG)

    _goodbye(at, pong, None, "after the server's")
    _goodbye(at, answer, len(PONG), "before the server's")


def _goodbye(at: Ground, script: Callable[[Endpoint], None], reply_size: int | None, when: str) -> None:
    with at.reference_server(script) as server:
        at.backend.run(lambda: at.visit(server.address, reply_size=reply_size))
    peer = server.connections[0]
    wanted = End.CLOSE_NOTIFY if at.profile else End.FIN
    expect(peer.end is wanted, f"{when} end the client ended its stream with {peer.end} instead of {wanted}")
    expect(peer.closed, f"{when} end the client left its socket open")


@clause(Where.ALL)
def client_waits_for_nobody_to_close(at: Ground) -> None:
    """`close` does not wait for what the peer has not sent: the end of its TCP stream, say."""
    closed = threading.Event()

    def stay(peer: Endpoint) -> None:
        peer.read(len(PING))
        peer.send(PONG)
        if peer.tls is not None:
            peer.say_goodbye()
        # Our FIN comes only once the client's close has returned.
        expect(closed.wait(at.patience / 2), "the client waits in close for the end of the server's TCP stream")

    async def main() -> None:
        # On TLS the end that the client has seen is close_notify.
        await at.visit(server.address, reply_size=len(PONG) if at.profile is None else None)
        closed.set()

    with at.reference_server(stay) as server:
        at.backend.run(main)


@clause(Where.ALL)
def client_keeps_the_close_policy(at: Ground) -> None:
    """On the wire there are the conversation's bytes and the agreed end only, with the server's goodbye first."""
    talk = Talk(parts=(PING,), reply=PONG, reply_size=None)
    with at.reference_server(pong) as server, RecordingRelay(server.address) as relay:
        at.backend.run(lambda: at.visit(relay.address))
        traces = relay.traces(at.patience)
    expect(len(traces) == 1, f"the relay saw {len(traces)} connections instead of 1")
    fault = judge(
        traces[0], ClosePolicy.FIN if at.profile is None else ClosePolicy.BOTH_NOTIFY, tls=at.profile, talk=talk
    )
    expect(fault is None, f"{fault}: {', '.join(traces[0].records)}")


@clause(Where.ONCE_TLS)
def client_gives_up_on_a_silent_server(at: Ground) -> None:
    """A handshake that does not come to its end fails after `handshake_timeout`."""
    impatient = replace(at, options=replace(at.options, handshake_timeout=0.2))
    # A server without TLS, which waits for more bytes than a handshake has.
    silent = replace(at, profile=None)
    with silent.reference_server(_swallow) as server:
        failure(at.backend, lambda: impatient.visit(server.address), "a handshake succeeded with a silent server")
        peer = server.connections[0]
    expect(peer.end is not End.NONE, "the client keeps the connection whose handshake took too long")


def _swallow(peer: Endpoint) -> None:
    peer.read_to_end()


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
def client_sets_nodelay(at: Ground) -> None:
    """TCP_NODELAY is set on the client's socket when the options say so."""

    async def main() -> int:
        connection = await at.connect(server.address)
        with own_socket(remote=server.address) as sock:
            nodelay = sock.getsockopt(IPPROTO_TCP, TCP_NODELAY)
        await connection.close()
        return nodelay

    with at.reference_server(_swallow) as server:
        expect(at.backend.run(main) != 0, "TCP_NODELAY is off")


@clause(Where.ALL)
def gather_runs_all_at_once(at: Ground) -> None:
    """`gather` runs all its jobs at once: a server that answers nobody before everybody has asked is satisfied."""
    everybody = threading.Barrier(JOBS)

    def withhold(peer: Endpoint) -> None:
        peer.read(len(PING))
        try:
            everybody.wait(at.patience / 2)
        except threading.BrokenBarrierError:
            raise BrokenContract(f"{server.peak} connections were open instead of {JOBS}") from None
        peer.send(PONG)
        peer.finish()

    replies: list[bytes] = []

    async def main() -> None:
        tls = at.client_tls()

        async def job() -> None:
            replies.append(await at.visit(server.address, tls=tls))

        await at.backend.gather(*[job] * JOBS)

    with at.reference_server(withhold) as server:
        at.backend.run(main)
    expect(replies == [PONG] * JOBS, f"{JOBS} jobs returned {replies}")
    expect(server.peak == JOBS, f"{server.peak} connections were open at once instead of {JOBS}")


class _Planned(Exception):  # noqa: N818  # it is no accident
    """The failure that a job is made to have."""


@clause(Where.ALL)
def gather_raises_the_first_failure(at: Ground) -> None:
    """The first job that fails ends the others, wherever they wait, and `gather` raises what it raised."""
    asked = threading.Semaphore(0)
    ended: list[int] = []

    def never_answer(peer: Endpoint) -> None:
        peer.read(len(PING))
        asked.release()
        peer.read_to_end()

    async def main() -> tuple[Exception | None, int]:
        tls = at.client_tls()

        async def wait() -> None:
            try:
                await at.visit(server.address, tls=tls)
            finally:
                ended.append(1)

        async def fail() -> None:
            for _ in range(JOBS):
                while not asked.acquire(blocking=False):
                    await at.backend.sleep(0.001)
            raise _Planned

        try:
            await at.backend.gather(*[wait] * JOBS, fail)
        except Exception as error:  # noqa: BLE001  # libraries wrap it, each in its own way
            return error, len(ended)
        return None, len(ended)

    with at.reference_server(never_answer) as server:
        error, count = at.backend.run(main)
    expect(error is not None, "gather swallowed a job's failure")
    raised = next(_members(error))
    expect(isinstance(raised, _Planned), f"gather raised {type(raised).__name__}, which was not the first failure")
    expect(count == JOBS, f"{JOBS - count} of {JOBS} other jobs outlived the failure")


def _members(error: BaseException | None) -> Iterator[BaseException | None]:
    """Yield what a library wrapped into groups."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _members(member)
    else:
        yield error


@clause(Where.ALL)
def client_leaves_nothing_behind(at: Ground) -> None:
    """After `run` no descriptor, thread or unclosed object is left, also of connections that failed."""
    tls = at.client_tls()
    at.backend.run(lambda: at.backend.sleep(0))

    async def fail(server: Address, *, reply_size: int | None, tls: ClientTLS | None) -> None:
        with suppress(Exception):
            await at.visit(server, reply_size=reply_size, tls=tls)

    async def main() -> None:
        async def job() -> None:
            await at.visit(server.address, tls=tls)

        await at.backend.gather(*[job] * JOBS)
        await fail(server.address, reply_size=1000, tls=tls)
        if tls is not None:
            await fail(server.address, reply_size=None, tls=replace(tls, server_name="elsewhere.invalid"))

    with nothing_left():
        with at.reference_server(pong) as server:
            address = server.address
            at.backend.run(main)
        error = failure(at.backend, lambda: at.visit(address), "connecting succeeded where nobody listens")
        expect(error.kind is Kind.RESET, f"a refused connection is told as {error}")


CLAUSES: tuple[Clause, ...] = (
    client_converses,
    client_refuses_an_unknown_authority,
    client_refuses_a_wrong_name,
    client_uses_the_given_context,
    client_connects_afresh,
    client_returns_each_reply,
    client_repeats_its_rounds,
    client_sends_everything_in_order,
    client_waits_for_the_whole_reply,
    client_reads_to_the_end,
    client_reports_an_early_end,
    client_reports_a_reset,
    client_says_goodbye,
    client_waits_for_nobody_to_close,
    client_keeps_the_close_policy,
    client_gives_up_on_a_silent_server,
    client_facts_are_true,
    client_sets_nodelay,
    gather_runs_all_at_once,
    gather_raises_the_first_failure,
    client_leaves_nothing_behind,
)
