"""asyncio's transports and protocols: callbacks instead of coroutines on the connection itself.

TLS as in `asyncio_streams`, but not the same wire trace: the last handshake flight and the first data can leave in one
segment, because nobody has to be woken up in between.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from loopmark.service import Service, Then
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
        connections: set[asyncio.Transport] = set()
        server = await loop.create_server(
            partial(_ServerSide, accept, loop, connections),
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
            for transport in tuple(connections):
                transport.abort()
            # Not `server.wait_closed()`: from 3.12.1 on that waits for those who never finish their handshake, too.
            while connections:  # noqa: ASYNC110  # an event would cost each connection something
                await asyncio.sleep(0)

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(
            partial(_ClientSide, loop),
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
    __slots__ = ("_accept", "_connections", "_loop", "_service", "_transport")
    _service: Service
    _transport: asyncio.Transport

    def __init__(self, accept: Accept, loop: asyncio.AbstractEventLoop, connections: set[asyncio.Transport]) -> None:
        self._accept = accept
        self._loop = loop
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Only now, because a protocol whose handshake fails hears of nothing, not even of the loss.
        self._transport = transport  # type: ignore[assignment]  # a Transport, as for every Protocol
        self._service = self._accept(self._facts)
        self._connections.add(self._transport)

    def data_received(self, data: bytes) -> None:
        reply = self._service.receive(data)
        if reply.data:
            self._transport.write(reply.data)
        if reply.then is Then.CLOSE:
            self._transport.close()

    def eof_received(self) -> None:
        self.data_received(b"")

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self._transport)
        self._service.lost(error)

    def _facts(self) -> Facts:
        return _facts(self._loop, self._transport)


class _ClientSide(asyncio.Protocol, Connection):
    __slots__ = ("_closed", "_ended", "_error", "_loop", "_lost", "_received", "_reply", "_size", "_transport")
    _transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received = b""
        self._size = 0
        self._ended = self._lost = False
        self._error: Exception | None = None
        self._reply: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a Transport, as for every Protocol

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._reply is not None:
            self._wake_up()

    def eof_received(self) -> None:
        self._ended = True
        if self._reply is not None:
            self._wake_up()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = self._lost = True
        self._error = error
        if self._reply is not None:
            self._wake_up()
        if not self._closed.done():
            self._closed.set_result(None)

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        reply = b""
        for _ in range(rounds):
            for part in parts:
                self._transport.write(part)
            if reply_size is None:
                reply = await self._rest()
            else:
                reply = await self._next(reply_size)
        return reply

    async def _rest(self) -> bytes:
        # The transport closes itself at the end of the stream, as `eof_received` does not ask it to stay open.
        await self._closed
        if self._error is not None:
            raise self._error
        return self._received

    async def _next(self, size: int) -> bytes:
        if len(self._received) < size and not self._ended:
            self._size, self._reply = size, self._loop.create_future()
            await self._reply
        if self._error is not None:
            raise self._error
        if len(self._received) < size:
            raise EOFError(f"{len(self._received)} of {size} bytes, then the end of the stream")
        reply, self._received = self._received[:size], self._received[size:]
        return reply

    def _wake_up(self) -> None:
        """End the wait for the next reply, if what is there decides the matter."""
        assert self._reply is not None
        if (self._ended or len(self._received) >= self._size) and not self._reply.done():
            self._reply.set_result(None)

    async def close(self) -> None:
        if self._lost:
            return
        self._transport.close()
        if self._closed.cancelled():
            # Together with an exchange that waited for it.
            self._closed = self._loop.create_future()
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
