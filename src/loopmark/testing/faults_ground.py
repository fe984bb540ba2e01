"""What a fault is, and what those who commit it know of the server that they do it to."""

import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum

from loopmark.errors import Kind
from loopmark.spi import Address, ClientTLS, Options, TLSProfile
from loopmark.testing.ground import GO_AHEAD, PING, PONG, BrokenContract, expect
from loopmark.testing.hostile import Hostile, client_hello
from loopmark.testing.peers import call

BATCH = 20
"""How many bad peers there are at the same time, at most."""

DEADLINES = Options(handshake_timeout=0.6, close_timeout=0.1, backlog=1024)
"""Of the servers: short, as somebody waits for them, and long beside a handshake; and a queue that can be filled."""


class Setting(StrEnum):
    """What a server is asked to be."""

    PLAIN = "plain TCP"
    TLS_1_2 = "TLS 1.2"
    TLS_1_3 = "TLS 1.3"
    UPGRADE = "TLS 1.3 after an upgrade"

    @property
    def profile(self) -> TLSProfile | None:
        """How TLS is done, None for plain TCP."""
        if self is Setting.PLAIN:
            return None
        return TLSProfile(version="1.2" if self is Setting.TLS_1_2 else "1.3")

    @property
    def go_ahead(self) -> bytes:
        """What the server says in the clear before TLS."""
        return GO_AHEAD if self is Setting.UPGRADE else b""


SECURE = frozenset({Setting.TLS_1_3})
UPGRADED = SECURE | {Setting.UPGRADE}
VERSIONS = SECURE | {Setting.TLS_1_2}
BOTH = SECURE | {Setting.PLAIN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server as those see it who attack it."""

    setting: Setting
    address: Address
    tls: ClientTLS | None
    pid: int
    patience: float
    peers: list[Hostile] = field(default_factory=list)
    """All that have connected since the last `hang_up`."""

    @property
    def family(self) -> socket.AddressFamily:
        """Of the server's address."""
        return socket.AF_INET6 if ":" in self.address.host else socket.AF_INET

    def connect(self) -> Hostile:
        """Open a connection, and read the go-ahead if there is one; TLS has not begun."""
        peer = Hostile.dial(self.address, patience=self.patience)
        self.peers.append(peer)
        if self.setting.go_ahead:
            peer.read(len(self.setting.go_ahead))
        return peer

    def converse(self) -> Hostile:
        """Open a connection and complete its handshake, so that PING is due."""
        peer = self.connect()
        if self.tls is not None:
            peer.begin_tls(self.tls.context, self.tls.server_name)
            peer.handshake()
        return peer

    def hang_up(self) -> None:
        """Close what those left open who were interrupted."""
        for peer in self.peers:
            peer.sock.close()
        self.peers.clear()

    def hello(self, context: ssl.SSLContext | None = None) -> bytes:
        """Return a new ClientHello, by default that of a good client."""
        assert self.tls is not None
        return client_hello(context or self.tls.context, self.tls.server_name)

    def require_answer(self) -> None:
        """Raise BrokenContract unless a good client is served now."""
        try:
            reply = call(self.address, self.tls, PING, go_ahead=self.setting.go_ahead, patience=self.patience)
        except (OSError, EOFError) as error:
            raise BrokenContract(f"the next good client met {type(error).__name__}: {error}") from error
        expect(reply == PONG, f"the next good client got {reply!r}")


class Told(StrEnum):
    """What the server's own account says of such a peer."""

    FAULT = "a fault"
    SERVED = "a conversation that came to its end"
    LIBRARY = "a fault where the library tells of a connection before its handshake, else a failed handshake"
    ANY = "faults or failed handshakes, fewer than there were: not every one of them is accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to do harm; `attack` does it as many times as it is told, and raises BrokenContract by itself."""

    attack: Callable[[Target, int], None]
    settings: frozenset[Setting]
    told: Told
    kinds: frozenset[Kind]
    """As what it may be counted."""
    least: Callable[[Target], int]
    """How many times make all of it."""
    at_once: int = BATCH
    """How many there are at the same time, at most."""
    slow: bool = False
    """Whether somebody has to wait for its end."""

    @property
    def name(self) -> str:
        """The function's name."""
        return self.attack.__name__

    @property
    def promise(self) -> str:
        """What is done, as one sentence."""
        return (self.attack.__doc__ or "").strip()


def fault(
    *kinds: Kind,
    settings: frozenset[Setting] = SECURE,
    told: Told = Told.FAULT,
    least: Callable[[Target], int] = lambda _: 1,
    at_once: int = BATCH,
    slow: bool = False,
) -> Callable[[Callable[[Target, int], None]], Fault]:
    """Make a function a fault: its name is the fault's, its docstring says what the peer does."""
    return lambda attack: Fault(
        attack=attack, settings=settings, told=told, kinds=frozenset(kinds), least=least, at_once=at_once, slow=slow
    )


def all_are_dropped(count: int, begin: Callable[[int], Hostile], *, at_once: int = BATCH) -> None:
    """Begin so many connections, and wait until the server has dropped them, at most `at_once` at a time.

    What `begin` has closed by itself is not waited for.
    """
    for start in range(0, count, at_once):
        with ExitStack() as stack:
            numbers = range(start, min(start + at_once, count))
            peers = [stack.enter_context(begin(number)) for number in numbers]
            for peer in peers:
                dropped = peer.sock.fileno() < 0 or peer.is_dropped()
                expect(dropped, "the peer is kept for ever")
