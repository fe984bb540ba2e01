"""Sans-I/O conversations: what a server answers, free of sockets, loops and clocks.

A backend owns the connection and does nothing but move bytes: it hands what arrived to `Service.receive`, sends
`Reply.data`, and then does what `Reply.then` says. So a new conversation touches no backend, and no backend can count
itself better than it is: services are handed out, and counted, by the core.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import NamedTuple, Protocol

from loopmark.errors import Kind, ProtocolError, TrafficError, kind_of


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


class Tally(Protocol):
    """What a service tells about its conversation; the ledger is one."""

    def served(self) -> object:
        """Count a conversation that came to its proper end."""

    def failed(self, kind: Kind, /) -> None:
        """Count a conversation that did not."""


class Service(ABC):
    """The server's side of one conversation; one object per connection.

    It is on the timed path of every server, so there is no wrapper around it that counts: it counts itself, by ending
    with `finish` or `refuse`. Whoever writes a benchmark cannot forget it, since no value without it has its counts.
    """

    tally: Tally | None = None
    """Set by the ledger; None where nobody counts, and once the conversation is over."""

    failure: TrafficError | None = None
    """What the peer did wrong."""

    @abstractmethod
    def receive(self, data: bytes, /) -> Reply:
        """Take what arrived (`b""`: the peer has ended its stream) and answer; never raises because of a peer.

        The last answer goes through `finish`, or through `refuse` when the peer breaks the conversation.
        """

    def finish(self, reply: Reply) -> Reply:
        """Count the conversation as served and return its last reply, which closes."""
        if self.tally is not None:
            self.tally.served()
            self.tally = None
        return reply

    def refuse(self, failure: TrafficError) -> Reply:
        """Count the peer's fault and hang up."""
        self.failure = failure
        if self.tally is not None:
            self.tally.failed(failure.kind)
            self.tally = None
        return HANG_UP

    def lost(self, error: BaseException | None, /) -> None:
        """Tell, from a backend, that the connection is gone; after the end of the conversation this changes nothing."""
        if self.tally is not None:
            self.tally.failed(Kind.EOF if error is None else kind_of(error))
            self.tally = None


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

    _received = b""

    def __init__(self, request: bytes, reply: bytes) -> None:
        self._request = request
        self._answer = _last(reply)

    def receive(self, data: bytes, /) -> Reply:
        """Answer once the whole request is there; a longer, other or cut one is the peer's fault."""
        received = self._received + data
        if received == self._request and data:
            return self.finish(self._answer)
        if not data:
            return self.refuse(TrafficError(Kind.EOF, f"the stream ended after {len(received)} bytes of the request"))
        if not self._request.startswith(received):
            return self.refuse(ProtocolError(f"expected the request {self._request[:40]!r}, got {received[:40]!r}"))
        self._received = received
        return KEEP_READING


@cache
def _last(data: bytes) -> Reply:
    """Make the reply once, not for each connection."""
    return Reply(data, Then.CLOSE)
