"""anyio: a server that cannot accept for want of a descriptor ends, with all its connections."""

import resource
import socket

import anyio
from anyio.abc import SocketAttribute, SocketStream


async def handle(stream: SocketStream) -> None:
    """Keep the connection until the peer ends it."""
    async with stream:
        async for _ in stream:
            pass


async def main() -> None:
    """Serve, take all descriptors away for a moment, and see whether the server is still there."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    address = ("127.0.0.1", listener.extra(SocketAttribute.local_port))
    peers = [socket.socket() for _ in range(5)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, handle)
            resource.setrlimit(resource.RLIMIT_NOFILE, (peers[-1].fileno() + 1, hard))
            for peer in peers:
                peer.connect(address)
            await anyio.sleep(0.5)
            print("not seen: the server goes on")
            group.cancel_scope.cancel()
    except BaseExceptionGroup as error:
        inner: BaseException = error
        while isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        print(f"seen: the server has ended with {type(inner).__name__}: {inner.__cause__ or inner}")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for peer in peers:
            peer.close()


anyio.run(main)
