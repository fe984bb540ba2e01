"""anyio: a corrupt TLS record raises `ssl.SSLError` instead of `BrokenResourceError`, and so ends the whole server."""

import contextlib
import socket
import ssl

import anyio
import trustme
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener, TLSStream


async def handle(stream: TLSStream) -> None:
    """Echo, and expect what anyio's documentation has `receive` raise."""
    async with stream:
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                await stream.send(await stream.receive())


def spoil(port: int, context: ssl.SSLContext) -> None:
    """Complete a handshake, then send a record that no key opens."""
    with socket.create_connection(("127.0.0.1", port)) as plain:
        secure = context.wrap_socket(plain.dup(), server_hostname="localhost")
        with secure, contextlib.suppress(OSError):
            plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            plain.recv(100)


async def main() -> None:
    """Serve, spoil one connection, and see whether the server is still there."""
    authority = trustme.CA()
    server, client = (
        ssl.create_default_context(purpose) for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH)
    )
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    listener, port = TLSListener(plain, server), plain.extra(SocketAttribute.local_port)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, handle)
            await anyio.to_thread.run_sync(spoil, port, client)
            await anyio.sleep(0.5)
            print("not seen: the server goes on")
            group.cancel_scope.cancel()
    except BaseExceptionGroup as error:
        inner: BaseException = error
        while isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        print(f"seen: the server has ended with {type(inner).__name__}")


anyio.run(main)
