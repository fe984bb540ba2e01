"""Counts a server's conversations, the same way for every backend and out of its reach."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

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
    """Hands out sessions, one per connection, and counts them; safe to use from several threads."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._accepted = self._served = self._open = self._peak = 0
        self._faults: Counter[str] = Counter()
        self._facts: Callable[[], Facts] | None = None

    def accept(self, facts: Callable[[], Facts]) -> Session:
        """Open the session of a new connection; `facts` is kept for the newest one only."""
        with self._lock:
            self._accepted += 1
            self._open += 1
            self._peak = max(self._peak, self._open)
        self._facts = facts
        return _CountedSession(self, self._service())

    def facts(self) -> Facts | None:
        """Read the newest connection, which must still be open; None before the first."""
        return None if self._facts is None else self._facts()

    def counts(self) -> Counts:
        """Return the counters as they are now."""
        with self._lock:
            return Counts(
                accepted=self._accepted,
                served=self._served,
                open=self._open,
                peak=self._peak,
                faults=dict(self._faults),
            )

    def reset_peak(self) -> None:
        """Let the peak start again from what is open now."""
        with self._lock:
            self._peak = self._open

    def _finished(self, fault: str | None) -> None:
        with self._lock:
            self._open -= 1
            if fault is None:
                self._served += 1
            else:
                self._faults[fault] += 1


class _CountedSession:
    __slots__ = ("_done", "_ledger", "_receive")

    def __init__(self, ledger: Ledger, service: Service) -> None:
        self._ledger = ledger
        self._receive = service.receive
        self._done = False

    def receive(self, data: bytes, /) -> Reply:
        try:
            reply = self._receive(data)
        except TrafficError as fault:
            self._finish(fault.kind)
            return HANG_UP
        if reply.then is Then.CLOSE:
            self._finish(None)
        return reply

    def lost(self, error: BaseException | None, /) -> None:
        self._finish("eof" if error is None else kind_of(error))

    def _finish(self, fault: str | None) -> None:
        if not self._done:
            self._done = True
            self._ledger._finished(fault)
