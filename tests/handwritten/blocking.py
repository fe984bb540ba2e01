"""The ping-pong as anybody would write it with blocking sockets and threads."""

import contextlib
import socket
import threading
from contextlib import asynccontextmanager


@asynccontextmanager
async def serve(address, context, backlog):
    listener = socket.create_server(address, backlog=backlog)

    def handle(sock):
        with contextlib.suppress(OSError), sock:
            sock.settimeout(60)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context:
                sock = context.wrap_socket(sock, server_side=True)
            with sock:
                assert sock.recv(100) == b"PING"
                sock.sendall(b"PONG")
                if context:
                    sock.unwrap()

    def accept():
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=handle, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield [listener]


async def client(address, context, name, connections, concurrency):
    work, replies = iter(range(connections)), []

    def worker():
        for _ in work:
            with socket.create_connection(address, timeout=60) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with context.wrap_socket(sock, server_hostname=name) if context else sock as stream:
                    stream.sendall(b"PING")
                    reply = b""
                    while data := stream.recv(100):
                        reply += data
                    if context:
                        stream.settimeout(30)
                        stream.unwrap()
            replies.append(reply == b"PONG")

    if concurrency == 1:
        worker()
    else:
        threads = [threading.Thread(target=worker) for _ in range(concurrency)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(replies)
