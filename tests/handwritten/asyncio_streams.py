"""The ping-pong as anybody would write it with asyncio's streams."""

import asyncio
from contextlib import asynccontextmanager


@asynccontextmanager
async def serve(address, context, backlog):
    async def handle(reader, writer):
        assert await reader.read(100) == b"PING"
        writer.write(b"PONG")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, *address, ssl=context, backlog=backlog)
    yield server.sockets


async def client(address, context, name, connections, concurrency):
    work, replies = iter(range(connections)), 0

    async def worker():
        nonlocal replies
        for _ in work:
            reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=name)
            writer.write(b"PING")
            await writer.drain()
            reply = await reader.read()
            replies += reply == b"PONG"
            writer.close()
            await writer.wait_closed()

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return replies
