"""Sans-I/O conversations: what a server answers, free of sockets, loops and clocks.

A backend owns the connection and does nothing but move bytes: it hands what arrived to `Session.receive`, sends
`Reply.data`, and then does what `Reply.then` says. So a new conversation touches no backend, and no backend can count
itself better than it is: sessions are handed out, and counted, by the core.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import NamedTuple, Protocol

from loopmark.errors import Kind, ProtocolError, TrafficError


class Then(Enum):
    """What a server does after the reply's bytes are on their way."""

    READ = auto()
    CLOSE = auto()


class Reply(NamedTuple):
    """The server's answer: bytes to send (maybe none), then what to do."""

    data: bytes
    then: Then


KEEP_READING = Reply(b"", Then.READ)
HANG_UP = Reply(b"", Then.CLOSE)


class Service(ABC):
    """The server's side of one conversation; one object per connection."""

    @abstractmethod
    def receive(self, data: bytes, /) -> Reply:
        """Take what arrived (`b""`: the peer has ended its stream) and answer.

        Raises TrafficError when the peer breaks the conversation; the connection is then closed.
        """


class Session(Protocol):
    """A service as a backend sees it: it never raises because of a peer, and it is counted."""

    def receive(self, data: bytes, /) -> Reply:
        """Take what arrived (`b""`: end of stream); returns what to send and what to do then."""

    def lost(self, error: BaseException | None, /) -> None:
        """Tell that the connection is gone; after a finished conversation this changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """The client's side of a conversation: what to send, and what must come back.

    `parts` are written one by one; `reply_size` counts bytes, None means until the end of the stream; the exchange is
    repeated `rounds` times on one connection; `reply` is what the last one must have brought.
    """

    parts: tuple[bytes, ...]
    reply: bytes
    reply_size: int | None
    rounds: int = 1

    def check(self, reply: bytes) -> None:
        """Raise ProtocolError unless the last reply is the right one, byte for byte."""
        if reply != self.reply:
            raise ProtocolError(f"expected the reply {self.reply[:40]!r}, got {reply[:40]!r} ({len(reply)} bytes)")


class AnswerOnce(Service):
    """Reads exactly one request, answers it and closes."""

    def __init__(self, request: bytes, reply: bytes) -> None:
        self._request = request
        self._answer = _last(reply)
        self._received = b""

    def receive(self, data: bytes, /) -> Reply:
        """Answer once the whole request is there; a longer, other or cut one is the peer's fault."""
        if not data:
            raise TrafficError(Kind.EOF, f"the stream ended after {len(self._received)} bytes of the request")
        received = self._received + data
        if received == self._request:
            return self._answer
        if not self._request.startswith(received):
            raise ProtocolError(f"expected the request {self._request[:40]!r}, got {received[:40]!r}")
        self._received = received
        return KEEP_READING


@cache
def _last(data: bytes) -> Reply:
    """Make the reply once, not for each connection."""
    return Reply(data, Then.CLOSE)
