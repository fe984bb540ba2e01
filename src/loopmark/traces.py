"""What a witness on the wire has seen of a conversation. Sans-I/O: bytes in, a trace out; nothing is decrypted.

What is read are record headers, and of the plaintext handshake the server's choice of group. The relay hands on each
byte after recording it, so an answer never precedes its cause. What a server says before its client does is not TLS, in
which clients speak first.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, StrEnum, auto
from typing import NamedTuple

from loopmark.record import Trace
from loopmark.tlsrecords import Record, RecordParser, server_choice

ADDED_13 = 17
"""Bytes that TLS 1.3 adds to a record's content: one for its true type, 16 for the tag."""
NOTIFY_13 = 2 + ADDED_13
"""The length of a record with close_notify, or with another alert."""


class Direction(StrEnum):
    """Which way bytes go; the value is how a trace prints it."""

    TO_SERVER = ">"
    TO_CLIENT = "<"

    @property
    def sender(self) -> str:
        """Who sends this way."""
        return "client" if self is Direction.TO_SERVER else "server"


class End(Enum):
    """How a direction ended."""

    FIN = auto()
    RESET = auto()


class Event(NamedTuple):
    """One thing seen: bytes, or the end of a direction."""

    direction: Direction
    what: bytes | End


class Seen(NamedTuple):
    """One record of a trace; `length` is that of its body, in bytes."""

    direction: Direction
    kind: str
    length: int

    def __str__(self) -> str:
        return f"{self.direction} {self.kind} {self.length}"


def read_trace(events: Iterable[Event]) -> Trace:
    """Read a whole conversation, given in the order of arrival.

    A record stands where its last byte arrived. Beside TLS records there are `plain` (adjacent ones joined, since how
    TCP cuts them means nothing), `cut` (bytes of a record that never became complete) and `reset` (instead of a FIN).
    """
    parsers = {each: RecordParser() for each in Direction}
    sizes = dict.fromkeys(Direction, 0)
    seen: list[Seen] = []
    served: list[Record] = []
    ends: dict[Direction, End] = {}
    for direction, what in events:
        if isinstance(what, End):
            if ends.setdefault(direction, what) is End.RESET:
                seen.append(Seen(direction, "reset", 0))
            continue
        if direction is Direction.TO_SERVER and not sizes[direction] and not parsers[Direction.TO_CLIENT].pending:
            parsers[Direction.TO_CLIENT] = RecordParser()
        sizes[direction] += len(what)
        for record in parsers[direction].feed(what):
            if record.kind == "plain" and seen and seen[-1][:2] == (direction, "plain"):
                seen[-1] = seen[-1]._replace(length=seen[-1].length + len(record.body))
            else:
                seen.append(Seen(direction, record.kind, len(record.body)))
            if direction is Direction.TO_CLIENT and record.kind != "plain":
                served.append(record)
    seen += [Seen(each, "cut", parser.pending) for each, parser in parsers.items() if parser.pending]
    tls13, group = server_choice(served)
    notify = min(_close_notifies(seen, tls13=tls13), default=None)
    return Trace(
        records=tuple(str(each) for each in seen),
        bytes_to_server=sizes[Direction.TO_SERVER],
        bytes_to_client=sizes[Direction.TO_CLIENT],
        group=group,
        first_close_notify=None if notify is None else seen[notify].direction.sender,
        first_fin=next((each.sender for each, end in ends.items() if end is End.FIN), None),
    )


def records_of(trace: Trace) -> list[Seen]:
    """Read a trace's records back."""
    fields = (record.split() for record in trace.records)
    return [Seen(Direction(direction), kind, int(length)) for direction, kind, length in fields]


def _close_notifies(seen: Sequence[Seen], *, tls13: bool) -> Iterator[int]:
    """Yield the positions of each side's close_notify, where there is one.

    Which alert it is, is encrypted; one that tells of an error ends the conversation in ways that are judged anyway.
    """
    finished = next((i for i, each in enumerate(seen) if each[:2] == (Direction.TO_SERVER, "data")), len(seen))
    for direction in Direction:
        own = [i for i, each in enumerate(seen) if each.direction is direction and each.kind not in ("reset", "cut")]
        if tls13:
            # Two bytes of payload look the same, but only close_notify is the last record.
            yield from (i for i in own[-1:] if i > finished and seen[i][1:] == ("data", NOTIFY_13))
        else:
            # An alert of two bytes is one in the clear, from a handshake that failed.
            yield from (i for i in own if seen[i].kind == "alert" and seen[i].length > 2)
