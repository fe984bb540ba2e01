"""Reference peers: blocking sockets, a thread per connection, the standard library and nothing of what they judge.

They count and remember on their own. Every wait is bounded by the peer's patience, so that a broken partner makes them
fail rather than hang.
"""

import selectors
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Self

from loopmark.spi import Address, ClientTLS

PATIENCE = 5.0
"""Seconds that a reference peer waits for its partner's next byte."""

_ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset."""


class End(StrEnum):
    """How a partner ended its stream; a cut is a TLS stream's end without close_notify."""

    CLOSE_NOTIFY = "close_notify"
    FIN = "FIN"
    CUT = "FIN without close_notify"
    RESET = "reset"
    NONE = "nothing"


class Endpoint:
    """One connection as a reference peer sees it, in either role; members are read by others once it is over."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.index = 0
        """The connection's number on its server, from 0."""
        self.received = bytearray()
        self.end = End.NONE
        """How the partner's stream ended, as far as it was read."""
        self.closed = False
        """True once the partner's TCP stream has ended, too."""
        self.partner_first = False
        """True if the partner ended its stream before we ended ours."""
        self._finished = False
        self._tired = self._abandoned = False

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The TLS socket, None on a plain connection."""
        return self.sock if isinstance(self.sock, ssl.SSLSocket) else None

    def handshake(self) -> None:
        """Complete the handshake and remember what was negotiated."""
        self.version = self.cipher = self.alpn = None
        self.resumed = False
        if self.tls is not None:
            self.tls.do_handshake()
            cipher = self.tls.cipher()
            self.version, self.cipher = self.tls.version(), cipher[0] if cipher else None
            self.alpn, self.resumed = self.tls.selected_alpn_protocol(), bool(self.tls.session_reused)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sock.sendall(data)

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes; raises EOFError when the stream ends before."""
        data = b""
        while len(data) < size:
            more = self._receive(size - len(data))
            if not more:
                raise EOFError(f"{len(data)} of {size} bytes, then {self.end}")
            data += more
        return data

    def read_to_end(self) -> bytes:
        """Read until the partner ends its stream, however it does; `end` tells how."""
        data = b""
        while more := self._receive(65536):
            data += more
        return data

    def hears(self, seconds: float) -> bool:
        """Tell whether the partner says anything, if only goodbye, within this time."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.sock, selectors.EVENT_READ)
            return bool(selector.select(seconds))

    def finish(self) -> None:
        """Send close_notify on TLS, then FIN, and wait for nothing."""
        if self._finished:
            return
        self._finished = True
        if self.tls is not None and self.end is not End.CUT:
            self.say_goodbye()
        with suppress(OSError):
            # The wrapper's own shutdown forgets the TLS state.
            socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def say_goodbye(self) -> None:
        """Send close_notify and leave the TCP stream open."""
        assert self.tls is not None
        patience = self.tls.gettimeout()
        self.tls.setblocking(False)
        # Ours is sent by the time that OpenSSL asks for the partner's.
        with suppress(OSError, ValueError):
            self.tls.unwrap()
        self.tls.settimeout(patience)

    def cut(self) -> None:
        """End the stream with FIN alone, on TLS without close_notify."""
        self._finished = True
        socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def reset(self) -> None:
        """Reset the connection."""
        self._finished = True
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self.sock.close()

    def complete(self) -> None:
        """See the conversation to its end: read the rest, end our stream, wait until the partner has closed."""
        if self.sock.fileno() < 0:
            return
        if self.end is End.NONE and not self._tired:
            self.read_to_end()
        self.finish()
        if self.end in (End.NONE, End.RESET):
            self.closed = self.end is End.RESET
            return
        try:
            while socket.socket.recv(self.sock, 65536):
                pass
        except TimeoutError:
            return
        except OSError:
            pass
        self.closed = not self._abandoned

    def hang_up(self) -> None:
        """Wake up whoever is blocked on the socket; what it sees then is not the partner's doing."""
        self._abandoned = True
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket without any ceremony."""
        self.sock.close()

    def _receive(self, size: int) -> bytes:
        if self.end is not End.NONE:
            return b""
        try:
            data = self.sock.recv(size)
            if not data:
                self._ended(End.CLOSE_NOTIFY if self.tls else End.FIN)
        except ssl.SSLZeroReturnError:
            data = self._ended(End.CLOSE_NOTIFY)
        except ssl.SSLEOFError:
            data = self._ended(End.CUT)
        except (ConnectionError, ssl.SSLError):
            data = self._ended(End.RESET)
        except TimeoutError:
            # `end` stays as it is: the partner has not ended its stream.
            data, self._tired = b"", True
        self.received += data
        return data

    def _ended(self, end: End) -> bytes:
        self.end = end
        self.partner_first = not self._finished
        return b""


class ReferenceServer:
    """Serves a script per connection, each in a thread; a context manager whose end waits for all conversations.

    The script gets the connection after its handshake; what it leaves undone (read the rest, end our stream) is done
    when it returns. Exceptions of scripts are kept in `faults`.
    """

    def __init__(
        self,
        script: Callable[[Endpoint], None],
        *,
        host: str = "127.0.0.1",
        context: ssl.SSLContext | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._script = script
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
            if self._context is not None:
                connection.sock = _wrap(connection.sock, self._context)
            connection.handshake()
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


def dial(address: Address, tls: ClientTLS | None = None, *, patience: float = PATIENCE) -> Endpoint:
    """Connect as a blocking client and complete the handshake; the caller closes what is returned."""
    sock = socket.create_connection(address, timeout=patience)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    endpoint = Endpoint(sock if tls is None else _wrap(sock, tls.context, tls.server_name))
    try:
        endpoint.handshake()
    except BaseException:
        endpoint.close()
        raise
    return endpoint


def call(address: Address, tls: ClientTLS | None, request: bytes, *, patience: float = PATIENCE) -> bytes:
    """Connect, send the request, read the reply to its end, close; return the reply.

    Raises TimeoutError when the end does not come.
    """
    endpoint = dial(address, tls, patience=patience)
    try:
        endpoint.send(request)
        reply = endpoint.read_to_end()
        if endpoint.end is End.NONE:
            raise TimeoutError(f"{reply[:40]!r} came, and the stream did not end")
        endpoint.finish()
    finally:
        endpoint.close()
    return reply


def _wrap(sock: socket.socket, context: ssl.SSLContext, server_name: str | None = None) -> ssl.SSLSocket:
    return context.wrap_socket(
        sock,
        server_side=server_name is None,
        server_hostname=server_name,
        do_handshake_on_connect=False,
        suppress_ragged_eofs=False,
    )
