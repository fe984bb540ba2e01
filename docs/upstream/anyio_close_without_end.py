"""anyio: `TLSStream.aclose()` waits without end for a peer that never answers its close_notify."""

import ssl

import anyio
import trustme
from anyio.streams.stapled import StapledObjectStream
from anyio.streams.tls import TLSStream

PATIENCE = 3.0


async def main() -> None:
    """Close one end of a connection whose other end is not read any more."""
    authority = trustme.CA()
    server, client = (
        ssl.create_default_context(purpose) for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH)
    )
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    (send_up, receive_up), (send_down, receive_down) = (anyio.create_memory_object_stream[bytes](100) for _ in "ud")
    ends = StapledObjectStream(send_up, receive_down), StapledObjectStream(send_down, receive_up)
    streams: list[TLSStream] = []

    async def answer() -> None:
        await TLSStream.wrap(ends[1], server_side=True, ssl_context=server)

    async def ask() -> None:
        streams.append(await TLSStream.wrap(ends[0], hostname="localhost", ssl_context=client))

    async with anyio.create_task_group() as group:
        group.start_soon(answer)
        group.start_soon(ask)
    with anyio.move_on_after(PATIENCE) as scope:
        await streams[0].aclose()
    if scope.cancelled_caught:
        print(f"seen: aclose() had not returned after {PATIENCE:g} s")
    else:
        print("not seen: aclose() has returned")
    for stream in (send_up, receive_up, send_down, receive_down):
        stream.close()


anyio.run(main)
