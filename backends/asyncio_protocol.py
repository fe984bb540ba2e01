"""asyncio's transports and protocols: callbacks instead of coroutines on the connection itself.

TLS as in `asyncio_streams`. A client that knows what it is going to say writes it in `connection_made`, as in
asyncio's own examples: then it leaves in one segment with the last handshake flight.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, ClassVar, Self, TypeVar

from loopmark.service import CLOSE, PIECE, File, Service, Then
from loopmark.spi import (
    Accept,
    Address,
    ClientTLS,
    Connection,
    Facts,
    Feature,
    Options,
    Server,
    require_go_ahead,
)

from .asyncio_base import told_once
from .asyncio_datagrams import AsyncioDatagrams

_Side = TypeVar("_Side", bound=asyncio.Protocol)


class AsyncioProtocol(AsyncioDatagrams):
    """`loop.create_server` and `loop.create_connection`."""

    api = frozenset(
        {
            *(Feature.TCP, Feature.TLS, Feature.START_TLS, Feature.HALF_CLOSE),
            *(Feature.FILES, Feature.SENDFILE, Feature.DATAGRAMS, Feature.LIMITER),
        }
    )
    wants: ClassVar = {Feature.SENDFILE: "sendfile"}

    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        loop = asyncio.get_running_loop()
        connections: set[asyncio.Transport] = set()
        upgrading = tls is not None and bool(options.go_ahead)
        at_once = None if upgrading else tls
        serving = _Serving(accept, loop, connections, tls, options)
        server = await loop.create_server(
            (_UpgradedServerSide if upgrading else _ServerSide).of(serving),
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
            # Not `server.wait_closed()`: from 3.12.1 on that waits for those who never finish their handshake, too.
            while connections:
                # Again, for those who had been accepted, but not yet made.
                for transport in tuple(connections):
                    transport.abort()
                await asyncio.sleep(0)

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        loop = asyncio.get_running_loop()
        if tls is not None and options.go_ahead:
            return await _upgraded(loop, address, tls, options)
        _, side = await _dial(loop, partial(_ClientSide, loop), address, tls, options)
        return side

    async def ask(
        self, address: Address, request: bytes, at_a_time: int, *, tls: ClientTLS | None, options: Options
    ) -> bytes:
        if options.go_ahead:
            return await super().ask(address, request, at_a_time, tls=tls, options=options)
        loop = asyncio.get_running_loop()
        transport, side = await _dial(loop, partial(_Asking, loop, request), address, tls, options)
        try:
            await side.ended
        except BaseException:
            transport.abort()
            raise
        if side.error is not None:
            raise side.error
        return side.reply


def _dial(
    loop: asyncio.AbstractEventLoop,
    side: Callable[[], _Side],
    address: Address,
    tls: ClientTLS | None,
    options: Options,
) -> Coroutine[Any, Any, tuple[asyncio.Transport, _Side]]:
    source = (options.source, 0) if options.source else None
    if tls is None:
        return loop.create_connection(side, address.host, address.port, local_addr=source)
    return loop.create_connection(
        side,
        address.host,
        address.port,
        ssl=tls.context,
        server_hostname=tls.server_name,
        ssl_handshake_timeout=options.handshake_timeout,
        ssl_shutdown_timeout=options.close_timeout,
        local_addr=source,
    )


async def _upgraded(loop: asyncio.AbstractEventLoop, address: Address, tls: ClientTLS, options: Options) -> Connection:
    source = (options.source, 0) if options.source else None
    transport, side = await loop.create_connection(
        partial(_ClientSide, loop), address.host, address.port, local_addr=source
    )
    try:
        async with asyncio.timeout(options.handshake_timeout):
            require_go_ahead(options, await side.next_reply(len(options.go_ahead)))
            secure = await loop.start_tls(
                transport,
                side,
                tls.context,
                server_hostname=tls.server_name,
                ssl_handshake_timeout=options.handshake_timeout,
                ssl_shutdown_timeout=options.close_timeout,
            )
    except BaseException:
        transport.abort()
        raise
    assert secure is not None
    side.transport = secure
    return side


@dataclass(frozen=True, slots=True)
class _Serving:
    """What all connections of a server share."""

    accept: Accept
    loop: asyncio.AbstractEventLoop
    connections: set[asyncio.Transport]
    tls: ssl.SSLContext | None
    """For those who upgrade."""
    options: Options


class _ServerSide(asyncio.Protocol):
    serving: ClassVar[_Serving]
    _service: Service
    _task: asyncio.Task[None]
    _full: asyncio.Future[None] | None = None
    transport: asyncio.Transport

    @classmethod
    def of(cls, serving: _Serving) -> Callable[[], Self]:
        """Return a class of one server's connections, so that no `__init__` runs for each of them."""
        return type(cls.__name__, (cls,), {"serving": serving})

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Only now, because a protocol whose handshake fails hears of nothing, not even of the loss.
        self.transport = transport  # type: ignore[assignment]  # a Transport, as for every Protocol
        serving = self.serving
        self._service = serving.accept(self._facts)
        serving.connections.add(self.transport)

    def data_received(self, data: bytes) -> None:
        reply = self._service.receive(data)
        if reply.data:
            self.transport.write(reply.data)
        if reply.file is not None:
            meanwhile = _Meanwhile(self)
            self.transport.set_protocol(meanwhile)
            self._task = self.serving.loop.create_task(self._send_file(reply.file, reply.then, meanwhile))
        elif reply.then is CLOSE:
            self.transport.close()
        elif self._full is not None:
            # Who does not read is not read from either.
            self.transport.pause_reading()

    def eof_received(self) -> None:
        # After our own end it is only the peer's answer to that.
        if not self.transport.is_closing():
            self.data_received(b"")

    def pause_writing(self) -> None:
        self._full = self.serving.loop.create_future()

    def resume_writing(self) -> None:
        if self._full is not None:
            self._full.set_result(None)
            self._full = None
            self.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self._full is not None:
            self.resume_writing()
        self.serving.connections.discard(self.transport)
        self._service.lost(error)

    async def _send_file(self, file: File, then: Then, meanwhile: "_Meanwhile") -> None:
        try:
            # As asyncio has no files of its own, reading one blocks, for all contenders alike.
            with open(file.path, "rb") as stream:  # noqa: ASYNC230, PTH123  # see above; the fastest of equal ways
                if file.zero_copy:
                    sent = await self.serving.loop.sendfile(self.transport, stream, 0, file.size, fallback=False)
                else:
                    sent = await self._copy(stream, file.size)
            file.expect(sent)
        # RuntimeError is how a loop refuses sendfile.
        except (OSError, RuntimeError) as error:
            self._service.lost(error)
            self.transport.abort()
            return
        self._service.sent()
        if then is CLOSE:
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.set_protocol(self)
            for data in meanwhile.arrived:
                # After another request for a file it is for the next one to keep.
                self.transport.get_protocol().data_received(data)  # type: ignore[attr-defined]  # a Protocol

    async def _copy(self, stream: BinaryIO, size: int) -> int:
        secure = self.transport.get_extra_info("sslcontext") is not None
        sent = 0
        while sent < size and (piece := stream.read(min(PIECE, size - sent))):
            self.transport.write(piece)
            if self._full is not None:
                await self._full
            elif secure:
                # A TLS transport hears of a loss only after others ran.
                await asyncio.sleep(0)
            if self.transport.is_closing():
                break
            sent += len(piece)
        return sent

    def _facts(self) -> Facts:
        return _facts(self.serving.loop, self.transport)


class _Meanwhile(asyncio.Protocol):
    """Keeps what arrives while a file is on its way.

    Not by pausing to read: then asyncio's TLS takes, and drops, what is written after the peer's end.
    """

    __slots__ = ("_side", "arrived")

    def __init__(self, side: _ServerSide) -> None:
        self._side = side
        self.arrived: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.arrived.append(data)

    def eof_received(self) -> bool:
        self.arrived.append(b"")
        # Stay open for the rest of the file. With TLS a peer that has ended is gone.
        return self._side.transport.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        self._side.pause_writing()

    def resume_writing(self) -> None:
        self._side.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._side.connection_lost(error)


class _UpgradedServerSide(_ServerSide):
    """Sends the go-ahead and upgrades to TLS."""

    _early: list[bytes] | None
    """What comes with the end of the handshake is here before `start_tls` has told of its new transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._early = []
        self._task = self.serving.loop.create_task(self._begin_tls())

    def data_received(self, data: bytes) -> None:
        if self._early is None:
            super().data_received(data)
        else:
            self._early.append(data)

    async def _begin_tls(self) -> None:
        context, options = self.serving.tls, self.serving.options
        assert context is not None
        # Only now, and nothing is awaited in between: the client's first record must find the TLS layer there.
        self.transport.write(options.go_ahead)
        try:
            secure = await self.serving.loop.start_tls(
                self.transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=options.handshake_timeout,
                ssl_shutdown_timeout=options.close_timeout,
            )
        except OSError as error:  # ssl.SSLError is one
            self.connection_lost(error)
            return
        if secure is None or secure.is_closing():
            # So asyncio, or uvloop, tells of a transport that was aborted in its handshake, as on leaving.
            self.connection_lost(None)
            return
        self.serving.connections.discard(self.transport)
        self.serving.connections.add(secure)
        self.transport, early, self._early = secure, self._early or (), None
        for data in early:
            super().data_received(data)


class _Asking(asyncio.Protocol):
    """Sends a request as the connection is made, and takes what comes until it is lost.

    The transport closes itself at the end of the stream: `eof_received` does not ask it to stay open.
    """

    __slots__ = ("_request", "ended", "error", "reply")

    def __init__(self, loop: asyncio.AbstractEventLoop, request: bytes) -> None:
        self._request = request
        self.reply = b""
        self.error: Exception | None = None
        self.ended: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]  # a Transport, as for every Protocol

    def data_received(self, data: bytes) -> None:
        self.reply += data

    def connection_lost(self, error: Exception | None) -> None:
        self.error = error
        if not self.ended.done():
            self.ended.set_result(None)


class _ClientSide(asyncio.Protocol, Connection):
    __slots__ = ("_closed", "_ended", "_error", "_loop", "_lost", "_received", "_reply", "_size", "transport")
    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received = b""
        self._size = 0
        self._ended = self._lost = False
        self._error: Exception | None = None
        self._reply: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a Transport, as for every Protocol

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
        try:
            for _ in range(rounds):
                for part in parts:
                    if part:
                        self.transport.write(part)
                    else:
                        self.transport.write_eof()
                if reply_size is None:
                    # As in `_Asking`, the transport closes itself at the end of the stream.
                    await self._closed
                    if self._error is not None:
                        raise self._error  # noqa: TRY301  # as the wait for a reply of some size does
                    reply = self._received
                else:
                    reply = await self.next_reply(reply_size)
        except BaseException:
            # Closing would wait for the peer's close_notify.
            self.transport.abort()
            raise
        return reply

    async def next_reply(self, size: int) -> bytes:
        """Return the next `size` bytes."""
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
        self.transport.close()
        if self._closed.cancelled():
            # Together with an exchange that waited for it.
            self._closed = self._loop.create_future()
        try:
            await self._closed
        except asyncio.CancelledError:
            self.transport.abort()
            raise

    def facts(self) -> Facts:
        return _facts(self._loop, self.transport)


def _facts(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> Facts:
    return Facts.read(
        loop=loop,
        transport=transport,
        sock=transport.get_extra_info("socket"),
        tls=transport.get_extra_info("ssl_object"),
    )
