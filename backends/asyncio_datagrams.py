"""asyncio's datagrams, which only its transports and protocols have."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from loopmark.spi import Address, Answer, Datagrams, Facts, Server

from .asyncio_base import AsyncioBase


class AsyncioDatagrams(AsyncioBase):
    """`loop.create_datagram_endpoint`."""

    @asynccontextmanager
    async def serve_datagrams(
        self, answer: Answer, note: Callable[[Callable[[], Facts]], None], address: Address
    ) -> AsyncIterator[Server]:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(partial(_Answering, answer), local_addr=address)
        note(lambda: Facts.read(loop=loop, transport=transport, sock=None))
        try:
            yield Server(listeners=(transport.get_extra_info("socket"),))
        finally:
            transport.close()
            await asyncio.sleep(0)

    async def open_datagrams(self, address: Address) -> Datagrams:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_datagram_endpoint(partial(_Asking, loop), remote_addr=address)
        return protocol


class _Answering(asyncio.DatagramProtocol):
    __slots__ = ("_answer", "_transport")
    _transport: asyncio.DatagramTransport

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a DatagramTransport, as for every such protocol

    def datagram_received(self, data: bytes, address: tuple[Any, ...]) -> None:
        reply = self._answer(data)
        if reply is not None:
            self._transport.sendto(reply, address)


class _Asking(asyncio.DatagramProtocol, Datagrams):
    __slots__ = ("_error", "_loop", "_reply", "_transport")
    _transport: asyncio.DatagramTransport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reply: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a DatagramTransport, as for every such protocol

    def datagram_received(self, data: bytes, _address: tuple[Any, ...]) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(data)

    def error_received(self, error: Exception) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)

    async def exchange(self, payload: bytes, deadline: float) -> bytes | None:
        self._reply = self._loop.create_future()
        self._transport.sendto(payload)
        try:
            async with asyncio.timeout(deadline):
                return await self._reply
        except TimeoutError:
            return None

    async def close(self) -> None:
        self._transport.close()
        await asyncio.sleep(0)

    def facts(self) -> Facts:
        return Facts.read(loop=self._loop, transport=self._transport, sock=None)
