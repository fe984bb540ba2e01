"""Tells every event of every connection, with the peer's address: for people who watch two windows, never for numbers.

Nothing of it is in a backend. The server's side is a service around the real one, the client's a backend around the
real one; both see exactly what passes between the core and the library, and no more. So an event is told when the
library has told it: `sends` is what is handed to it, and a handshake that fails inside asyncio is heard of by nobody.
"""

import logging
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import Any

from loopmark.errors import translate
from loopmark.service import Reply, Service, Then
from loopmark.spi import (
    Accept,
    Address,
    Backend,
    ClientTLS,
    Connection,
    Facts,
    Limiter,
    Main,
    Options,
    Server,
    T,
)

SHOWN = 40
"""Bytes of a message that are shown."""

_log = logging.getLogger(__name__)


def start() -> None:
    """Write events to standard error, each with its time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False


def telling(accept: Accept) -> Accept:
    """Tell the events of a server's connections."""
    return lambda facts: _TellingService(accept(facts), facts)


class _TellingService(Service):
    def __init__(self, service: Service, facts: Callable[[], Facts]) -> None:
        self._service = service
        self._facts = facts
        self._peer: str | None = None
        self._closing = False
        self._meet()

    def receive(self, data: bytes, /) -> Reply:
        self._meet()
        self._tell(f"received {_shown(data)}" if data else "received the end of the stream")
        was_over = self._over
        reply = self._service.receive(data)
        if self._over and not was_over:
            failure = self._service.failure
            self._tell("message terminated" if failure is None else f"refused: {failure}")
        if reply.data:
            self._tell(f"sends {_shown(reply.data)}")
        if reply.file is not None:
            self._tell(f"sends a file of {reply.file.size} bytes")
        # A protocol hears the peer's own end after that, and answers once more.
        if reply.then is Then.CLOSE and not self._closing:
            self._closing = True
            self._tell("closing")
        return reply

    def sent(self) -> None:
        was_over = self._over
        self._service.sent()
        self._tell("the file was sent")
        if self._over and not was_over:
            self._tell("message terminated")

    def lost(self, error: BaseException | None, /) -> None:
        self._meet()
        if error is not None:
            self._tell(f"lost: {translate(error)}")
        elif not self._over:
            self._tell("lost")
        self._service.lost(error)

    @property
    def _over(self) -> bool:
        """Whether the conversation has ended; the ledger is told only then."""
        return self._service.tally is None

    def _meet(self) -> None:
        """Tell of the connection as soon as its peer is known: not all libraries know before the handshake."""
        if self._peer is not None:
            return
        try:
            self._peer = self._facts().peer
        except Exception:  # noqa: BLE001  # any library's own, for a connection that is not ready or is gone
            return
        if self._peer is not None:
            self._tell("connection accepted")

    def _tell(self, event: str) -> None:
        _log.info("%s: %s", self._peer or "a peer that is gone", event)


class TellingBackend(Backend):
    """A contender that is watched while it plays the client."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.loop_factory)
        self._backend = backend
        self.features = backend.features
        self._numbers = count(1)

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        """Connect, and tell to whom and how."""
        # Many may lead to one address.
        name = f"{address} #{next(self._numbers)}"
        _log.info("%s: connecting", name)
        try:
            connection = await self._backend.connect(address, tls=tls, options=options)
        except Exception as error:
            _log.info("%s: not connected: %s", name, translate(error))
            raise
        facts = connection.facts()
        _log.info("%s: connected, %s", name, ", ".join(filter(None, (facts.tls_version, facts.cipher))) or "no TLS")
        return _TellingConnection(connection, name)

    def run(self, main: Main[T], /) -> T:
        """Run on the contender's loop."""
        return self._backend.run(main)

    def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AbstractAsyncContextManager[Server]:
        """Serve, and tell what happens to every connection."""
        return self._backend.serve(telling(accept), address, tls=tls, options=options)

    async def gather(self, *jobs: Main[None]) -> None:
        """Run all jobs at once."""
        await self._backend.gather(*jobs)

    async def sleep(self, seconds: float) -> None:
        """Let everything else run."""
        await self._backend.sleep(seconds)

    async def within(self, seconds: float, job: Main[T]) -> T:
        """Run a job under a deadline."""
        return await self._backend.within(seconds, job)

    def limiter(self, slots: int, /) -> Limiter:
        """Make the library's semaphore."""
        return self._backend.limiter(slots)


class _TellingConnection(Connection):
    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        try:
            reply = await self._connection.exchange(_Told(parts, self._tell), reply_size, rounds)
        except Exception as error:
            self._tell(f"failed: {translate(error)}")
            raise
        self._tell(f"received {_shown(reply)}" + (", to the end of the stream" if reply_size is None else ""))
        return reply

    async def close(self) -> None:
        self._tell("closing")
        await self._connection.close()
        self._tell("closed")

    def facts(self) -> Facts:
        return self._connection.facts()

    def _tell(self, event: str) -> None:
        _log.info("%s: %s", self._name, event)


class _Told(Sequence[bytes]):
    """Parts of a message, each told when a backend takes it in order to send it."""

    def __init__(self, parts: Sequence[bytes], tell: Callable[[str], None]) -> None:
        self._parts = parts
        self._tell = tell

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            self._tell(f"sends {_shown(part)}" if part else "ends its stream")
            yield part

    def __getitem__(self, index: Any) -> Any:
        return self._parts[index]

    def __len__(self) -> int:
        return len(self._parts)


def _shown(data: bytes) -> str:
    """Tell the size of a message and how it begins."""
    more = "..." if len(data) > SHOWN else ""
    return f"{len(data)} byte{'' if len(data) == 1 else 's'}: {data[:SHOWN]!r}{more}"
