"""One hierarchy of errors, and the one place where a library's exceptions are translated into it."""

import ssl
from collections.abc import Iterator
from enum import StrEnum


class LoopmarkError(Exception):
    """Something the user can act on: its text says what is wrong, what exists and what to type."""


class UsageError(LoopmarkError):
    """The command line asks for something that does not exist or cannot be done."""


class UnavailableError(LoopmarkError):
    """A contender that is known but cannot run here, with the reason and the cure."""


class DamagedError(LoopmarkError):
    """A file that was stored earlier cannot be read as what it claims to be."""


class FactsError(LoopmarkError):
    """A live connection, a counter or a clock contradicts what the case promises."""


class VoidError(LoopmarkError):
    """Something outside of contender and suite spoilt a value; it may be taken again."""


class Kind(StrEnum):
    """How a conversation can fail, the same words on every backend."""

    CERTIFICATE = "certificate"
    TLS = "tls"
    RESET = "reset"
    EOF = "eof"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    OTHER = "other"


class TrafficError(LoopmarkError):
    """A conversation failed; `kind` says how, the library's own exception is the cause."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class ProtocolError(TrafficError):
    """The peer sent something else than the conversation wants."""

    def __init__(self, text: str) -> None:
        super().__init__(Kind.PROTOCOL, text)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, then what it wraps: members of groups, causes, contexts."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            todo.extend(current.exceptions)
        todo.extend((current.__cause__, current.__context__))


def is_cut(error: ssl.SSLError) -> bool:
    """Tell whether a stream ended without close_notify; before Python 3.11.4 that has no class of its own."""
    reason = getattr(error, "reason", None)  # those that are not OpenSSL's have none
    return isinstance(error, ssl.SSLEOFError) or reason == "UNEXPECTED_EOF_WHILE_READING"


# Exceptions of libraries that the core never imports are known by name.
_BY_NAME = {
    "TooSlowError": Kind.TIMEOUT,
    "EndOfStream": Kind.EOF,
    "IncompleteRead": Kind.EOF,
    "BrokenResourceError": Kind.RESET,
    "ClosedResourceError": Kind.RESET,
}


def _own_kind(error: BaseException) -> Kind:
    match error:
        case TrafficError():
            return error.kind
        case ssl.SSLCertVerificationError():
            return Kind.CERTIFICATE
        case ssl.SSLError() if is_cut(error):
            return Kind.EOF
        case ssl.SSLZeroReturnError() | EOFError():
            return Kind.EOF
        # Not a fault but a call for more bytes; anyio reads inside its handler, so that it is the context of any fault.
        case ssl.SSLWantReadError() | ssl.SSLWantWriteError():
            return Kind.OTHER
        case ssl.SSLError():
            return Kind.TLS
        case TimeoutError():
            return Kind.TIMEOUT
        # Not the system's, which have a number, but made up by asyncio and uvloop: for a handshake that took too long,
        # and for a stream that ended in its handshake, or before something was written.
        case ConnectionAbortedError(args=(str(text),)) if "handshake is taking longer" in text:
            return Kind.TIMEOUT
        case ConnectionResetError(args=() | ("Connection lost",)):
            return Kind.EOF
        case ConnectionError():
            return Kind.RESET
        case _:
            return _BY_NAME.get(type(error).__name__, Kind.OTHER)


# What says most wins: trio's BrokenResourceError, say, has the certificate's error as its cause.
_TELLING = (Kind.PROTOCOL, Kind.CERTIFICATE, Kind.TLS, Kind.TIMEOUT, Kind.EOF, Kind.RESET)


def kind_of(error: BaseException) -> Kind:
    """Classify any exception that a backend let fly, wrapped or not."""
    kinds = {_own_kind(each) for each in _chain(error)}
    return next((kind for kind in _TELLING if kind in kinds), Kind.OTHER)


def translate(error: BaseException) -> TrafficError:
    """Turn a backend's exception into the suite's own; raise it `from` the original."""
    if isinstance(error, TrafficError):
        return error
    telling = [each for each in _chain(error) if not isinstance(each, BaseExceptionGroup)]
    kind = kind_of(error)
    for each in telling:
        if _own_kind(each) is kind:
            return TrafficError(kind, _text(each))
    return TrafficError(kind, _text(error))


def _text(error: BaseException) -> str:
    if isinstance(error, TrafficError):
        return str(error).removeprefix(f"{error.kind}: ")
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
