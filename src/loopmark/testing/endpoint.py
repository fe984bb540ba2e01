"""One connection as a reference peer sees it: blocking, bounded by its patience, and with a memory."""

import selectors
import socket
import ssl
import struct
from contextlib import suppress
from enum import StrEnum

from loopmark.errors import is_cut

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

    def begin_tls(self, context: ssl.SSLContext, server_name: str | None = None) -> None:
        """Put TLS on the open connection, as a client of the server with this name or else as a server."""
        self.sock = context.wrap_socket(
            self.sock,
            server_side=server_name is None,
            server_hostname=server_name,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        self.handshake()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sock.sendall(data)

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes; raises EOFError when the stream ends before."""
        data = bytearray()
        while len(data) < size:
            more = self._receive(size - len(data))
            if not more:
                raise EOFError(f"{len(data)} of {size} bytes, then {self.end}")
            data += more
        return bytes(data)

    def read_to_end(self) -> bytes:
        """Read until the partner ends its stream, however it does; `end` tells how."""
        data = bytearray()
        while more := self._receive(65536):
            data += more
        return bytes(data)

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
        except ssl.SSLError as error:
            data = self._ended(End.CUT if is_cut(error) else End.RESET)
        except ConnectionError:
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
