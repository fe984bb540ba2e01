"""asyncio: `loop.sock_accept` takes a connection from the kernel although it has been cancelled, and drops it."""

import asyncio
import gc
import socket
import warnings


async def main(listener: socket.socket, peer: socket.socket) -> str:
    """Cancel an accept in the step of the loop in which there is something to accept; return what the loop says."""
    loop, said = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: said.append(repr(context["exception"])))
    accepting = asyncio.create_task(loop.sock_accept(listener))
    await asyncio.sleep(0)
    peer.connect(listener.getsockname())
    await asyncio.sleep(0)
    accepting.cancel()
    await asyncio.wait([accepting])
    return ", ".join(said)


with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client, warnings.catch_warnings():
    warnings.simplefilter("ignore", ResourceWarning)
    server.setblocking(False)
    heard = asyncio.run(main(server, client))
    gc.collect()
print(f"seen: {heard}" if heard else "not seen: the connection is left for the next who accepts")
