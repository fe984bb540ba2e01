"""asyncio's streams, the API that its documentation starts with. With uvloop's loop the same code is `uvloop`.

TLS is asyncio's own sslproto (uvloop brings one of its own) over SSLObject and MemoryBIO. Both set TCP_NODELAY by
themselves. Streams report close_notify and a cut connection alike, as the end of the stream.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from loopmark.service import Then
from loopmark.spi import Accept, Address, Backend, ClientTLS, Connection, Facts, Feature, Main, Options, Server, T


class AsyncioStreams(Backend):
    """`asyncio.start_server` and `asyncio.open_connection`."""

    features = frozenset({Feature.TCP, Feature.TLS})

    def run(self, main: Main[T], /) -> T:
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            return runner.run(main())

    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        loop = asyncio.get_running_loop()
        handlers: set[asyncio.Task[None]] = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            handlers.add(task)
            service = accept(lambda: _facts(loop, writer))
            try:
                while True:
                    reply = service.receive(await reader.read(65536))
                    if reply.data:
                        writer.write(reply.data)
                        await writer.drain()
                    if reply.then is Then.CLOSE:
                        break
                writer.close()
                await writer.wait_closed()
            except (OSError, ssl.SSLError) as error:
                service.lost(error)
                writer.transport.abort()
            except asyncio.CancelledError:
                # We are leaving, and do not wait for the peer's close_notify. Older versions write a traceback for a
                # handler that ends cancelled.
                service.lost(None)
                writer.transport.abort()
            finally:
                handlers.discard(task)

        server = await asyncio.start_server(
            handle,
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
            for task in handlers:
                task.cancel()
            # Not `server.wait_closed()`: from 3.12.1 on that waits for those who never finish their handshake, too.
            await asyncio.gather(*handlers, return_exceptions=True)

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        if tls is None:
            return _Stream(*await asyncio.open_connection(address.host, address.port))
        reader, writer = await asyncio.open_connection(
            address.host,
            address.port,
            ssl=tls.context,
            server_hostname=tls.server_name,
            ssl_handshake_timeout=options.handshake_timeout,
            ssl_shutdown_timeout=options.close_timeout,
        )
        return _Stream(reader, writer)

    async def gather(self, *jobs: Main[None]) -> None:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(Connection):
    __slots__ = ("_reader", "_writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        reader, writer = self._reader, self._writer
        reply = b""
        for _ in range(rounds):
            for part in parts:
                writer.write(part)
                await writer.drain()
            reply = await (reader.read() if reply_size is None else reader.readexactly(reply_size))
        return reply

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    def facts(self) -> Facts:
        return _facts(asyncio.get_running_loop(), self._writer)


def _facts(loop: asyncio.AbstractEventLoop, writer: asyncio.StreamWriter) -> Facts:
    return Facts.read(
        loop=loop,
        transport=writer.transport,
        sock=writer.get_extra_info("socket"),
        tls=writer.get_extra_info("ssl_object"),
    )
