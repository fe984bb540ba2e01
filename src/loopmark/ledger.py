"""Counts a server's conversations, the same way for every backend and out of its reach."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from loopmark.errors import Kind
from loopmark.service import Service
from loopmark.spi import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """A server's counters since its start; `open` is now, `faults` are by kind.

    `open` counts from the moment that the library tells of a connection to the moment that the conversation is over
    or the connection is lost. `exchanged` are answered messages, in conversations that have many, and datagrams.
    """

    accepted: int
    served: int
    exchanged: int
    open: int
    faults: dict[str, int]


class Ledger:
    """Hands out services, one per connection, and counts what becomes of them.

    This is part of the timed path of every server. So it counts with what is atomic in CPython (`next` on a counter)
    instead of under a lock, although a server may have many threads.
    """

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service
        self._accepted, self._served, self._exchanged = count(), count(), count()
        self._accept = self._accepted.__next__
        self.served = self._served.__next__
        self.exchanged = self._exchanged.__next__
        self._faults: list[Kind] = []
        self._facts: Callable[[], Facts] | None = None

    def accept(self, facts: Callable[[], Facts]) -> Service:
        """Open the conversation of a new connection; `facts` is kept for the newest one only."""
        service = self._service()
        service.tally = self
        self._facts = facts
        self._accept()
        return service

    def note(self, facts: Callable[[], Facts]) -> None:
        """Take how the facts of a socket without connections are read."""
        self._facts = facts

    def failed(self, kind: Kind) -> None:
        """Count a conversation that broke off."""
        # As it is: a text of its own would stay for every fault.
        self._faults.append(kind)

    def facts(self) -> Facts | None:
        """Read the newest connection, which must still be open; None before the first."""
        return None if self._facts is None else self._facts()

    def counts(self) -> Counts:
        """Return the counters as they are now."""
        accepted, served = _read(self._accepted), _read(self._served)
        # A copy, which threads that add to it cannot get in between of.
        faults = Counter(map(str, self._faults[:]))
        return Counts(
            accepted=accepted,
            served=served,
            exchanged=_read(self._exchanged),
            open=accepted - served - faults.total(),
            faults=dict(faults),
        )


def _read(counter: "count[int]") -> int:
    """Read a counter without moving it on, which only its text allows: `count(7)`."""
    return int(str(counter)[len("count(") : -1])
