"""The one full handshake without which a client has nothing to resume.

The core has it by itself, over a blocking socket, before anything is timed and the same for every contender: so no
backend has to know about sessions, and none of them has code for it on its timed path. With TLS 1.3 the tickets follow
the handshake, so that there is a session only once something was read.
"""

import socket
import ssl
from contextlib import suppress

from loopmark import tls
from loopmark.errors import FactsError, translate
from loopmark.service import Talk
from loopmark.spi import Address, ClientTLS, Options, require_go_ahead


def resume_from_now_on(client: ClientTLS, address: Address, talk: Talk, options: Options) -> None:
    """Have the conversation once, and let every later handshake of this client offer the session that it gave.

    Raises FactsError when the server gave no ticket, ProtocolError or TrafficError when the conversation failed.
    """
    try:
        session = _first_session(client, address, talk, options)
    except OSError as error:  # ssl.SSLError is one
        raise translate(error) from error
    tls.offer(client.context, session)


def _first_session(client: ClientTLS, address: Address, talk: Talk, options: Options) -> ssl.SSLSession:
    with socket.create_connection(address, timeout=options.handshake_timeout) as plain:
        require_go_ahead(options, _read(plain, len(options.go_ahead)))
        with client.context.wrap_socket(plain, server_hostname=client.server_name, suppress_ragged_eofs=False) as sock:
            reply = b""
            for _ in range(talk.rounds):
                for part in talk.parts:
                    sock.sendall(part)
                reply = _read(sock, talk.reply_size)
            talk.check(reply)
            session = sock.session
            # The server may be gone already. Else this waits for its end, so that its counts are settled.
            with suppress(OSError):
                sock.unwrap()
    if session is None or not session.has_ticket:
        raise FactsError("the server gave no session ticket, so that nothing can be resumed")
    return session


def _read(sock: socket.socket, size: int | None) -> bytes:
    """Read this many bytes, or less where the stream ends; None: all of them."""
    data = bytearray()
    while size is None or len(data) < size:
        if not (more := sock.recv(65536 if size is None else size - len(data))):
            break
        data += more
    return bytes(data)
