"""anyio's streams, on an asyncio-compatible loop or on trio.

TLS is anyio's own Python over SSLObject and MemoryBIO, on any back end: asyncio's or uvloop's sslproto is never used.
`standard_compatible=True` is its default and means that close_notify is sent, and awaited on closing: the client has
the server's by then, and the server waits for the client's without anybody waiting for the server.
"""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute, TLSListener, TLSStream

from loopmark.service import Then
from loopmark.spi import Accept, Address, Backend, ClientTLS, Connection, Facts, Feature, Main, Options, Server, T

# ssl.SSLError escapes `receive()` where a record is corrupt.
_LOST = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError, OSError)


class _AnyioStreams(Backend):
    """A task per connection in a task group."""

    features = frozenset({Feature.TCP, Feature.TLS})

    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        loop = self._loop()

        async def handle(stream: ByteStream) -> None:
            service = accept(lambda: _facts(loop, stream))
            try:
                while True:
                    try:
                        data = await stream.receive()
                    except anyio.EndOfStream:
                        data = b""
                    reply = service.receive(data)
                    if reply.data:
                        await stream.send(reply.data)
                    if reply.then is Then.CLOSE:
                        break
                if tls is None:
                    await stream.aclose()
                else:
                    # Without a deadline a peer that never answers close_notify would be held for ever.
                    with anyio.fail_after(options.close_timeout):
                        await stream.aclose()
            except BaseException as error:
                await anyio.aclose_forcefully(stream)
                if not isinstance(error, _LOST):
                    raise
                service.lost(error)

        listener = await anyio.create_tcp_listener(
            local_host=address.host, local_port=address.port, backlog=options.backlog
        )
        sockets = tuple(each.extra(SocketAttribute.raw_socket) for each in listener.listeners)
        async with anyio.create_task_group() as group:
            if tls is None:
                group.start_soon(listener.serve, handle)
            else:
                quiet = _QuietTLSListener(listener, tls, handshake_timeout=options.handshake_timeout)
                group.start_soon(quiet.serve, handle)
            yield Server(listeners=sockets)
            group.cancel_scope.cancel()
        await listener.aclose()

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        if tls is None:
            return _Stream(self._loop(), await anyio.connect_tcp(address.host, address.port))
        with anyio.fail_after(options.handshake_timeout):
            stream = await anyio.connect_tcp(
                address.host, address.port, ssl_context=tls.context, tls_hostname=tls.server_name
            )
        return _Stream(self._loop(), stream)

    async def gather(self, *jobs: Main[None]) -> None:
        async with anyio.create_task_group() as group:
            for job in jobs:
                group.start_soon(job)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def _loop(self) -> object:
        raise NotImplementedError


class AnyioOnLoop(_AnyioStreams):
    """anyio over an asyncio-compatible loop."""

    distributions = ("anyio",)

    def run(self, main: Main[T], /) -> T:
        return anyio.run(main, backend="asyncio", backend_options={"loop_factory": self.loop_factory})

    def _loop(self) -> object:
        import asyncio  # noqa: PLC0415  # anyio on trio does without

        return asyncio.get_running_loop()


class AnyioOnTrio(_AnyioStreams):
    """anyio over trio."""

    distributions = ("anyio", "trio")

    def run(self, main: Main[T], /) -> T:
        return anyio.run(main, backend="trio")

    def _loop(self) -> object:
        return "trio"


class _QuietTLSListener(TLSListener):
    """Drops a connection whose handshake fails without writing a traceback for each."""

    @staticmethod
    async def handle_handshake_error(exc: BaseException, stream: Any) -> None:
        await anyio.aclose_forcefully(stream)
        # What is no Exception is a cancellation, which must go on.
        if not isinstance(exc, Exception):
            raise exc


class _Stream(Connection):
    __slots__ = ("_loop", "_stream")

    def __init__(self, loop: object, stream: SocketStream | TLSStream) -> None:
        self._loop = loop
        self._stream = stream

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        stream = self._stream
        reply = b""
        for _ in range(rounds):
            for part in parts:
                await stream.send(part)
            reply = b""
            try:
                while reply_size is None or len(reply) < reply_size:
                    reply += await stream.receive(65536 if reply_size is None else reply_size - len(reply))
            except anyio.EndOfStream:
                if reply_size is not None:
                    raise
        return reply

    async def close(self) -> None:
        await self._stream.aclose()

    def facts(self) -> Facts:
        return _facts(self._loop, self._stream)


def _facts(loop: object, stream: ByteStream) -> Facts:
    return Facts.read(
        loop=loop,
        transport=stream,
        sock=stream.extra(SocketAttribute.raw_socket),
        tls=stream.extra(TLSAttribute.ssl_object, None),
    )
