"""asyncio: a connection that was accepted in the step of the loop before `Server.close()` is left unclosed."""

import asyncio
import gc
import socket
import warnings


async def main(peer: socket.socket) -> None:
    """Close the server between the two halves of accepting a connection."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    peer.connect(server.sockets[0].getsockname())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    server.close()
    await asyncio.sleep(0)


with socket.socket() as client, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    asyncio.run(main(client))
    gc.collect()
lost = [str(each.message) for each in caught if "raddr" in str(each.message)]
print(f"seen: {lost[0].partition(' fd')[0]}...>" if lost else "not seen: nothing was left unclosed")
