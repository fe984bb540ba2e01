"""anyio's streams, on an asyncio-compatible loop or on trio.

TLS is anyio's own Python over SSLObject and MemoryBIO, on any back end: asyncio's or uvloop's sslproto is never used.
`standard_compatible=True` is its default and means that close_notify is sent, and awaited on closing: the client has
the server's by then, and the server waits for the client's without anybody waiting for the server.
"""

import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from anyio.abc import ByteStream, ConnectedUDPSocket, Listener, SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute, TLSListener, TLSStream

from loopmark.service import CLOSE, PIECE, File
from loopmark.spi import (
    Accept,
    Address,
    Answer,
    Backend,
    ClientTLS,
    Connection,
    Datagrams,
    Facts,
    Feature,
    Limiter,
    Main,
    Options,
    Server,
    T,
    require_go_ahead,
)

# ssl.SSLError escapes `receive()` where a record is corrupt; NotImplementedError is ours.
_LOST = (
    *(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError),
    *(ssl.SSLError, OSError, NotImplementedError),
)

_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class _AnyioStreams(Backend):
    """A task per connection in a task group."""

    features = frozenset(
        {
            *(Feature.TCP, Feature.TLS, Feature.START_TLS, Feature.HALF_CLOSE, Feature.FILES),
            *(Feature.DATAGRAMS, Feature.RESOLVER, Feature.LIMITER),
        }
    )

    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        loop = self._loop()

        async def upgrade(plain: SocketStream) -> None:
            try:
                await plain.send(options.go_ahead)
                with anyio.fail_after(options.handshake_timeout):
                    stream = await TLSStream.wrap(plain, server_side=True, ssl_context=tls)
            except BaseException as error:
                await anyio.aclose_forcefully(plain)
                if not isinstance(error, _LOST):
                    raise
                accept(lambda: _facts(loop, plain)).lost(error)
            else:
                await handle(stream)

        async def handle(stream: ByteStream) -> None:
            service = accept(lambda: _facts(loop, stream))
            try:
                while True:
                    try:
                        data = await stream.receive(service.at_a_time or 65536)
                    except anyio.EndOfStream:
                        data = b""
                    reply = service.receive(data)
                    if reply.data:
                        await stream.send(reply.data)
                    if reply.file is not None:
                        await _send_file(stream, reply.file)
                        service.sent()
                    if reply.then is CLOSE:
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

        async def accept_forever(listener: Listener[Any], handler: Callable[[Any], Any]) -> None:
            while True:
                try:
                    # With a group of its own it would take all connections with it when accepting fails.
                    await listener.serve(handler, group)
                except (OSError, anyio.BrokenResourceError) as error:
                    if not _will_pass(error):
                        raise
                    # Out of descriptors, say: those who end give some back.
                    await anyio.sleep(0.1)

        listener = await anyio.create_tcp_listener(
            local_host=address.host, local_port=address.port, backlog=options.backlog
        )
        sockets = tuple(each.extra(SocketAttribute.raw_socket) for each in listener.listeners)
        async with anyio.create_task_group() as group:
            for each in listener.listeners:
                if tls is None:
                    group.start_soon(accept_forever, each, handle)
                elif options.go_ahead:
                    group.start_soon(accept_forever, each, upgrade)
                else:
                    group.start_soon(accept_forever, _TellingTLSListener(each, tls, accept, loop, options), handle)
            yield Server(listeners=sockets)
            group.cancel_scope.cancel()
        await listener.aclose()

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        return _Stream(self._loop(), await _dial(address, tls, options))

    async def ask(
        self, address: Address, request: bytes, at_a_time: int, *, tls: ClientTLS | None, options: Options
    ) -> bytes:
        stream = await _dial(address, tls, options)
        try:
            await stream.send(request)
            reply = b""
            with suppress(anyio.EndOfStream):
                while True:
                    reply += await stream.receive(at_a_time)
        except BaseException:
            await _drop(stream)
            raise
        await stream.aclose()
        return reply

    async def gather(self, *jobs: Main[None]) -> None:
        async with anyio.create_task_group() as group:
            for job in jobs:
                group.start_soon(job)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def within(self, seconds: float, job: Main[T]) -> T:
        with anyio.fail_after(seconds):
            return await job()

    def limiter(self, slots: int, /) -> Limiter:
        return anyio.Semaphore(slots)

    @asynccontextmanager
    async def serve_datagrams(
        self, answer: Answer, note: Callable[[Callable[[], Facts]], None], address: Address
    ) -> AsyncIterator[Server]:
        loop = self._loop()

        async def answer_forever() -> None:
            async for data, (host, port) in sock:
                reply = answer(data)
                if reply is not None:
                    # What becomes of an answer is its peer's affair.
                    with suppress(anyio.BrokenResourceError, OSError):
                        await sock.sendto(reply, host, port)

        async with await anyio.create_udp_socket(local_host=address.host, local_port=address.port) as sock:
            note(lambda: Facts.read(loop=loop, transport=sock, sock=None))
            async with anyio.create_task_group() as group:
                group.start_soon(answer_forever)
                yield Server(listeners=(sock.extra(SocketAttribute.raw_socket),))
                group.cancel_scope.cancel()

    async def open_datagrams(self, address: Address) -> Datagrams:
        return _DatagramSocket(self._loop(), await anyio.create_connected_udp_socket(address.host, address.port))

    async def resolve(self, host: str, port: int, family: socket.AddressFamily) -> list[Address]:
        found = await anyio.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        return [Address(*entry[4][:2]) for entry in found]

    def _loop(self) -> object:
        raise NotImplementedError


async def _dial(address: Address, tls: ClientTLS | None, options: Options) -> SocketStream | TLSStream:
    if tls is None:
        return await anyio.connect_tcp(address.host, address.port, local_host=options.source or None)
    if options.go_ahead:
        return await _upgraded(address, tls, options)
    with anyio.fail_after(options.handshake_timeout):
        return await anyio.connect_tcp(
            address.host,
            address.port,
            local_host=options.source or None,
            ssl_context=tls.context,
            tls_hostname=tls.server_name,
        )


async def _drop(stream: SocketStream | TLSStream) -> None:
    """Close at once: closing properly would wait for the peer's close_notify, or fail in its own way."""
    await anyio.aclose_forcefully(stream.transport_stream if isinstance(stream, TLSStream) else stream)


async def _upgraded(address: Address, tls: ClientTLS, options: Options) -> TLSStream:
    plain = await anyio.connect_tcp(address.host, address.port, local_host=options.source or None)
    try:
        with anyio.fail_after(options.handshake_timeout):
            received = b""
            while len(received) < len(options.go_ahead):
                received += await plain.receive(len(options.go_ahead) - len(received))
            require_go_ahead(options, received)
            return await TLSStream.wrap(plain, hostname=tls.server_name, ssl_context=tls.context)
    except BaseException:
        await anyio.aclose_forcefully(plain)
        raise


def _will_pass(error: Exception) -> bool:
    """Tell whether accepting may be tried again: asyncio tells of what was short as it is, trio wraps it."""
    cause = error.__cause__
    return isinstance(error, OSError) or (isinstance(cause, OSError) and cause.errno in _SHORT)


async def _send_file(stream: ByteStream, file: File) -> None:
    if file.zero_copy:
        raise NotImplementedError("anyio has no sendfile")
    # anyio's own files are read in worker threads. Reading one here blocks, for all contenders alike.
    sent = 0
    with open(file.path, "rb") as source:  # noqa: ASYNC230, PTH123  # see above; the fastest of equal ways
        while sent < file.size and (piece := source.read(min(PIECE, file.size - sent))):
            await stream.send(piece)
            sent += len(piece)
    file.expect(sent)


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


class _TellingTLSListener(TLSListener):
    """Tells the service of a handshake that failed, where anyio's own writes a traceback for each."""

    def __init__(
        self, listener: Listener[Any], tls: ssl.SSLContext, accept: Accept, loop: object, options: Options
    ) -> None:
        super().__init__(listener, tls, handshake_timeout=options.handshake_timeout)
        self._accept = accept
        self._loop = loop

    async def handle_handshake_error(self, exc: BaseException, stream: Any) -> None:  # type: ignore[override]  # a method serves as well
        await anyio.aclose_forcefully(stream)
        # What is no Exception is a cancellation, which must go on.
        if not isinstance(exc, Exception):
            raise exc
        self._accept(lambda: _facts(self._loop, stream)).lost(exc)


class _Stream(Connection):
    __slots__ = ("_broken", "_loop", "_stream")

    def __init__(self, loop: object, stream: SocketStream | TLSStream) -> None:
        self._loop = loop
        self._stream = stream
        self._broken = False

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        stream = self._stream
        reply = b""
        try:
            for _ in range(rounds):
                for part in parts:
                    if part:
                        await stream.send(part)
                    else:
                        await stream.send_eof()
                reply = b""
                try:
                    while reply_size is None or len(reply) < reply_size:
                        reply += await stream.receive(65536 if reply_size is None else reply_size - len(reply))
                except anyio.EndOfStream:
                    if reply_size is not None:
                        raise
        except BaseException:
            self._broken = True
            await _drop(stream)
            raise
        return reply

    async def close(self) -> None:
        if not self._broken:
            await self._stream.aclose()

    def facts(self) -> Facts:
        return _facts(self._loop, self._stream)


class _DatagramSocket(Datagrams):
    __slots__ = ("_loop", "_sock")

    def __init__(self, loop: object, sock: ConnectedUDPSocket) -> None:
        self._loop = loop
        self._sock = sock

    async def exchange(self, payload: bytes, deadline: float) -> bytes | None:
        await self._sock.send(payload)
        with anyio.move_on_after(deadline):
            return await self._sock.receive()
        return None

    async def close(self) -> None:
        await self._sock.aclose()

    def facts(self) -> Facts:
        return Facts.read(loop=self._loop, transport=self._sock, sock=None)


def _facts(loop: object, stream: ByteStream) -> Facts:
    return Facts.read(
        loop=loop,
        transport=stream,
        sock=stream.extra(SocketAttribute.raw_socket),
        tls=stream.extra(TLSAttribute.ssl_object, None),
    )
