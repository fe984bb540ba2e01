"""What peers that do harm are made of: TLS in memory, whose records a script can change, and bytes that are no TLS.

The standard library's blocking sockets, and every wait is bounded by the peer's patience. Both roles: injectors for
servers play clients with it, those for clients play servers.
"""

import random
import socket
import ssl
from contextlib import suppress
from types import TracebackType
from typing import Self

from loopmark.spi import Address
from loopmark.testing.endpoint import PATIENCE, End, Endpoint

OVERSIZED = 2**16 - 1
"""Bytes of the longest record that a header can announce; TLS allows 2**14 and some more."""

HANDSHAKE, DATA = 22, 23
"""Types of records."""

_HEADER = 5
_NULL_CIPHER = b"\x00\x02"
"""TLS_RSA_WITH_NULL_SHA, which nobody takes."""
_TLS_1_0 = b"\x03\x01"
_CIPHERS_AT = _HEADER + 4 + 2 + 32
"""Where a ClientHello's session id begins, after headers of record and message, version and random."""


class Hostile:
    """A peer on an open connection, with TLS in memory once it was begun; `raw` puts any bytes on the wire."""

    def __init__(self, sock: socket.socket, *, patience: float = PATIENCE) -> None:
        sock.settimeout(patience)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.end = End.NONE
        """How the partner's stream ended, as far as it was read; on TLS a FIN is not told from a cut."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None

    @classmethod
    def dial(cls, address: Address, *, patience: float = PATIENCE) -> Self:
        """Connect as a client."""
        return cls(socket.create_connection(address, timeout=patience), patience=patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.sock.close()

    def begin_tls(self, context: ssl.SSLContext, server_name: str | None = None) -> None:
        """Put TLS on it, as a client of the server with this name or else as a server; nothing is sent yet."""
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )

    def flight(self) -> bytes:
        """Take the handshake as far as it goes with what has arrived; return what is to be sent, b"" at its end.

        A client's first one is its ClientHello. Raises ssl.SSLError when the partner refuses.
        """
        assert self._tls is not None
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    def handshake(self) -> None:
        """Complete the handshake; raises ssl.SSLError, EOFError or OSError when it fails."""
        assert self._tls is not None
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.raw(self._outgoing.read())
                if not self.feed():
                    raise EOFError(f"the handshake ended with {self.end}") from None
            else:
                self.raw(self._outgoing.read())
                return

    def seal(self, data: bytes) -> bytes:
        """Encrypt without sending; return the records."""
        if self._tls is None:
            return data
        self._tls.write(data)
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        """Return close_notify's record without sending it."""
        assert self._tls is not None
        # Ours is there by the time that OpenSSL looks for the partner's, and finds none yet, or data.
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        return self._outgoing.read()

    def send(self, data: bytes) -> None:
        """Send data as a good peer would."""
        self.raw(self.seal(data))

    def raw(self, data: bytes) -> None:
        """Put bytes on the wire as they are."""
        self.sock.sendall(data)

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes of what the partner says; raises EOFError when its stream ends before."""
        data = bytearray()
        while len(data) < size:
            data += self._read_some(size - len(data))
        return bytes(data)

    def _read_some(self, size: int) -> bytes:
        while self._tls is not None:
            try:
                data = self._tls.read(size)
            except ssl.SSLWantReadError:
                if not self.feed():
                    raise EOFError(f"the stream ended with {self.end}") from None
            else:
                if not data:
                    self.end = End.CLOSE_NOTIFY
                    raise EOFError("the stream ended with close_notify")
                return data
        data = self.sock.recv(size)
        if not data:
            self.end = End.FIN
            raise EOFError("the stream ended with FIN")
        return data

    def feed(self) -> bytes:
        """Take what arrives next and give it to TLS; return it, b"" once the partner's TCP stream has ended."""
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            data, self.end = b"", End.RESET
        else:
            if not data:
                self.end = End.FIN
        self._incoming.write(data)
        return data

    def is_dropped(self) -> bool:
        """Wait until the partner has ended its TCP stream, whatever it says before; False when our patience ends."""
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            self.end = End.RESET
        else:
            self.end = End.FIN
        return True

    def leave(self) -> None:
        """Read to the end of the partner's stream and end ours as a good peer would."""
        with suppress(EOFError):
            while True:
                self.read(1)
        if self.end is End.CLOSE_NOTIFY:
            # The partner need not have waited for ours.
            with suppress(OSError):
                self.raw(self.goodbye())
        self.cut()

    def cut(self) -> None:
        """End our stream with FIN alone, on TLS without close_notify."""
        # The partner may be gone already.
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Reset the connection."""
        Endpoint(self.sock).reset()


def client_hello(context: ssl.SSLContext, server_name: str) -> bytes:
    """Return the record that a client with this context begins with; no two are the same."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=server_name).do_handshake()
    return outgoing.read()


def without_ciphers(hello: bytes) -> bytes:
    """Return the same ClientHello, but with every cipher replaced by one that no server takes."""
    start = _CIPHERS_AT + 1 + hello[_CIPHERS_AT]
    size = int.from_bytes(hello[start : start + 2])
    return hello[: start + 2] + _NULL_CIPHER * (size // 2) + hello[start + 2 + size :]


def of_tls_1_0(hello: bytes) -> bytes:
    """Return a ClientHello of TLS 1.2 as one that knows nothing newer than TLS 1.0."""
    at = _HEADER + 4
    return hello[:at] + _TLS_1_0 + hello[at + 2 :]


def oversized(kind: int) -> bytes:
    """Return a record of this type that is longer than any may be."""
    return bytes([kind, 3, 3]) + OVERSIZED.to_bytes(2) + bytes(OVERSIZED)


def flipped(record: bytes, bit: int) -> bytes:
    """Return the same record with one bit of its body flipped; bits are counted modulo their number."""
    place, bit = divmod(bit % (8 * (len(record) - _HEADER)), 8)
    damaged = bytearray(record)
    damaged[_HEADER + place] ^= 1 << bit
    return bytes(damaged)


def garbage(size: int, seed: int) -> bytes:
    """Return bytes that are no TLS, the same for the same seed."""
    # The first byte is no record's type, so that it is garbage for certain.
    return b"\xff" + random.Random(seed).randbytes(size - 1)  # noqa: S311  # it is to be reproducible, not secret
