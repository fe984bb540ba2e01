"""The contract for backends. It needs nothing but the standard library, and no async library.

It is coarse on purpose: the timed work happens inside the backend's own code, in its library's own idiom. A thin
read/write interface would put a frame of ours into every round trip. What must be the same for all comes from the core:
contexts, address, backlog, deadlines, what is said and when a connection is closed.
"""

import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, TypeVar

from loopmark.errors import ProtocolError
from loopmark.service import Service

T = TypeVar("T")

Main: TypeAlias = Callable[[], Coroutine[Any, Any, T]]
"""A coroutine function without arguments."""

LoopFactory: TypeAlias = Callable[[], Any]
"""Makes a new asyncio-compatible event loop; `Any`, because the core does not import asyncio."""


class Feature(StrEnum):
    """What a backend may or may not be able to do; declared, and proven by the contract checker."""

    TCP = "tcp"
    TLS = "tls"
    START_TLS = "start_tls"
    """Makes an open plain connection one with TLS, on either side."""
    HALF_CLOSE = "half-close"
    """Ends its own stream and goes on reading."""
    FILES = "files"
    """Sends a file in pieces."""
    SENDFILE = "sendfile"
    """Lets the kernel send a file."""
    DATAGRAMS = "datagrams"
    RESOLVER = "resolver"
    LIMITER = "limiter"
    """Has a semaphore."""


class Address(NamedTuple):
    """Where a server listens; `host` is a numeric address, so that no resolver is part of the work."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The same for every contender; seconds as float.

    Clients connect from the address `source`, where it is not empty. With a `go_ahead` a TLS connection begins as a
    plain one: the server sends these bytes in the clear, once for each connection, the client reads them, and then both
    upgrade.
    """

    backlog: int = 4096
    nodelay: bool = True
    handshake_timeout: float = 60.0
    close_timeout: float = 30.0
    deadline: float = 60.0
    """For a client's whole conversation, from connect to close; what takes longer has failed."""
    go_ahead: bytes = b""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTLS:
    """What a client needs for TLS; the name is verified against the certificate."""

    context: ssl.SSLContext
    server_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSProfile:
    """One way of doing TLS, as an axis of a case."""

    version: str = "1.3"
    key: str = "p256"
    group: str = "X25519"
    cipher: str | None = None
    """OpenSSL's name of the one cipher of TLS 1.2; None: what the two sides agree on."""
    tickets: int = 0
    """Session tickets that a server sends after a handshake; TLS 1.2 knows only none and one."""
    resumed: bool = False
    """Every handshake of a client takes up an older session, else none does."""
    client_key: str | None = None
    """Key type of the certificate that clients show and servers verify; None: they show none."""


def require_go_ahead(options: Options, received: bytes) -> None:
    """Raise ProtocolError unless a server said what it was to say before TLS begins."""
    if received != options.go_ahead:
        raise ProtocolError(f"expected the go-ahead {options.go_ahead!r}, got {received[:40]!r}")


class _HasSocketOptions(Protocol):
    def getsockopt(self, level: int, option: int, /) -> int: ...


class _HasTLSState(Protocol):
    """What `ssl.SSLObject`, `ssl.SSLSocket` and their wrappers in other libraries share."""

    def version(self) -> str | None: ...
    def cipher(self) -> tuple[str, str, int] | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a live connection really is, read back from it; TLS members are None on a plain one."""

    loop: str
    transport: str
    nodelay: bool | None
    """None without TCP."""
    tls_version: str | None = None
    cipher: str | None = None
    session_reused: bool | None = None
    verified: bool | None = None
    peer: str | None = None
    """Address of the other side, for people who watch; None where the socket has none, or has lost it."""

    @classmethod
    def read(
        cls, *, loop: object, transport: object, sock: _HasSocketOptions | None, tls: _HasTLSState | None = None
    ) -> "Facts":
        """Read a connection: `loop` and `transport` are the running ones, or names for what has no class.

        `sock` None is for what has no TCP.
        """
        plain = cls(
            loop=loop if isinstance(loop, str) else _class_name(loop),
            transport=transport if isinstance(transport, str) else _class_name(transport),
            nodelay=None if sock is None else bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)),
            peer=_peer(sock),
        )
        if tls is None:
            return plain
        cipher = tls.cipher()
        # SSLObject and SSLSocket have these beyond what all wrappers share.
        reused = getattr(tls, "session_reused", None)
        return replace(
            plain,
            tls_version=tls.version(),
            cipher=cipher[0] if cipher else None,
            session_reused=None if reused is None else bool(reused),
            verified=_verified(tls),
        )


def _peer(sock: object) -> str | None:
    try:
        host, port = sock.getpeername()[:2]  # type: ignore[attr-defined]  # what has no name, has no peer
    except (AttributeError, OSError):
        return None
    return str(Address(host, port))


def _verified(tls: _HasTLSState) -> bool | None:
    """Tell whether the peer's chain and name were checked; None where the library does not let us see."""
    context, certificate = getattr(tls, "context", None), getattr(tls, "getpeercert", None)
    if context is None or certificate is None:
        return None
    # The decoded certificate is empty unless OpenSSL has validated it. Only clients check names.
    named = context.check_hostname or context.protocol is ssl.PROTOCOL_TLS_SERVER
    return context.verify_mode is ssl.CERT_REQUIRED and named and bool(certificate())


def _class_name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


Accept: TypeAlias = Callable[[Callable[[], Facts]], Service]
"""Called by a server once for every connection, as early as its library tells of it.

The argument reads the live connection's facts; the core calls it when it wants them, mostly never.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that listens; the core reads address and backlog off its sockets."""

    listeners: tuple[socket.socket, ...]


class Connection(ABC):
    """One established connection, seen from the client's side."""

    __slots__ = ()

    @abstractmethod
    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        """Write the parts one by one, then read the reply, `rounds` times; return the last reply.

        An empty part ends our own stream, and reading goes on (`Feature.HALF_CLOSE`).

        A reply has exactly `reply_size` bytes; None means all until the end of the stream, and the library's own
        exception flies when the stream ends early or is cut. After an exchange that failed or was cancelled, `close`
        waits for nothing.
        """

    @abstractmethod
    async def close(self) -> None:
        """Send close_notify on TLS, then close; after the peer's own end this waits for nothing more."""

    @abstractmethod
    def facts(self) -> Facts:
        """Read this connection's facts off the live objects."""


class Datagrams(ABC):
    """A client's datagram socket, connected to one server."""

    __slots__ = ()

    @abstractmethod
    async def exchange(self, payload: bytes, deadline: float) -> bytes | None:
        """Send a datagram and wait for the next one to arrive; None when none has after `deadline` seconds."""

    @abstractmethod
    async def close(self) -> None:
        """Close the socket."""

    @abstractmethod
    def facts(self) -> Facts:
        """Read the socket's facts."""


class Limiter(Protocol):
    """A semaphore of the library's own."""

    async def acquire(self) -> object:
        """Wait for a free slot and take it."""

    def release(self) -> object:
        """Give a slot back."""


Answer: TypeAlias = Callable[[bytes], bytes | None]
"""A datagram server's side of the conversation: the answer to a datagram, None for none. It never raises."""


class Backend(ABC):
    """One way of doing I/O; those of the asyncio family are given a loop factory.

    A library's exceptions fly as they are: `loopmark.errors` translates them in one place.
    """

    features: frozenset[Feature]
    """What this instance can do: what the API has, less what the loop lacks."""

    distributions: tuple[str, ...] = ()
    """The packages whose versions belong into the results."""

    yardstick: ClassVar[bool] = False
    """True for the hand-written comparison code in the tests, which knows no services."""

    churn: Callable[..., Coroutine[Any, Any, int]] | None = None
    """A hand-written replacement of `loopmark.traffic.churn`; None for every contender."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Let who changes `connect`, and does not say how to `ask`, ask in parts: nothing may go around the change."""
        super().__init_subclass__(**options)
        if "connect" in vars(cls) and "ask" not in vars(cls):
            cls.ask = Backend.ask  # type: ignore[method-assign]  # what it would have without the class between

    def __init__(self, loop_factory: LoopFactory | None = None) -> None:
        self.loop_factory = loop_factory

    @abstractmethod
    def run(self, main: Main[T], /) -> T:
        """Run a coroutine function to its end on a fresh loop, which is closed before this returns."""

    @abstractmethod
    def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AbstractAsyncContextManager[Server]:
        """Listen inside the context; on leaving it, stop listening and drop whatever is still open, at once.

        `address.port` 0 lets the system choose. No peer may end the server: what a connection's handler meets is told
        to `Service.lost`, and the next connection is served.
        """

    @abstractmethod
    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        """Connect, and with `tls` complete the handshake and verify chain and name.

        No scope, nursery or task outlives the call.
        """

    async def ask(
        self,
        address: Address,
        request: bytes,
        at_a_time: int,  # noqa: ARG002  # the parts do without
        *,
        tls: ClientTLS | None,
        options: Options,
    ) -> bytes:
        """Connect as `connect` does, send the request, read to the end of the stream, close; return what was read.

        Where the library wants to be told how much to read at a time, it is `at_a_time` bytes, as with
        `Service.at_a_time`; the reply may be longer.

        This is the most common conversation of all. By its parts, as here, it costs what the shape of our contract
        costs; those who write it as their library's documentation would have nothing between it and the library.
        """
        connection = await self.connect(address, tls=tls, options=options)
        try:
            return await connection.exchange((request,), None, 1)
        finally:
            await connection.close()

    @abstractmethod
    async def gather(self, *jobs: Main[None]) -> None:
        """Run all jobs at once; the first failure cancels the rest and is raised."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Let everything else run for a while."""

    @abstractmethod
    async def within(self, seconds: float, job: Main[T]) -> T:
        """Run a job and return what it does; after so many seconds it is cancelled, and the library's own error raised.

        This bounds what has no deadline of its own: connecting, exchanges, closing. It is called once around all of the
        work rather than for each connection, which would cost each of them something.
        """

    def limiter(self, slots: int, /) -> Limiter:
        """Make a semaphore, inside a running loop (`Feature.LIMITER`)."""
        raise NotImplementedError

    def serve_datagrams(
        self, answer: Answer, note: Callable[[Callable[[], Facts]], None], address: Address
    ) -> AbstractAsyncContextManager[Server]:
        """Answer datagrams inside the context; the one listener is the bound socket (`Feature.DATAGRAMS`).

        `note` is told once how the socket's facts are read. Nothing that arrives, and no error that the system reports
        of an earlier answer, may end the server.
        """
        raise NotImplementedError

    async def open_datagrams(self, address: Address) -> Datagrams:
        """Open a socket that is connected to a server (`Feature.DATAGRAMS`)."""
        raise NotImplementedError

    async def resolve(self, host: str, port: int, family: socket.AddressFamily) -> list[Address]:
        """Look a name up for TCP, in the resolver's order (`Feature.RESOLVER`); raises socket.gaierror."""
        raise NotImplementedError
