"""Reference peers: blocking sockets, a thread per connection, the standard library and nothing of what they judge.

They count and remember on their own. Every wait is bounded by the peer's patience, so that a broken partner makes them
fail rather than hang.
"""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from loopmark.spi import Address, ClientTLS, Options, require_go_ahead
from loopmark.testing.endpoint import PATIENCE, End, Endpoint


class ReferenceServer:
    """Serves a script per connection, each in a thread; a context manager whose end waits for all conversations.

    The script gets the connection after its handshake, before which the `go_ahead` was sent in the clear; what it
    leaves undone (read the rest, end our stream) is done when it returns. Exceptions of scripts are kept in `faults`.
    """

    def __init__(
        self,
        script: Callable[[Endpoint], object],
        *,
        host: str = "127.0.0.1",
        context: ssl.SSLContext | None = None,
        go_ahead: bytes = b"",
        patience: float = PATIENCE,
    ) -> None:
        self._script = script
        self._go_ahead = go_ahead
        self._host = host
        self._context = context
        self._patience = patience
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._waker: object = None
        self.connections: list[Endpoint] = []
        """All that were accepted, in that order."""
        self.handshakes = 0
        self.server_names: list[str | None] = []
        """What clients named in SNI."""
        self.open = 0
        """Connections past their handshake whose partner has not ended its stream yet."""
        self.peak = 0
        self.failed_handshakes: list[OSError] = []
        self.faults: list[BaseException] = []

    @property
    def accepted(self) -> int:
        """Connections so far."""
        return len(self.connections)

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._listener = socket.create_server((self._host, 0), family=family, backlog=1024)
        self.address = Address(*self._listener.getsockname()[:2])
        if self._context is not None:
            self._context.sni_callback = self._note_name
        self._acceptor = threading.Thread(target=self._accept_all, name="reference server", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # One last connection of ours: whoever came before it is still accepted.
        with socket.socket(self._listener.family) as waker:
            waker.bind((self._host, 0))
            self._waker = waker.getsockname()
            waker.connect(self._listener.getsockname())
            self._acceptor.join()
        self._listener.close()
        for thread in self._threads:
            thread.join(self._patience)
        for connection in self.connections:
            connection.hang_up()
        for thread in self._threads:
            thread.join()

    def _accept_all(self) -> None:
        while True:
            sock, name = self._listener.accept()
            if name == self._waker:
                sock.close()
                return
            sock.settimeout(self._patience)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Endpoint(sock)
            connection.index = len(self.connections)
            self.connections.append(connection)
            thread = threading.Thread(target=self._converse, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _converse(self, connection: Endpoint) -> None:
        try:
            connection.send(self._go_ahead)
            if self._context is None:
                connection.handshake()
            else:
                connection.begin_tls(self._context)
        except OSError as error:
            self.failed_handshakes.append(error)
            connection.close()
            return
        with self._lock:
            self.handshakes += self._context is not None
            self.open += 1
            self.peak = max(self.peak, self.open)
        try:
            self._script(connection)
        except Exception as error:  # noqa: BLE001  # a script is a test's own code; what it raises is reported by the test
            self.faults.append(error)
            connection.hang_up()
        try:
            with suppress(OSError, ValueError):
                connection.complete()
        finally:
            with self._lock:
                self.open -= 1
            connection.close()

    def _note_name(self, _sock: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self.server_names.append(name)


def dial(
    address: Address, tls: ClientTLS | None = None, *, go_ahead: bytes = b"", patience: float = PATIENCE
) -> Endpoint:
    """Connect as a blocking client and complete the handshake; the caller closes what is returned.

    Raises ProtocolError when the server says anything else than the `go_ahead`.
    """
    sock = socket.create_connection(address, timeout=patience)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    endpoint = Endpoint(sock)
    try:
        require_go_ahead(Options(go_ahead=go_ahead), endpoint.read(len(go_ahead)))
        if tls is None:
            endpoint.handshake()
        else:
            endpoint.begin_tls(tls.context, tls.server_name)
    except BaseException:
        endpoint.close()
        raise
    endpoint.received.clear()
    return endpoint


def call(
    address: Address, tls: ClientTLS | None, request: bytes, *, go_ahead: bytes = b"", patience: float = PATIENCE
) -> bytes:
    """Connect, send the request, read the reply to its end, close; return the reply.

    Raises TimeoutError when the end does not come.
    """
    endpoint = dial(address, tls, go_ahead=go_ahead, patience=patience)
    try:
        endpoint.send(request)
        reply = endpoint.read_to_end()
        if endpoint.end is End.NONE:
            raise TimeoutError(f"{reply[:40]!r} came, and the stream did not end")
        endpoint.finish()
    finally:
        endpoint.close()
    return reply
