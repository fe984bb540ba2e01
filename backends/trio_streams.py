"""trio's streams: `trio.serve_listeners`, `trio.SSLStream`.

trio sets TCP_NODELAY by itself and TCP_NOTSENT_LOWAT to 16 KiB. `https_compatible=False` is its default and the honest
one: with True it would send no close_notify at all. Its `aclose` sends ours and does not wait for the peer's.
"""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import trio

from loopmark.service import Then
from loopmark.spi import Accept, Address, Backend, ClientTLS, Connection, Facts, Feature, Main, Options, Server, T

Stream: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream]"


class TrioStreams(Backend):
    """A task per connection in a nursery."""

    features = frozenset({Feature.TCP, Feature.TLS})
    distributions = ("trio",)

    def run(self, main: Main[T], /) -> T:
        return trio.run(main)

    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        async def handle(stream: Stream) -> None:
            service = accept(lambda: _facts(stream))
            try:
                async with stream:
                    if isinstance(stream, trio.SSLStream):
                        # Without a deadline a silent client would be held for ever.
                        with trio.fail_after(options.handshake_timeout):
                            await stream.do_handshake()
                    while True:
                        reply = service.receive(await stream.receive_some())  # type: ignore[arg-type]  # bytes, in fact
                        if reply.data:
                            await stream.send_all(reply.data)
                        if reply.then is Then.CLOSE:
                            break
            except (trio.BrokenResourceError, trio.TooSlowError) as error:
                service.lost(error)

        listeners = await trio.open_tcp_listeners(address.port, host=address.host, backlog=options.backlog)
        async with trio.open_nursery() as nursery:
            if tls is None:
                nursery.start_soon(trio.serve_listeners, handle, listeners)
            else:
                wrapped = [trio.SSLListener(listener, tls) for listener in listeners]
                nursery.start_soon(trio.serve_listeners, handle, wrapped)
            yield Server(listeners=tuple(listener.socket for listener in listeners))  # type: ignore[misc]  # like sockets
            nursery.cancel_scope.cancel()

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        tcp = await trio.open_tcp_stream(address.host, address.port)
        if tls is None:
            return _Stream(tcp)
        stream = trio.SSLStream(tcp, tls.context, server_hostname=tls.server_name)
        try:
            with trio.fail_after(options.handshake_timeout):
                await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return _Stream(stream)

    async def gather(self, *jobs: Main[None]) -> None:
        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(job)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class _Stream(Connection):
    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        stream = self._stream
        reply = b""
        for _ in range(rounds):
            for part in parts:
                await stream.send_all(part)
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


def _facts(stream: Stream) -> Facts:
    secure = isinstance(stream, trio.SSLStream)
    tcp = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    return Facts.read(loop="trio", transport=stream, sock=tcp.socket, tls=stream if secure else None)  # type: ignore[arg-type]  # SSLStream forwards to its SSLObject
