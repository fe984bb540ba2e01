"""Raw sockets on the event loop: `loop.sock_accept`, `loop.sock_recv`, `loop.sock_sendall`. Plain TCP only.

Nothing sets TCP_NODELAY at this level, so we do.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

from loopmark.service import CLOSE, PIECE, File
from loopmark.spi import (
    Accept,
    Address,
    Answer,
    ClientTLS,
    Connection,
    Datagrams,
    Facts,
    Feature,
    Options,
    Server,
)

from .asyncio_base import AsyncioBase


class AsyncioSockets(AsyncioBase):
    """The loop's own socket methods on non-blocking sockets."""

    api = frozenset(
        {
            *(Feature.TCP, Feature.HALF_CLOSE, Feature.FILES, Feature.SENDFILE),
            *(Feature.DATAGRAMS, Feature.LIMITER),
        }
    )
    wants: ClassVar = {Feature.SENDFILE: "sock_sendfile", Feature.DATAGRAMS: "sock_recvfrom"}

    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        if tls is not None:
            raise NotImplementedError("raw sockets have no TLS")
        loop = asyncio.get_running_loop()
        listener = socket.create_server(address, family=_family(address), backlog=options.backlog)
        listener.setblocking(False)
        handlers: dict[asyncio.Task[None], socket.socket] = {}

        async def handle(sock: socket.socket) -> None:
            service = accept(lambda: _facts(loop, sock))
            try:
                # Here, because some systems refuse it once the peer has reset the connection.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.nodelay)
                while True:
                    reply = service.receive(await loop.sock_recv(sock, service.at_a_time or 65536))
                    if reply.data:
                        await loop.sock_sendall(sock, reply.data)
                    if reply.file is not None:
                        await _send_file(loop, sock, reply.file)
                        service.sent()
                    if reply.then is CLOSE:
                        break
            # RuntimeError is how a loop refuses sendfile.
            except (OSError, RuntimeError) as error:
                service.lost(error)
            finally:
                sock.close()

        async def accept_forever() -> None:
            while True:
                try:
                    sock, _ = await loop.sock_accept(listener)
                except OSError:
                    # Out of descriptors, say: those who end give some back.
                    await asyncio.sleep(0.01)
                    continue
                task = loop.create_task(handle(sock))
                handlers[task] = sock
                task.add_done_callback(handlers.pop)

        acceptor = loop.create_task(accept_forever())
        try:
            yield Server(listeners=(listener,))
        finally:
            left = dict(handlers)
            for task in (acceptor, *left):
                task.cancel()
            await asyncio.gather(acceptor, *left, return_exceptions=True)
            for sock in (listener, *left.values()):
                # A task that is cancelled before its first step closes nothing.
                sock.close()

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        if tls is not None:
            raise NotImplementedError("raw sockets have no TLS")
        loop = asyncio.get_running_loop()
        sock = _client_socket(address, options)
        try:
            await loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return _Socket(loop, sock)

    async def ask(
        self, address: Address, request: bytes, at_a_time: int, *, tls: ClientTLS | None, options: Options
    ) -> bytes:
        if tls is not None:
            raise NotImplementedError("raw sockets have no TLS")
        loop = asyncio.get_running_loop()
        with _client_socket(address, options) as sock:
            await loop.sock_connect(sock, address)
            await loop.sock_sendall(sock, request)
            reply = b""
            while data := await loop.sock_recv(sock, at_a_time):
                reply += data
                if len(reply) > _LONG:
                    await asyncio.sleep(0)
        return reply

    @asynccontextmanager
    async def serve_datagrams(
        self, answer: Answer, note: Callable[[Callable[[], Facts]], None], address: Address
    ) -> AsyncIterator[Server]:
        self.require(Feature.DATAGRAMS)
        loop = asyncio.get_running_loop()
        note(lambda: Facts.read(loop=loop, transport=sock, sock=None))

        async def answer_forever() -> None:
            while True:
                try:
                    data, peer = await loop.sock_recvfrom(sock, 65536)
                    reply = answer(data)
                    if reply is not None:
                        await loop.sock_sendto(sock, reply, peer)
                except OSError:
                    # What became of an earlier answer is reported here, and is its peer's affair.
                    continue

        with socket.socket(_family(address), socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind(address)
            task = loop.create_task(answer_forever())
            try:
                yield Server(listeners=(sock,))
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def open_datagrams(self, address: Address) -> Datagrams:
        self.require(Feature.DATAGRAMS)
        sock = socket.socket(_family(address), socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect(address)
        return _DatagramSocket(asyncio.get_running_loop(), sock)


async def _send_file(loop: asyncio.AbstractEventLoop, sock: socket.socket, file: File) -> None:
    # As asyncio has no files of its own, reading one blocks, for all contenders alike.
    with open(file.path, "rb") as stream:  # noqa: ASYNC230, PTH123  # see above; the fastest of equal ways
        if file.zero_copy:
            sent = await loop.sock_sendfile(sock, stream, 0, file.size, fallback=False)
        else:
            sent = 0
            while sent < file.size and (piece := stream.read(min(PIECE, file.size - sent))):
                await loop.sock_sendall(sock, piece)
                sent += len(piece)
    file.expect(sent)


_LONG = 2**20
"""Bytes of a reply of unknown size after which others get their turn, too.

`sock_recv` does not suspend while there is data: a peer that never stops would stop the loop.
"""


def _client_socket(address: Address, options: Options) -> socket.socket:
    sock = socket.socket(_family(address), socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.nodelay)
    if options.source:
        sock.bind((options.source, 0))
    return sock


class _Socket(Connection):
    __slots__ = ("_loop", "_sock")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        loop, sock = self._loop, self._sock
        reply = b""
        for _ in range(rounds):
            for part in parts:
                if part:
                    await loop.sock_sendall(sock, part)
                else:
                    sock.shutdown(socket.SHUT_WR)
            reply = b""
            while reply_size is None or len(reply) < reply_size:
                data = await loop.sock_recv(sock, 65536 if reply_size is None else reply_size - len(reply))
                if not data:
                    break
                reply += data
                if reply_size is None and len(reply) > _LONG:
                    await asyncio.sleep(0)
            if reply_size is not None and len(reply) < reply_size:
                raise EOFError(f"{len(reply)} of {reply_size} bytes, then the end of the stream")
        return reply

    async def close(self) -> None:
        self._sock.close()

    def facts(self) -> Facts:
        return _facts(self._loop, self._sock)


class _DatagramSocket(Datagrams):
    __slots__ = ("_loop", "_sock")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock

    async def exchange(self, payload: bytes, deadline: float) -> bytes | None:
        await self._loop.sock_sendall(self._sock, payload)
        try:
            async with asyncio.timeout(deadline):
                return await self._loop.sock_recv(self._sock, 65536)
        except TimeoutError:
            return None

    async def close(self) -> None:
        self._sock.close()

    def facts(self) -> Facts:
        return Facts.read(loop=self._loop, transport=self._sock, sock=None)


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


def _facts(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Facts:
    return Facts.read(loop=loop, transport=sock, sock=sock)
