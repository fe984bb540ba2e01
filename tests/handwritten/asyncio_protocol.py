"""The ping-pong as anybody would write it with asyncio's protocols."""

import asyncio
from contextlib import asynccontextmanager


class Pong(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        assert data == b"PING"
        self.transport.write(b"PONG")
        self.transport.close()


class Ping(asyncio.Protocol):
    def __init__(self):
        self.reply = b""
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        transport.write(b"PING")

    def data_received(self, data):
        self.reply += data

    def connection_lost(self, error):
        self.closed.set_result(self.reply)


@asynccontextmanager
async def serve(address, context, backlog):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Pong, *address, ssl=context, backlog=backlog)
    yield server.sockets


async def client(address, context, name, connections, concurrency):
    loop, work, replies = asyncio.get_running_loop(), iter(range(connections)), 0

    async def worker():
        nonlocal replies
        for _ in work:
            _, ping = await loop.create_connection(Ping, *address, ssl=context, server_hostname=name)
            reply = await ping.closed
            replies += reply == b"PONG"

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return replies
