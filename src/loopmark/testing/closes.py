"""The contract's clauses about ends: of connections, on the wire, and of everything that a backend holds."""

import gc
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial

from loopmark.case import ClosePolicy
from loopmark.errors import Kind
from loopmark.ledger import Ledger
from loopmark.listening import read_address
from loopmark.relay import RecordingRelay
from loopmark.service import AnswerOnce, Talk
from loopmark.spi import Address, ClientTLS
from loopmark.testing.endpoint import End, Endpoint
from loopmark.testing.ground import (
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
from loopmark.wire import judge


@clause(Where.ALL)
@both_ways
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
@both_ways
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
@both_ways
def client_keeps_the_close_policy(at: Ground) -> None:
    """On the wire there are the conversation's bytes and the agreed end only, with the server's goodbye first."""
    talk = Talk(parts=(PING,), reply=PONG, reply_size=None)
    with at.reference_server(pong) as server, RecordingRelay(server.address) as relay:
        at.backend.run(lambda: at.visit(relay.address))
        traces = relay.traces(at.patience)
    expect(len(traces) == 1, f"the relay saw {len(traces)} connections instead of 1")
    fault = judge(
        traces[0],
        ClosePolicy.FIN if at.profile is None else ClosePolicy.BOTH_NOTIFY,
        tls=at.profile,
        talk=talk,
        go_ahead=at.options.go_ahead,
    )
    expect(fault is None, f"{fault}: {', '.join(traces[0].records)}")


@clause(Where.ALL)
def server_keeps_the_close_policy(at: Ground) -> None:
    """On the wire there are the conversation's bytes and the agreed end only, with the server's goodbye first."""
    talk = Talk(parts=(PING,), reply=PONG, reply_size=None)

    def work(address: Address, _: Ledger) -> None:
        with RecordingRelay(address) as relay, calling() as clients:
            client = at.dial(relay.address)
            clients.append(client)
            client.send(PING)
            client.read_to_end()
            wanted = End.CLOSE_NOTIFY if at.profile else End.FIN
            expect(client.end is wanted, f"the server ended its stream with {client.end} instead of {wanted}")
            client.complete()
            expect(client.closed, "the server left its socket open")
            client.close()
            traces = relay.traces(at.patience)
        expect(len(traces) == 1, f"the relay saw {len(traces)} connections instead of 1")
        policy = ClosePolicy.FIN if at.profile is None else ClosePolicy.BOTH_NOTIFY
        fault = judge(traces[0], policy, tls=at.profile, talk=talk, go_ahead=at.options.go_ahead)
        expect(fault is None, f"{fault}: {', '.join(traces[0].records)}")

    at.serve(work)


@clause(Where.ALL)
@both_ways
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


@clause(Where.ALL)
def server_leaves_at_once(at: Ground) -> None:
    """Leaving the context waits for nobody: not for idle peers, and not for one that is in its handshake."""
    # asyncio before 3.13 and uvloop give nobody a hold on a connection in its handshake, so that one is not closed.
    with warnings.catch_warnings(), calling() as clients:
        warnings.simplefilter("ignore", ResourceWarning)
        at.serve(lambda address, ledger: _occupy(at, address, ledger, clients, in_handshake=1))
        gc.collect()
        for client in clients[:_IDLE]:
            client.read_to_end()
            expect(client.end is not End.NONE, "a connection outlives the server")


@clause(Where.ALL)
def server_leaves_as_somebody_comes(at: Ground) -> None:
    """Leaving the context does not wait for a peer either that connects just then, at whichever turn of a loop."""
    with _unheard(), ExitStack() as peers:
        for turns in range(_TURNS):
            at.backend.run(partial(_leave_as_somebody_comes, at, peers, turns))


@contextmanager
def _unheard() -> Iterator[None]:
    """Let nobody hear of the sockets that some libraries lose when they are accepted at that very moment."""
    hook = sys.unraisablehook
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        # asyncio's transport looks for its server in `__del__`, and raises when that is gone.
        sys.unraisablehook = lambda _: None
        try:
            yield
            gc.collect()
        finally:
            sys.unraisablehook = hook


async def _leave_as_somebody_comes(at: Ground, peers: ExitStack, turns: int) -> None:
    ledger, address = Ledger(lambda: AnswerOnce(PING, PONG)), Address(at.host, 0)
    async with at.backend.serve(ledger.accept, address, tls=at.server_context(), options=at.options) as server:
        address = read_address(server)
        # Somebody idle, for whom there is something to do on leaving.
        dialling = threading.Thread(target=lambda: peers.callback(at.dial(address).close))
        dialling.start()
        while dialling.is_alive() or not ledger.counts().open:
            await at.backend.sleep(0.001)
        # The kernel makes the connection: nobody has to accept it.
        peers.enter_context(socket.create_connection(address, timeout=at.patience))
        for _ in range(turns):
            await at.backend.sleep(0)


_TURNS = 8
"""More than a loop takes from a connection that the kernel has to one that the backend knows."""


@clause(Where.ALL)
def server_leaves_nothing_behind(at: Ground) -> None:
    """After leaving the context with idle connections no descriptor, thread or unclosed object is left."""
    at.backend.run(lambda: at.backend.sleep(0))
    with nothing_left(), calling() as clients:
        address = at.serve(lambda address, ledger: _occupy(at, address, ledger, clients, in_handshake=0))
        with suppress(OSError):
            dial(address, patience=at.patience).close()
            raise BrokenContract("the port outlives the server")
        for client in clients:
            client.close()


_IDLE = 4


def _occupy(at: Ground, address: Address, ledger: Ledger, clients: list[Endpoint], *, in_handshake: int) -> Address:
    """Leave connections open in every state."""
    tls = at.client_tls()
    clients.extend(at.dial(address, tls) for _ in range(_IDLE))
    at.settle(ledger, _IDLE)
    clients[0].send(PING[:2])
    if at.profile is not None:
        clients.extend(dial(address, patience=at.patience) for _ in range(in_handshake))
    return address


CLAUSES: tuple[Clause, ...] = (
    client_says_goodbye,
    client_waits_for_nobody_to_close,
    client_keeps_the_close_policy,
    server_keeps_the_close_policy,
    client_leaves_nothing_behind,
    server_leaves_at_once,
    server_leaves_as_somebody_comes,
    server_leaves_nothing_behind,
)
