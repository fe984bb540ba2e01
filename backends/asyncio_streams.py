"""asyncio's streams, the API that its documentation starts with. With uvloop's loop the same code is `uvloop`.

TLS is asyncio's own sslproto (uvloop brings one of its own) over SSLObject and MemoryBIO. Both set TCP_NODELAY by
themselves. Streams report close_notify and a cut connection alike, as the end of the stream.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from loopmark.service import CLOSE, PIECE, File
from loopmark.spi import Accept, Address, ClientTLS, Connection, Facts, Feature, Options, Server, require_go_ahead

from .asyncio_base import AsyncioBase, told_once


class AsyncioStreams(AsyncioBase):
    """`asyncio.start_server` and `asyncio.open_connection`; names are looked up with `loop.getaddrinfo`."""

    api = frozenset(
        {
            *(Feature.TCP, Feature.TLS, Feature.START_TLS, Feature.HALF_CLOSE),
            *(Feature.FILES, Feature.SENDFILE, Feature.RESOLVER, Feature.LIMITER),
        }
    )
    wants: ClassVar = {Feature.SENDFILE: "sendfile"}

    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        loop = asyncio.get_running_loop()
        at_once, upgrading = (None, tls) if options.go_ahead else (tls, None)
        handlers: set[asyncio.Task[None]] = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            handlers.add(task)
            service = accept(lambda: _facts(loop, writer))
            try:
                if upgrading is not None:
                    # Nothing is awaited in between: the client's first record must find the TLS layer there.
                    writer.write(options.go_ahead)
                    await writer.start_tls(upgrading, ssl_handshake_timeout=options.handshake_timeout)
                while True:
                    reply = service.receive(await reader.read(service.at_a_time or 65536))
                    if reply.data:
                        writer.write(reply.data)
                        await writer.drain()
                    if reply.file is not None:
                        await _send_file(loop, writer, reply.file)
                        service.sent()
                    if reply.then is CLOSE:
                        break
                writer.close()
                if upgrading is not None:
                    # `StreamWriter.start_tls` takes a deadline for this from Python 3.12 on only.
                    async with asyncio.timeout(options.close_timeout):
                        await writer.wait_closed()
                else:
                    await writer.wait_closed()
            # RuntimeError is how a loop refuses sendfile.
            except (OSError, RuntimeError) as error:
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
            ssl=at_once,
            # Also the number of connections that asyncio accepts per wake-up.
            backlog=options.backlog,
            ssl_handshake_timeout=options.handshake_timeout if at_once else None,
            ssl_shutdown_timeout=options.close_timeout if at_once else None,
        )
        try:
            with told_once():
                yield Server(listeners=tuple(server.sockets))
        finally:
            server.close()
            for task in handlers:
                task.cancel()
            # Not `server.wait_closed()`: from 3.12.1 on that waits for those who never finish their handshake, too.
            await asyncio.gather(*handlers, return_exceptions=True)

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        if tls is not None and options.go_ahead:
            return await _upgraded(address, tls, options)
        return _Stream(*await _dial(address, tls, options))

    async def ask(
        self, address: Address, request: bytes, at_a_time: int, *, tls: ClientTLS | None, options: Options
    ) -> bytes:
        if options.go_ahead:
            return await super().ask(address, request, at_a_time, tls=tls, options=options)
        reader, writer = await _dial(address, tls, options)
        try:
            writer.write(request)
            await writer.drain()
            reply = await reader.read()
            writer.close()
            await writer.wait_closed()
        except BaseException:
            # Closing would wait for the peer's close_notify.
            writer.transport.abort()
            raise
        return reply

    async def resolve(self, host: str, port: int, family: socket.AddressFamily) -> list[Address]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        return [Address(*entry[4][:2]) for entry in found]


def _dial(
    address: Address, tls: ClientTLS | None, options: Options
) -> Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    source = (options.source, 0) if options.source else None
    if tls is None:
        return asyncio.open_connection(address.host, address.port, local_addr=source)
    return asyncio.open_connection(
        address.host,
        address.port,
        ssl=tls.context,
        server_hostname=tls.server_name,
        ssl_handshake_timeout=options.handshake_timeout,
        ssl_shutdown_timeout=options.close_timeout,
        local_addr=source,
    )


async def _upgraded(address: Address, tls: ClientTLS, options: Options) -> Connection:
    source = (options.source, 0) if options.source else None
    reader, writer = await asyncio.open_connection(address.host, address.port, local_addr=source)
    try:
        async with asyncio.timeout(options.handshake_timeout):
            require_go_ahead(options, await reader.readexactly(len(options.go_ahead)))
            # Its default would be in the way of a longer one.
            patience = options.handshake_timeout
            await writer.start_tls(tls.context, server_hostname=tls.server_name, ssl_handshake_timeout=patience)
    except BaseException:
        writer.transport.abort()
        raise
    return _Stream(reader, writer)


async def _send_file(loop: asyncio.AbstractEventLoop, writer: asyncio.StreamWriter, file: File) -> None:
    # As asyncio has no files of its own, reading one blocks, for all contenders alike.
    with open(file.path, "rb") as stream:  # noqa: ASYNC230, PTH123  # see above; the fastest of equal ways
        if file.zero_copy:
            sent = await loop.sendfile(writer.transport, stream, 0, file.size, fallback=False)
        else:
            secure = writer.get_extra_info("sslcontext") is not None
            sent = 0
            while sent < file.size and (piece := stream.read(min(PIECE, file.size - sent))):
                writer.write(piece)
                await writer.drain()
                if secure:
                    # A TLS transport does not say that it is closing: `drain` hears of a loss only after others ran.
                    await asyncio.sleep(0)
                sent += len(piece)
    file.expect(sent)


class _Stream(Connection):
    __slots__ = ("_reader", "_writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        reader, writer = self._reader, self._writer
        reply = b""
        try:
            for _ in range(rounds):
                for part in parts:
                    if part:
                        writer.write(part)
                        await writer.drain()
                    else:
                        writer.write_eof()
                reply = await (reader.read() if reply_size is None else reader.readexactly(reply_size))
        except BaseException:
            # Closing would wait for the peer's close_notify.
            writer.transport.abort()
            raise
        return reply

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except asyncio.CancelledError:
            self._writer.transport.abort()
            raise

    def facts(self) -> Facts:
        return _facts(asyncio.get_running_loop(), self._writer)


def _facts(loop: asyncio.AbstractEventLoop, writer: asyncio.StreamWriter) -> Facts:
    return Facts.read(
        loop=loop,
        transport=writer.transport,
        sock=writer.get_extra_info("socket"),
        tls=writer.get_extra_info("ssl_object"),
    )
