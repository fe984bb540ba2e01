"""asyncio's transports and protocols: callbacks instead of coroutines on the connection itself.

TLS as in `asyncio_streams`, but not the same wire trace: the last handshake flight and the first data can leave in one
segment, because nobody has to be woken up in between.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from loopmark.service import Session, Then
from loopmark.spi import Accept, Address, Backend, ClientTLS, Connection, Facts, Feature, Main, Options, Server, T


class AsyncioProtocol(Backend):
    """`loop.create_server` and `loop.create_connection`."""

    features = frozenset({Feature.TCP, Feature.TLS})

    def run(self, main: Main[T], /) -> T:
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            return runner.run(main())

    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        loop = asyncio.get_running_loop()
        connections: set[_ServerSide] = set()
        server = await loop.create_server(
            lambda: _ServerSide(accept, loop, connections),
            address.host,
            address.port,
            ssl=tls,
            # Also the number of connections that asyncio accepts per wake-up.
            backlog=options.backlog,
            ssl_handshake_timeout=options.handshake_timeout if tls else None,
            ssl_shutdown_timeout=options.close_timeout if tls else None,
        )
        try:
            yield Server(listeners=tuple(server.sockets))
        finally:
            server.close()
            gone = [connection.abort() for connection in connections]
            # Not `server.wait_closed()`: from 3.12.1 on that waits for those who never finish their handshake, too.
            await asyncio.gather(*gone)

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(
            lambda: _ClientSide(loop),
            address.host,
            address.port,
            ssl=tls.context if tls else None,
            server_hostname=tls.server_name if tls else None,
            ssl_handshake_timeout=options.handshake_timeout if tls else None,
            ssl_shutdown_timeout=options.close_timeout if tls else None,
        )
        return protocol

    async def gather(self, *jobs: Main[None]) -> None:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _ServerSide(asyncio.Protocol):
    _transport: asyncio.Transport
    _session: Session

    def __init__(self, accept: Accept, loop: asyncio.AbstractEventLoop, connections: "set[_ServerSide]") -> None:
        self._accept = accept
        self._loop = loop
        self._connections = connections
        self._gone: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Only now, because a protocol whose handshake fails hears of nothing, not even of the loss.
        self._transport = transport  # type: ignore[assignment]  # a Transport, as for every Protocol
        self._session = self._accept(lambda: _facts(self._loop, self._transport))
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        reply = self._session.receive(data)
        if reply.data:
            self._transport.write(reply.data)
        if reply.then is Then.CLOSE:
            self._transport.close()

    def eof_received(self) -> None:
        self.data_received(b"")

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        self._session.lost(error)
        if self._gone is not None:
            self._gone.set_result(None)

    def abort(self) -> asyncio.Future[None]:
        self._gone = self._loop.create_future()
        self._transport.abort()
        return self._gone


class _ClientSide(asyncio.Protocol, Connection):
    _transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received = bytearray()
        self._wanted: int | None = None
        self._ended = False
        self._error: Exception | None = None
        self._reply: asyncio.Future[bytes] | None = None
        self._closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a Transport, as for every Protocol

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._deliver()

    def eof_received(self) -> None:
        self._ended = True
        self._deliver()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended, self._error = True, error
        self._deliver()
        if not self._closed.done():
            self._closed.set_result(None)

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        reply = b""
        self._wanted = reply_size
        for _ in range(rounds):
            for part in parts:
                self._transport.write(part)
            self._reply = self._loop.create_future()
            self._deliver()
            reply = await self._reply
        return reply

    def _deliver(self) -> None:
        """Answer the one who waits, if what is there decides the matter."""
        waiter, size = self._reply, self._wanted
        if waiter is None or waiter.done():
            return
        if size is not None and len(self._received) >= size:
            waiter.set_result(bytes(self._received[:size]))
            del self._received[:size]
        elif self._error is not None:
            waiter.set_exception(self._error)
        elif self._ended and size is None:
            waiter.set_result(bytes(self._received))
        elif self._ended:
            waiter.set_exception(EOFError(f"{len(self._received)} of {size} bytes, then the end of the stream"))

    async def close(self) -> None:
        self._transport.close()
        await self._closed

    def facts(self) -> Facts:
        return _facts(self._loop, self._transport)


def _facts(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> Facts:
    return Facts.read(
        loop=loop,
        transport=transport,
        sock=transport.get_extra_info("socket"),
        tls=transport.get_extra_info("ssl_object"),
    )
