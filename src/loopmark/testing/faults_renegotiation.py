"""A peer that renegotiates. Python's ssl cannot, so OpenSSL itself is called, through the extension that has it."""

# ruff: noqa: D401  # a fault's docstring says what the peer does

import _ssl
import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from loopmark.errors import Kind
from loopmark.testing.faults_ground import Fault, Setting, Target, fault
from loopmark.testing.ground import BrokenContract, NotApplicable, expect

_SET_MAX_PROTO_VERSION = 124
"""SSL_CTRL_SET_MAX_PROTO_VERSION; SSL_CTX_set_max_proto_version is a macro."""

_HANDLES = ("TLS_client_method", "SSL_CTX_new", "SSL_new")
_FUNCTIONS = (
    *("SSL_CTX_ctrl", "SSL_set_fd", "SSL_connect", "SSL_renegotiate", "SSL_do_handshake"),
    *("SSL_free", "SSL_CTX_free"),
)


@fault(Kind.TLS, settings=frozenset({Setting.TLS_1_2}))
def renegotiation(to: Target, count: int) -> None:
    """A peer asks for a second handshake on a connection of TLS 1.2; it is refused or ignored."""
    for _ in range(count):
        with socket.create_connection(to.address, timeout=to.patience) as sock, _tls_1_2(sock, to.patience) as tls:
            library = _openssl()
            expect(library.SSL_connect(tls) == 1, "the first handshake failed")
            library.SSL_renegotiate(tls)
            if library.SSL_do_handshake(tls) == 1:
                raise BrokenContract("the server let its client renegotiate")


@contextmanager
def _tls_1_2(sock: socket.socket, patience: float) -> Iterator[Any]:
    """Make OpenSSL's client on a socket, which blocks as long as our patience lasts."""
    library = _openssl()
    sock.setblocking(True)
    limit = struct.pack("ll", int(patience), int(patience % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, limit)
    context = ctypes.c_void_p(library.SSL_CTX_new(ctypes.c_void_p(library.TLS_client_method())))
    library.SSL_CTX_ctrl(context, _SET_MAX_PROTO_VERSION, ctypes.c_long(0x0303), None)
    tls = ctypes.c_void_p(library.SSL_new(context))
    library.SSL_set_fd(tls, sock.fileno())
    try:
        yield tls
    finally:
        library.SSL_free(tls)
        library.SSL_CTX_free(context)


@cache
def _openssl() -> Any:
    """Return the library that Python's ssl uses; raises NotApplicable where its functions cannot be reached."""
    path = getattr(_ssl, "__file__", None)
    if path is None or not os.path.exists(path):  # noqa: PTH110  # it is a string, and stays one
        raise NotApplicable("OpenSSL is built into this Python, so that nobody can renegotiate")
    library = ctypes.CDLL(path)
    if missing := [name for name in _HANDLES + _FUNCTIONS if not hasattr(library, name)]:
        raise NotApplicable(f"this Python's OpenSSL shows no {missing[0]}, so that nobody can renegotiate")
    for name in _HANDLES:
        getattr(library, name).restype = ctypes.c_void_p
    return library


RENEGOTIATIONS: tuple[Fault, ...] = (renegotiation,)
