"""The contract's clause about `Backend.features`: each is tried out, whatever the backend says of it."""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import socket
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from loopmark.ledger import Ledger
from loopmark.listening import read_address
from loopmark.service import File
from loopmark.spi import Address, Feature, Main, T, TLSProfile
from loopmark.testing.endpoint import End, Endpoint
from loopmark.testing.files import SendsAFile
from loopmark.testing.ground import PING, PONG, Clause, Ground, Where, clause, expect, pong
from loopmark.testing.peers import ReferenceServer

_WORKS, _REFUSED, _IGNORED = "works", "is refused", "does something else"

_USUAL_REFUSAL = "raise an exception, as the method of Backend does"
_REFUSALS = {
    Feature.START_TLS: "with options.go_ahead raise an exception",
    Feature.HALF_CLOSE: "at an empty part raise an exception",
    Feature.FILES: "where a reply has a file give service.lost() an exception, and drop the connection",
    Feature.SENDFILE: "where a reply has a file with zero_copy, too, give service.lost() an exception",
}
"""What somebody has to write who has not got a feature."""


@clause(Where.UNASKED)
def features_are_honest(at: Ground) -> None:
    """What the backend declares works, and what it does not declare is refused with an exception."""
    # Half the patience, because a client in the clear and a server with TLS wait for each other.
    at = replace(at, patience=at.patience / 2)
    for feature in Feature:
        declared = feature in at.backend.features
        wanted = _WORKS if declared else _REFUSED
        for name, attempt in _ATTEMPTS[feature].items():
            found = attempt(at)
            told = f"{feature} is {'declared' if declared else 'not declared'}, and {name} {found}"
            expect(found == wanted, told if declared else f"{told}: {_REFUSALS.get(feature, _USUAL_REFUSAL)}")


def _connects(at: Ground) -> str:
    context, go_ahead = at.server_context(), at.options.go_ahead
    with ReferenceServer(pong, context=context, go_ahead=go_ahead, patience=at.patience) as server:
        if _run(at, lambda: at.visit(server.address)) is None:
            return _REFUSED
    return _WORKS if server.connections and server.connections[0].received == PING else _IGNORED


def _serves(at: Ground) -> str:
    def visit(address: Address, _: Ledger) -> str:
        try:
            reply = at.call(address)
        except (OSError, EOFError):
            return _IGNORED
        return _WORKS if reply == PONG else _IGNORED

    return _tried(lambda: at.serve(visit)) or _REFUSED


def _half_closes(at: Ground) -> str:
    ends: list[End] = []

    def answer_the_end(peer: Endpoint) -> None:
        peer.read_to_end()
        ends.append(peer.end)
        if peer.end is End.FIN:
            peer.send(PONG)

    with ReferenceServer(answer_the_end, patience=at.patience) as server:
        reply = _run(at, lambda: at.visit(server.address, parts=(PING, b"")))
    if reply is None:
        return _REFUSED
    return _WORKS if (reply, ends) == (PONG, [End.FIN]) else _IGNORED


def _sends_a_file(at: Ground, *, zero_copy: bool) -> str:
    """Ask a server for a file: one who cannot send it drops the connection and tells of a fault."""

    def visit(address: Address, ledger: Ledger) -> str:
        reply = at.call(address)
        if reply == content:
            return _WORKS
        at.await_counts(ledger, lambda now: bool(now.faults), "a fault")
        return _IGNORED if reply else _REFUSED

    content = b"0123456789" * 100
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "file")
        path.write_bytes(content)
        file = File(str(path), len(content), zero_copy)
        return _tried(lambda: at.serve(visit, service=lambda: SendsAFile(file, told=[]))) or _IGNORED


def _exchanges_datagrams(at: Ground) -> str:
    """Have the backend talk to itself: some loops can do one half only, which is of no use."""
    backend = at.backend

    async def main() -> bytes:
        async with backend.serve_datagrams(lambda data: data, lambda _: None, Address(at.host, 0)) as server:
            client = await backend.open_datagrams(read_address(server))
            try:
                return await client.exchange(PING, at.patience) or b""
            finally:
                await client.close()

    reply = _run(at, main)
    return _REFUSED if reply is None else _WORKS if reply == PING else _IGNORED


def _resolves(at: Ground) -> str:
    found = _run(at, lambda: at.backend.resolve("127.0.0.1", 80, socket.AF_INET))
    return _REFUSED if found is None else _WORKS if found == [Address("127.0.0.1", 80)] else _IGNORED


def _limits(at: Ground) -> str:
    async def main() -> str:
        limiter = at.backend.limiter(1)
        await limiter.acquire()
        limiter.release()
        return _WORKS

    return _run(at, main) or _REFUSED


def _run(at: Ground, main: Main[T]) -> T | None:
    """Run it with the backend; None when that raises."""
    return _tried(lambda: at.backend.run(main))


def _tried(attempt: Callable[[], T]) -> T | None:
    try:
        return attempt()
    except Exception:  # noqa: BLE001  # how it is refused is the backend's own affair
        return None


def _secured(attempt: Callable[[Ground], str]) -> Callable[[Ground], str]:
    return lambda at: attempt(replace(at, profile=TLSProfile()))


def _upgraded(attempt: Callable[[Ground], str]) -> Callable[[Ground], str]:
    return lambda at: attempt(replace(at, profile=TLSProfile()).upgraded())


_ATTEMPTS: dict[Feature, dict[str, Callable[[Ground], str]]] = {
    Feature.TCP: {"connect": _connects, "serve": _serves},
    Feature.TLS: {"connect": _secured(_connects), "serve": _secured(_serves)},
    Feature.START_TLS: {"connect": _upgraded(_connects), "serve": _upgraded(_serves)},
    Feature.HALF_CLOSE: {"exchange": _half_closes},
    Feature.FILES: {"serve": lambda at: _sends_a_file(at, zero_copy=False)},
    Feature.SENDFILE: {"serve": lambda at: _sends_a_file(at, zero_copy=True)},
    Feature.DATAGRAMS: {"an echo": _exchanges_datagrams},
    Feature.RESOLVER: {"resolve": _resolves},
    Feature.LIMITER: {"limiter": _limits},
}

CLAUSES: tuple[Clause, ...] = (features_are_honest,)
