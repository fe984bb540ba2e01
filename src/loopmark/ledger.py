"""Counts a server's conversations, the same way for every backend and out of its reach."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from loopmark.errors import TrafficError, kind_of
from loopmark.service import HANG_UP, Reply, Service, Session, Then
from loopmark.spi import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """A server's counters: since its start, but for `open` (now) and `peak` (highest since the last reset).

    `open` counts from the moment that the library tells of a connection to the moment that the conversation is over
    or the connection is lost. `faults` are by kind.
    """

    accepted: int
    served: int
    open: int
    peak: int
    faults: dict[str, int]


class Ledger:
    """Hands out sessions, one per connection, and counts them.

    This is part of the timed path of every server. So it counts with what is atomic in CPython (sets, `next` on a
    counter) instead of under a lock, although a server may have many threads.
    """

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service
        self._open: set[_CountedSession] = set()
        self._served = count()
        self._faults: deque[str] = deque()
        self._peak = 0
        self._facts: Callable[[], Facts] | None = None

    def accept(self, facts: Callable[[], Facts]) -> Session:
        """Open the session of a new connection; `facts` is kept for the newest one only."""
        session = _CountedSession(self, self._service().receive)
        self._open.add(session)
        self._facts = facts
        if len(self._open) > self._peak:  # noqa: PLR1730  # a call would cost more
            self._peak = len(self._open)
        return session

    def facts(self) -> Facts | None:
        """Read the newest connection, which must still be open; None before the first."""
        return None if self._facts is None else self._facts()

    def counts(self) -> Counts:
        """Return the counters as they are now."""
        # The text of a counter is the only way to read it without moving it on.
        served, faults = int(str(self._served)[len("count(") : -1]), Counter(self._faults)
        return Counts(
            accepted=served + faults.total() + len(self._open),
            served=served,
            open=len(self._open),
            peak=self._peak,
            faults=dict(faults),
        )

    def reset_peak(self) -> None:
        """Let the peak start again from what is open now."""
        self._peak = len(self._open)

    def _finished(self, session: "_CountedSession", fault: str | None) -> None:
        if session not in self._open:
            return  # it was over before
        self._open.remove(session)
        if fault is None:
            next(self._served)
        else:
            self._faults.append(fault)


class _CountedSession:
    __slots__ = ("_ledger", "_receive")

    def __init__(self, ledger: Ledger, receive: Callable[[bytes], Reply]) -> None:
        self._ledger = ledger
        self._receive = receive

    def receive(self, data: bytes, /) -> Reply:
        try:
            reply = self._receive(data)
        except TrafficError as fault:
            self._ledger._finished(self, fault.kind)
            return HANG_UP
        if reply.then is Then.CLOSE:
            self._ledger._finished(self, None)
        return reply

    def lost(self, error: BaseException | None, /) -> None:
        self._ledger._finished(self, "eof" if error is None else kind_of(error))
