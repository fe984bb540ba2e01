"""What only a backend with threads can get wrong."""

import importlib
import socket
import ssl
import threading
from contextlib import ExitStack

import pytest

from loopmark.ledger import Ledger
from loopmark.service import AnswerOnce
from loopmark.spi import Address, Options, TLSProfile
from loopmark.tls import Identity, client_tls, server_context

# Type checkers do not see it: it is mounted from the checkout's own directory.
blocking = importlib.import_module("loopmark.backends.blocking")
AGES = 1_000_000.0
PATIENT = Options(go_ahead=b"GO", handshake_timeout=AGES, close_timeout=AGES)


@pytest.mark.timeout(30)
def test_leaving_ends_a_handler_whose_socket_is_being_wrapped(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap, hang_up = blocking._wrap, blocking._hang_up  # where the threads must meet
    is_wrapped, was_hung_up = threading.Event(), threading.Event()

    def wrap_slowly(sock: socket.socket, context: ssl.SSLContext, name: str | None = None) -> ssl.SSLSocket:
        wrapped: ssl.SSLSocket = wrap(sock, context, name)
        is_wrapped.set()
        was_hung_up.wait()
        return wrapped

    def hang_up_on_the_old_object(sock: socket.socket) -> None:
        hang_up(sock)
        if sock.fileno() < 0:
            was_hung_up.set()

    monkeypatch.setattr(blocking, "_wrap", wrap_slowly)
    monkeypatch.setattr(blocking, "_hang_up", hang_up_on_the_old_object)
    backend, ledger = blocking.Blocking(), Ledger(lambda: AnswerOnce(b"PING", b"PONG"))
    tls = server_context(TLSProfile(), identity)

    async def main() -> None:
        with socket.socket() as silent:
            async with backend.serve(ledger.accept, Address("127.0.0.1", 0), tls=tls, options=PATIENT) as server:
                silent.connect(server.listeners[0].getsockname())
                is_wrapped.wait()

    backend.run(main)
    assert ledger.counts().open == 0


@pytest.mark.timeout(30)
def test_a_failure_beside_it_ends_the_wait_for_a_go_ahead(identity: Identity) -> None:
    backend = blocking.Blocking()
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        address = Address(*listener.getsockname())

        async def wait() -> None:
            await backend.connect(address, tls=client_tls(TLSProfile(), identity), options=PATIENT)

        async def fail() -> None:
            silent, _ = listener.accept()
            stack.enter_context(silent)
            raise KeyError("ours")

        with pytest.raises(KeyError):
            backend.run(lambda: backend.gather(wait, fail))
