"""trio's streams: `trio.serve_listeners`, `trio.SSLStream`.

trio sets TCP_NODELAY by itself and TCP_NOTSENT_LOWAT to 16 KiB. `https_compatible=False` is its default and the honest
one: with True it would send no close_notify at all. Its `aclose` sends ours and does not wait for the peer's.
"""

import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import trio

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

Stream: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream]"


class TrioStreams(Backend):
    """A task per connection in a nursery."""

    features = frozenset(
        {
            *(Feature.TCP, Feature.TLS, Feature.START_TLS, Feature.HALF_CLOSE, Feature.FILES),
            *(Feature.DATAGRAMS, Feature.RESOLVER, Feature.LIMITER),
        }
    )
    distributions = ("trio",)

    def run(self, main: Main[T], /) -> T:
        return trio.run(main)

    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        async def upgrade(tcp: trio.SocketStream) -> None:
            assert tls is not None
            try:
                await tcp.send_all(options.go_ahead)
            except trio.BrokenResourceError:
                await tcp.aclose()
            else:
                await handle(trio.SSLStream(tcp, tls, server_side=True))

        async def handle(stream: Stream) -> None:
            service = accept(lambda: _facts(stream))
            try:
                if isinstance(stream, trio.SSLStream):
                    # Without a deadline a silent client would be held for ever.
                    with trio.fail_after(options.handshake_timeout):
                        await stream.do_handshake()
                while True:
                    reply = service.receive(await stream.receive_some(service.at_a_time))  # type: ignore[arg-type]  # bytes, in fact
                    if reply.data:
                        await stream.send_all(reply.data)
                    if reply.file is not None:
                        await _send_file(stream, reply.file)
                        service.sent()
                    if reply.then is CLOSE:
                        break
                if isinstance(stream, trio.SSLStream):
                    # `serve_listeners` closes every stream, but forcefully: without a close_notify.
                    await stream.aclose()
            except (trio.BrokenResourceError, trio.TooSlowError, OSError, NotImplementedError) as error:
                service.lost(error)

        listeners = await trio.open_tcp_listeners(address.port, host=address.host, backlog=options.backlog)
        # Out of descriptors, trio writes a traceback every 100 ms.
        async with _told_once("trio.serve_listeners"), trio.open_nursery() as nursery:
            if tls is None:
                nursery.start_soon(trio.serve_listeners, handle, listeners)
            elif options.go_ahead:
                nursery.start_soon(trio.serve_listeners, upgrade, listeners)
            else:
                wrapped = [trio.SSLListener(listener, tls) for listener in listeners]
                nursery.start_soon(trio.serve_listeners, handle, wrapped)
            yield Server(listeners=tuple(listener.socket for listener in listeners))  # type: ignore[misc]  # like sockets
            nursery.cancel_scope.cancel()

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        return _Stream(await _dial(address, tls, options))

    async def ask(
        self, address: Address, request: bytes, at_a_time: int, *, tls: ClientTLS | None, options: Options
    ) -> bytes:
        async with await _dial(address, tls, options) as stream:
            await stream.send_all(request)
            reply = b""
            while data := await stream.receive_some(at_a_time):
                reply += data
        return reply

    async def gather(self, *jobs: Main[None]) -> None:
        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(job)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def within(self, seconds: float, job: Main[T]) -> T:
        with trio.fail_after(seconds):
            return await job()

    def limiter(self, slots: int, /) -> Limiter:
        return trio.Semaphore(slots)

    @asynccontextmanager
    async def serve_datagrams(
        self, answer: Answer, note: Callable[[Callable[[], Facts]], None], address: Address
    ) -> AsyncIterator[Server]:
        async def answer_forever() -> None:
            while True:
                try:
                    data, peer = await sock.recvfrom(65536)
                    reply = answer(data)
                    if reply is not None:
                        await sock.sendto(reply, peer)
                except OSError:
                    # What became of an earlier answer is reported here, and is its peer's affair.
                    continue

        with _datagram_socket(address) as sock:
            await sock.bind(address)
            note(lambda: Facts.read(loop="trio", transport=sock, sock=None))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer_forever)
                yield Server(listeners=(sock,))  # type: ignore[arg-type]  # like a socket
                nursery.cancel_scope.cancel()

    async def open_datagrams(self, address: Address) -> Datagrams:
        sock = _datagram_socket(address)
        await sock.connect(address)
        return _DatagramSocket(sock)

    async def resolve(self, host: str, port: int, family: socket.AddressFamily) -> list[Address]:
        found = await trio.socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        return [Address(*entry[4][:2]) for entry in found]


async def _dial(address: Address, tls: ClientTLS | None, options: Options) -> Stream:
    tcp = await trio.open_tcp_stream(address.host, address.port, local_address=options.source or None)
    if tls is None:
        return tcp
    stream = trio.SSLStream(tcp, tls.context, server_hostname=tls.server_name)
    try:
        with trio.fail_after(options.handshake_timeout):
            if options.go_ahead:
                require_go_ahead(options, await _exactly(tcp, len(options.go_ahead)))
            await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


@asynccontextmanager
async def _told_once(name: str) -> AsyncIterator[None]:
    """Let a logger say one thing only."""
    said = False

    def is_first(_: logging.LogRecord) -> bool:
        nonlocal said
        first, said = not said, True
        return first

    logger = logging.getLogger(name)
    logger.addFilter(is_first)
    try:
        yield
    finally:
        logger.removeFilter(is_first)


async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
    received = b""
    while len(received) < size and (data := await stream.receive_some(size - len(received))):
        received += data
    return received


async def _send_file(stream: Stream, file: File) -> None:
    if file.zero_copy:
        raise NotImplementedError("trio has no sendfile")
    # trio's own files are read in worker threads. Reading one here blocks, for all contenders alike.
    sent = 0
    with open(file.path, "rb") as source:  # noqa: ASYNC230, PTH123  # see above; the fastest of equal ways
        while sent < file.size and (piece := source.read(min(PIECE, file.size - sent))):
            await stream.send_all(piece)
            sent += len(piece)
    file.expect(sent)


def _datagram_socket(address: Address) -> trio.socket.SocketType:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return trio.socket.socket(family, socket.SOCK_DGRAM)


class _Stream(Connection):
    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        stream = self._stream
        reply = b""
        for _ in range(rounds):
            for part in parts:
                if part:
                    await stream.send_all(part)
                else:
                    await stream.send_eof()
            reply = b""
            while reply_size is None or len(reply) < reply_size:
                data = await stream.receive_some(None if reply_size is None else reply_size - len(reply))
                if not data:
                    break
                reply += data
            if reply_size is not None and len(reply) < reply_size:
                raise EOFError(f"{len(reply)} of {reply_size} bytes, then the end of the stream")
        return reply

    async def close(self) -> None:
        await self._stream.aclose()

    def facts(self) -> Facts:
        return _facts(self._stream)


class _DatagramSocket(Datagrams):
    __slots__ = ("_sock",)

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock

    async def exchange(self, payload: bytes, deadline: float) -> bytes | None:
        await self._sock.send(payload)
        with trio.move_on_after(deadline):
            return await self._sock.recv(65536)
        return None

    async def close(self) -> None:
        self._sock.close()

    def facts(self) -> Facts:
        return Facts.read(loop="trio", transport=self._sock, sock=None)


def _facts(stream: Stream) -> Facts:
    secure = isinstance(stream, trio.SSLStream)
    tcp = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    return Facts.read(loop="trio", transport=stream, sock=tcp.socket, tls=stream if secure else None)  # type: ignore[arg-type]  # SSLStream forwards to its SSLObject
