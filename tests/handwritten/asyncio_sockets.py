"""The ping-pong as anybody would write it with raw sockets on asyncio's loop."""

import asyncio
import socket
from contextlib import asynccontextmanager


@asynccontextmanager
async def serve(address, context, backlog):
    loop = asyncio.get_running_loop()
    listener = socket.create_server(address, backlog=backlog)
    listener.setblocking(False)

    async def handle(sock):
        with sock:
            assert await loop.sock_recv(sock, 100) == b"PING"
            await loop.sock_sendall(sock, b"PONG")

    async def accept():
        tasks = set()
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(handle(sock))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    task = loop.create_task(accept())
    yield [listener]
    task.cancel()


async def client(address, context, name, connections, concurrency):
    loop, work, replies = asyncio.get_running_loop(), iter(range(connections)), 0

    async def worker():
        nonlocal replies
        for _ in work:
            with socket.socket() as sock:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(sock, address)
                await loop.sock_sendall(sock, b"PING")
                reply = b""
                while data := await loop.sock_recv(sock, 100):
                    reply += data
                replies += reply == b"PONG"

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return replies
