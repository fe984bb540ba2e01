"""The ping-pong as anybody would write it with trio."""

from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def serve(address, context, backlog):
    async def handle(stream):
        if context:
            with trio.fail_after(60):
                await stream.do_handshake()
        assert await stream.receive_some() == b"PING"
        await stream.send_all(b"PONG")
        if context:
            await stream.aclose()

    tcp = await trio.open_tcp_listeners(address[1], host=address[0], backlog=backlog)
    listeners = [trio.SSLListener(each, context) for each in tcp] if context else tcp
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield [each.socket for each in tcp]


async def client(address, context, name, connections, concurrency):
    work, replies = iter(range(connections)), 0

    async def worker():
        nonlocal replies
        for _ in work:
            stream = await trio.open_tcp_stream(*address)
            if context:
                stream = trio.SSLStream(stream, context, server_hostname=name)
                with trio.fail_after(60):
                    await stream.do_handshake()
            async with stream:
                await stream.send_all(b"PING")
                reply = b"".join([chunk async for chunk in stream])
                replies += reply == b"PONG"

    async with trio.open_nursery() as nursery:
        for _ in range(concurrency):
            nursery.start_soon(worker)
    return replies
