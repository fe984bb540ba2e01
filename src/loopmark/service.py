"""Sans-I/O conversations: what a server answers, free of sockets, loops and clocks.

A backend owns the connection and does nothing but move bytes: it hands what arrived to `Service.receive`, sends
`Reply.data`, and then does what `Reply.then` says. So a new conversation touches no backend, and no backend can count
itself better than it is: services are handed out, and counted, by the core.
"""

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, Protocol, Self

from loopmark.errors import Kind, ProtocolError, TrafficError, kind_of


class Then(Enum):
    """What a server does after the reply's bytes are on their way."""

    READ = auto()
    CLOSE = auto()


CLOSE = Then.CLOSE
"""For backends: on the timed path a name of a module is cheaper than one of an enumeration."""


class File(NamedTuple):
    """A file's first `size` bytes: by the library's sendfile with `zero_copy`, else read and written in pieces."""

    path: str
    size: int
    zero_copy: bool

    def expect(self, sent: int) -> None:
        """Raise OSError unless all of it was sent: a file can be shorter than it was."""
        if sent != self.size:
            raise OSError(errno.EIO, f"{sent} bytes of {self.size} are left", self.path)


def fitting(message: bytes) -> int:
    """Return how many bytes to read at a time who expects this message.

    A round number, as anybody would write: a buffer of 64 KiB for four bytes costs more than to read them.
    """
    return 128 if len(message) < 128 else PIECE


PIECE = 65536
"""Bytes of a file that are read and written at a time where it is copied, the same for all."""


@dataclass(slots=True)
class Reply:
    """The server's answer: bytes to send (maybe none), then a file (mostly none), then what to do.

    Not to be changed: one may be the answer to all. That it could be makes it cheaper to make.
    """

    data: bytes
    then: Then
    file: File | None = None


KEEP_READING = Reply(b"", Then.READ)
HANG_UP = Reply(b"", Then.CLOSE)


class Tally(Protocol):
    """What a service tells about its conversation; the ledger is one."""

    def served(self) -> object:
        """Count a conversation that came to its proper end."""

    def exchanged(self) -> object:
        """Count a message that was answered, where a conversation has many."""

    def failed(self, kind: Kind, /) -> None:
        """Count a conversation that did not."""


class Service(ABC):
    """The server's side of one conversation; one object per connection.

    It is on the timed path of every server, so there is no wrapper around it that counts: it counts itself, by ending
    with `finish` or `refuse`. Whoever writes a benchmark cannot forget it, since no value without it has its counts.
    """

    at_a_time: int | None = None
    """The most bytes that a server reads at a time; None leaves it to the backend. A protocol gets what arrives."""

    tally: Tally | None = None
    """Set by the ledger; None where nobody counts, and once the conversation is over."""

    failure: TrafficError | None = None
    """What the peer did wrong."""

    @abstractmethod
    def receive(self, data: bytes, /) -> Reply:
        """Take what arrived (`b""`: the peer has ended its stream) and answer; never raises because of a peer.

        The last answer goes through `finish`, or through `refuse` when the peer breaks the conversation.
        """

    def sent(self) -> None:  # noqa: B027  # most conversations have no file
        """Tell, from a backend, that the reply's file has been sent, all of it."""

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

    `parts` are written one by one, an empty one ends the client's own stream (half-close); `reply_size` counts bytes,
    None means until the end of the stream; the exchange is repeated `rounds` times on one connection; `reply` is what
    the last one must have brought, in `reply_parts` writes at most.
    """

    parts: tuple[bytes, ...]
    reply: bytes
    reply_size: int | None
    rounds: int = 1
    reply_parts: int = 1

    @property
    def request(self) -> bytes | None:
        """What is sent if that is all: one part, once, and then the reply to the end of the stream; else None."""
        once = len(self.parts) == 1 and self.rounds == 1 and self.reply_size is None
        return self.parts[0] or None if once else None

    @property
    def at_a_time(self) -> int:
        """How many bytes a client reads at a time where it does not know how many will come."""
        return fitting(self.reply)

    def check(self, reply: bytes) -> None:
        """Raise ProtocolError unless the last reply is the right one, byte for byte.

        Of one that is cut short the end of the stream is the fault: not every library tells a cut stream from an ended
        one, and none does without TLS.
        """
        if reply != self.reply and self.reply.startswith(reply):
            raise TrafficError(Kind.EOF, f"the stream ended after {len(reply)} of {len(self.reply)} bytes of the reply")
        if reply != self.reply:
            raise ProtocolError(f"expected the reply {self.reply[:40]!r}, got {reply[:40]!r} ({len(reply)} bytes)")


class FixedRequest(Service):
    """Reads exactly one request; what it answers is a subclass's."""

    _received = b""

    def __init__(self, request: bytes) -> None:
        self._request = request

    @abstractmethod
    def answer(self) -> Reply:
        """Answer the request."""

    def receive(self, data: bytes, /) -> Reply:
        """Answer once the whole request is there; a longer, other or cut one is the peer's fault."""
        received = self._received + data
        if received == self._request and data:
            return self.answer()
        if not data:
            return self.refuse(TrafficError(Kind.EOF, f"the stream ended after {len(received)} bytes of the request"))
        if not self._request.startswith(received):
            return self.refuse(ProtocolError(f"expected the request {self._request[:40]!r}, got {received[:40]!r}"))
        self._received = received
        return KEEP_READING


class AnswerOnce(FixedRequest):
    """Reads exactly one request, answers it and closes."""

    def __init__(self, request: bytes, reply: bytes) -> None:
        super().__init__(request)
        self._answer = Reply(reply, Then.CLOSE)

    @classmethod
    def prepared(cls, request: bytes, reply: bytes) -> Callable[[], Self]:
        """Return a class whose instances are made of these two, and are made without running any code.

        What runs for each connection costs a server several times of what it costs in a loop: between two connections
        others have been in the caches.
        """
        made = {
            "__init__": object.__init__,
            "at_a_time": fitting(request),
            "_request": request,
            "_answer": Reply(reply, Then.CLOSE),
        }
        return type(cls.__name__, (cls,), made)

    def answer(self) -> Reply:
        """Answer with the reply, which is the last."""
        return self.finish(self._answer)

    def receive(self, data: bytes, /) -> Reply:
        """Answer once the whole request is there; a longer, other or cut one is the peer's fault."""
        # Nearly every request comes at once; then this does by itself what the functions it would call do.
        if data == self._request and data and not self._received:
            if self.tally is not None:
                self.tally.served()
                self.tally = None
            return self._answer
        return super().receive(data)


class EchoToEnd(Service):
    """Sends back what it reads, until the peer ends its stream."""

    def receive(self, data: bytes, /) -> Reply:
        """Answer with the same bytes; the end is the end of the conversation."""
        return Reply(data, Then.READ) if data else self.finish(HANG_UP)


class EchoToNul(Service):
    """Sends back what it reads until a NUL byte, without it, and closes; what follows the NUL is ignored.

    TLS cannot half-close, so that the end of a message has to be said.
    """

    at_a_time = 128

    def receive(self, data: bytes, /) -> Reply:
        """Answer with all up to the NUL."""
        message, nul, _ = data.partition(b"\0")
        if nul:
            return self.finish(Reply(message, Then.CLOSE))
        if not data:
            return self.refuse(TrafficError(Kind.EOF, "the stream ended before the NUL"))
        return Reply(data, Then.READ)


class EchoMessages(Service):
    """Sends back messages of one size, each when it is complete, until the peer ends its stream between two of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._received = b""

    def receive(self, data: bytes, /) -> Reply:
        """Answer every message that is complete."""
        if not data:
            if self._received:
                return self.refuse(TrafficError(Kind.EOF, f"the stream ended after {len(self._received)} bytes"))
            return self.finish(HANG_UP)
        received = self._received + data if self._received else data
        complete = len(received) // self._size
        if not complete:
            self._received = received
            return KEEP_READING
        if self.tally is not None:
            for _ in range(complete):
                self.tally.exchanged()
        self._received = received[complete * self._size :]
        return Reply(received[: complete * self._size] if self._received else received, Then.READ)


class AnswerMany(Service):
    """Answers the same request again and again, until the peer ends its stream between two of them."""

    def __init__(self, request: bytes, reply: bytes) -> None:
        self._request = request
        self._answer = Reply(reply, Then.READ)
        self._received = b""

    def receive(self, data: bytes, /) -> Reply:
        """Answer once a whole request is there; a longer, other or cut one is the peer's fault."""
        received = self._received + data
        if received == self._request and data:
            self._received = b""
            if self.tally is not None:
                self.tally.exchanged()
            return self._answer
        if not data:
            if received:
                return self.refuse(TrafficError(Kind.EOF, f"the stream ended after {len(received)} bytes of a request"))
            return self.finish(HANG_UP)
        if not self._request.startswith(received):
            return self.refuse(ProtocolError(f"expected the request {self._request[:40]!r}, got {received[:40]!r}"))
        self._received = received
        return KEEP_READING
