"""asyncio: out of descriptors, one wake-up of a listener fails once for every place of its backlog, and logs each."""

import asyncio
import resource
import socket

BACKLOG = 1000


async def main() -> None:
    """Serve with no descriptor to spare while somebody connects, and count what the loop's handler is told."""
    told = 0

    def count(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        nonlocal told
        told += "out of system resource" in str(context["message"])

    asyncio.get_running_loop().set_exception_handler(count)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, backlog=BACKLOG)
    peer = socket.socket()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (peer.fileno() + 1, hard))
    peer.connect(server.sockets[0].getsockname())
    await asyncio.sleep(0.5)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    peer.close()
    server.close()
    print(f"{'seen' if told > 1 else 'not seen'}: {told} messages in half a second, of one connection")


asyncio.run(main())
