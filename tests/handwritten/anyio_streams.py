"""The ping-pong as anybody would write it with anyio."""

import contextlib
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener


@asynccontextmanager
async def serve(address, context, backlog):
    async def handle(stream):
        assert await stream.receive() == b"PING"
        await stream.send(b"PONG")
        with anyio.fail_after(30) if context else contextlib.nullcontext():
            await stream.aclose()

    tcp = await anyio.create_tcp_listener(local_host=address[0], local_port=address[1], backlog=backlog)
    listener = TLSListener(tcp, context) if context else tcp
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield [each.extra(SocketAttribute.raw_socket) for each in tcp.listeners]


async def client(address, context, name, connections, concurrency):
    work, replies = iter(range(connections)), 0

    async def worker():
        nonlocal replies
        for _ in work:
            tls = {"ssl_context": context, "tls_hostname": name} if context else {}
            with anyio.fail_after(60) if context else contextlib.nullcontext():
                stream = await anyio.connect_tcp(*address, **tls)
            async with stream:
                await stream.send(b"PING")
                reply = b"".join([chunk async for chunk in stream])
                replies += reply == b"PONG"

    async with anyio.create_task_group() as group:
        for _ in range(concurrency):
            group.start_soon(worker)
    return replies
