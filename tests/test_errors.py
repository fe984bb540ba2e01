"""How exceptions are classified: the ones that the libraries really raise, wrapped as they wrap them."""

import asyncio
import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import anyio
import pytest
import trio

from loopmark.errors import Kind, ProtocolError, TrafficError, kind_of, translate
from loopmark.spi import Address


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


def while_handling(outer: Exception, inner: Exception) -> Exception:
    outer.__context__ = inner
    return outer


def cut_before_3_11_4() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL: UNEXPECTED_EOF_WHILE_READING] unexpected eof while reading")
    error.reason = "UNEXPECTED_EOF_WHILE_READING"
    return error


BAD_CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed")
WANT_READ = ssl.SSLWantReadError(2, "The operation did not complete")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BAD_CERTIFICATE, Kind.CERTIFICATE),
        (caused(trio.BrokenResourceError(), BAD_CERTIFICATE), Kind.CERTIFICATE),
        (ssl.SSLError(1, "wrong version number"), Kind.TLS),
        (caused(trio.BrokenResourceError(), ssl.SSLError(1, "bad record mac")), Kind.TLS),
        (ConnectionResetError(104, "reset"), Kind.RESET),
        (BrokenPipeError(32, "broken pipe"), Kind.RESET),
        (ConnectionRefusedError(111, "refused"), Kind.RESET),
        (trio.BrokenResourceError(), Kind.RESET),
        (trio.ClosedResourceError(), Kind.RESET),
        (anyio.BrokenResourceError(), Kind.RESET),
        (anyio.ClosedResourceError(), Kind.RESET),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), Kind.EOF),
        (cut_before_3_11_4(), Kind.EOF),
        (ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed"), Kind.EOF),
        (caused(trio.BrokenResourceError(), ssl.SSLEOFError(8, "EOF")), Kind.EOF),
        (asyncio.IncompleteReadError(b"PO", 4), Kind.EOF),
        (http.client.IncompleteRead(b"PO", 2), Kind.EOF),
        (EOFError(), Kind.EOF),
        # Made up by asyncio and uvloop.
        (ConnectionResetError(), Kind.EOF),
        (ConnectionResetError("Connection lost"), Kind.EOF),
        (
            ConnectionAbortedError("SSL handshake is taking longer than 60.0 seconds: aborting the connection"),
            Kind.TIMEOUT,
        ),
        (ConnectionAbortedError(103, "Software caused connection abort"), Kind.RESET),
        (anyio.EndOfStream(), Kind.EOF),
        (TimeoutError(), Kind.TIMEOUT),
        (TimeoutError("timed out"), Kind.TIMEOUT),
        (OSError(110, "Connection timed out"), Kind.TIMEOUT),
        (trio.TooSlowError(), Kind.TIMEOUT),
        (ProtocolError("wrong reply"), Kind.PROTOCOL),
        (TrafficError(Kind.RESET, "gone"), Kind.RESET),
        (OSError(24, "Too many open files"), Kind.OTHER),
        (ZeroDivisionError(), Kind.OTHER),
        (asyncio.CancelledError(), Kind.OTHER),
    ],
    ids=lambda value: value if isinstance(value, Kind) else type(value).__name__,
)
def test_each_librarys_exception_has_its_kind(error: BaseException, kind: Kind) -> None:
    assert kind_of(error) is kind


def test_nested_groups_are_searched_to_the_ground() -> None:
    inner = ExceptionGroup("jobs", [caused(trio.BrokenResourceError(), BAD_CERTIFICATE)])
    assert kind_of(ExceptionGroup("nursery", [ValueError(), ExceptionGroup("job", [inner])])) is Kind.CERTIFICATE


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ([ConnectionResetError(104, "reset"), ProtocolError("wrong reply")], Kind.PROTOCOL),
        ([ConnectionResetError(104, "reset"), BAD_CERTIFICATE], Kind.CERTIFICATE),
        ([ssl.SSLError(1, "bad"), BAD_CERTIFICATE], Kind.CERTIFICATE),
        ([ConnectionResetError(104, "reset"), TimeoutError()], Kind.TIMEOUT),
        ([ConnectionResetError(104, "reset"), EOFError()], Kind.EOF),
        ([ValueError(), ConnectionResetError(104, "reset")], Kind.RESET),
    ],
)
def test_of_several_faults_the_one_that_says_most_wins(members: list[Exception], kind: Kind) -> None:
    assert kind_of(ExceptionGroup("jobs", members)) is kind
    assert kind_of(ExceptionGroup("jobs", members[::-1])) is kind


def test_what_failed_first_shows_through_a_failed_clean_up() -> None:
    assert kind_of(while_handling(OSError(9, "Bad file descriptor"), BAD_CERTIFICATE)) is Kind.CERTIFICATE


@pytest.mark.parametrize("want", [WANT_READ, ssl.SSLWantWriteError(3, "The operation did not complete")])
@pytest.mark.parametrize(
    ("error", "kind"), [(ConnectionResetError(104, "reset"), Kind.RESET), (TimeoutError(), Kind.TIMEOUT)]
)
def test_a_call_for_more_bytes_is_not_a_tls_fault(want: ssl.SSLError, error: Exception, kind: Kind) -> None:
    assert kind_of(while_handling(error, want)) is kind


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError(), ConnectionResetError(104, "reset")
    first.__cause__, second.__cause__ = second, first
    assert kind_of(first) is Kind.RESET


def test_translating_names_the_exception_that_tells_most() -> None:
    error = ExceptionGroup("jobs", [caused(trio.BrokenResourceError("socket connection broken"), BAD_CERTIFICATE)])
    translated = translate(error)
    assert translated.kind is Kind.CERTIFICATE
    assert str(translated).startswith("certificate: SSLCertVerificationError: ")
    assert "certificate verify failed" in str(translated)


def test_translating_our_own_error_gives_it_back() -> None:
    error = TrafficError(Kind.EOF, "cut")
    assert translate(error) is error


def test_our_own_error_in_a_group_keeps_its_words() -> None:
    error = ExceptionGroup("nursery", [ProtocolError("expected PONG")])
    assert str(translate(error)) == str(ProtocolError("expected PONG")) == "protocol: expected PONG"


def test_an_unknown_exception_is_named() -> None:
    assert str(translate(ZeroDivisionError("division by zero"))) == "other: ZeroDivisionError: division by zero"


def test_an_exception_without_words_has_no_dangling_colon() -> None:
    assert str(translate(TimeoutError())) == "timeout: TimeoutError"


async def shake_with_asyncio(address: Address, context: ssl.SSLContext) -> None:
    await asyncio.open_connection(*address, ssl=context, server_hostname="localhost")


async def shake_with_trio(address: Address, context: ssl.SSLContext) -> None:
    async with await trio.open_tcp_stream(*address) as stream:
        await trio.SSLStream(stream, context, server_hostname="localhost").do_handshake()


async def shake_with_anyio(address: Address, context: ssl.SSLContext) -> None:
    await anyio.connect_tcp(address.host, address.port, tls=True, ssl_context=context, tls_hostname="localhost")


def run_with_asyncio(address: Address, context: ssl.SSLContext) -> None:
    asyncio.run(shake_with_asyncio(address, context))


def run_with_trio(address: Address, context: ssl.SSLContext) -> None:
    trio.run(shake_with_trio, address, context)


def run_with_anyio(backend: str, address: Address, context: ssl.SSLContext) -> None:
    anyio.run(shake_with_anyio, address, context, backend=backend)


def run_with_sockets(address: Address, context: ssl.SSLContext) -> None:
    with socket.create_connection(address) as sock:
        context.wrap_socket(sock, server_hostname="localhost")


@contextmanager
def broken_server(answer: bytes) -> Iterator[Address]:
    """Answer the first bytes of one client with these, and then reset the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            # A client that goes with our answer unread resets the connection before we can.
            with connection, suppress(ConnectionError):
                connection.recv(65536)
                if answer:
                    connection.sendall(answer)
                    connection.recv(65536)  # until the client has seen it and gone
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=serve)
        thread.start()
        yield Address(*listener.getsockname())
        thread.join()


@pytest.mark.parametrize(("answer", "kind"), [(b"", Kind.RESET), (b"HTTP/1.0 400 No TLS\r\n\r\n", Kind.TLS)])
@pytest.mark.parametrize(
    "shake",
    [run_with_asyncio, run_with_trio, partial(run_with_anyio, "asyncio"), partial(run_with_anyio, "trio"),
     run_with_sockets],
    ids=["asyncio", "trio", "anyio+asyncio", "anyio+trio", "blocking"],
)  # fmt: skip
def test_a_broken_handshake_has_the_same_kind_with_every_library(
    shake: Callable[[Address, ssl.SSLContext], None], answer: bytes, kind: Kind
) -> None:
    with (
        broken_server(answer) as address,
        pytest.raises((OSError, trio.BrokenResourceError, anyio.BrokenResourceError)) as caught,
    ):
        shake(address, ssl.create_default_context())
    assert kind_of(caught.value) is kind
