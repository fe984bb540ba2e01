"""Raw sockets on the event loop: `loop.sock_accept`, `loop.sock_recv`, `loop.sock_sendall`. Plain TCP only.

Nothing sets TCP_NODELAY at this level, so we do.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from loopmark.service import Then
from loopmark.spi import Accept, Address, Backend, ClientTLS, Connection, Facts, Feature, Main, Options, Server, T


class AsyncioSockets(Backend):
    """The loop's own socket methods on non-blocking sockets."""

    features = frozenset({Feature.TCP})

    def run(self, main: Main[T], /) -> T:
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            return runner.run(main())

    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        if tls is not None:
            raise NotImplementedError("raw sockets have no TLS")
        loop = asyncio.get_running_loop()
        listener = socket.create_server(address, family=_family(address), backlog=options.backlog)
        listener.setblocking(False)
        handlers: set[asyncio.Task[None]] = set()

        async def handle(sock: socket.socket) -> None:
            service = accept(lambda: _facts(loop, sock))
            try:
                while True:
                    reply = service.receive(await loop.sock_recv(sock, 65536))
                    if reply.data:
                        await loop.sock_sendall(sock, reply.data)
                    if reply.then is Then.CLOSE:
                        break
            except OSError as error:
                service.lost(error)
            finally:
                sock.close()

        async def accept_forever() -> None:
            while True:
                sock, _ = await loop.sock_accept(listener)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.nodelay)
                task = loop.create_task(handle(sock))
                handlers.add(task)
                task.add_done_callback(handlers.discard)

        acceptor = loop.create_task(accept_forever())
        try:
            yield Server(listeners=(listener,))
        finally:
            tasks = [acceptor, *handlers]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            listener.close()

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        if tls is not None:
            raise NotImplementedError("raw sockets have no TLS")
        loop = asyncio.get_running_loop()
        sock = socket.socket(_family(address), socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.nodelay)
            await loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return _Socket(loop, sock)

    async def gather(self, *jobs: Main[None]) -> None:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


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
                await loop.sock_sendall(sock, part)
            reply = b""
            while reply_size is None or len(reply) < reply_size:
                data = await loop.sock_recv(sock, 65536 if reply_size is None else reply_size - len(reply))
                if not data:
                    break
                reply += data
            if reply_size is not None and len(reply) < reply_size:
                raise EOFError(f"{len(reply)} of {reply_size} bytes, then the end of the stream")
        return reply

    async def close(self) -> None:
        self._sock.close()

    def facts(self) -> Facts:
        return _facts(self._loop, self._sock)


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


def _facts(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Facts:
    return Facts.read(loop=loop, transport=sock, sock=sock)
