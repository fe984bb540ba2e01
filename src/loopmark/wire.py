"""What a witness on the wire can tell about a conversation. Sans-I/O: bytes go in, a trace and a judgement come out.

Nothing is decrypted. What is read are record headers, and of the plaintext handshake the server's choice of group:

* TLS 1.3: every record after ServerHello has the outer type `data`. Up to the client's Finished they are the server's
  handshake, in one record or several. Those that follow are told apart by length: the content's plus 17 (one byte for
  the true type, 16 for the tag), so that close_notify has 19. A ticket is one more record of the server's.
* TLS 1.2: close_notify is an `alert`; a ticket is a `handshake` record before the server's change of cipher. What
  encryption adds to a record is seen on the Finished message, which has 16 bytes.

Both hold for AEAD ciphers. The relay hands on each byte after recording it, so an answer never precedes its cause.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, StrEnum, auto
from math import ceil
from typing import NamedTuple

from loopmark.case import ClosePolicy
from loopmark.errors import UsageError
from loopmark.record import Trace
from loopmark.service import Talk
from loopmark.spi import TLSProfile
from loopmark.tlsrecords import Record, RecordParser, server_choice

_FRAGMENT = 2**14
_ALIASES = {"prime256v1": "p-256", "secp256r1": "p-256", "secp384r1": "p-384", "secp521r1": "p-521"}
"""OpenSSL's and the standard's names of what is also called P-something."""

_NOTIFY_13 = 19
_ADDED_13 = 17
_FINISHED_13 = (4 + 32 + _ADDED_13, 4 + 48 + _ADDED_13)
"""The lengths of a Finished record: there are suites with SHA-256 and with SHA-384, no others."""
_ADDED_12 = (16, 24)
"""ChaCha20-Poly1305 adds a tag, AES-GCM also an explicit nonce."""


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


class _Seen(NamedTuple):
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
    seen: list[_Seen] = []
    served: list[Record] = []
    ends: dict[Direction, End] = {}
    for direction, what in events:
        if isinstance(what, End):
            if ends.setdefault(direction, what) is End.RESET:
                seen.append(_Seen(direction, "reset", 0))
            continue
        sizes[direction] += len(what)
        for record in parsers[direction].feed(what):
            if record.kind == "plain" and seen and seen[-1][:2] == (direction, "plain"):
                seen[-1] = seen[-1]._replace(length=seen[-1].length + len(record.body))
            else:
                seen.append(_Seen(direction, record.kind, len(record.body)))
            if direction is Direction.TO_CLIENT:
                served.append(record)
    seen += [_Seen(each, "cut", parser.pending) for each, parser in parsers.items() if parser.pending]
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


def _close_notifies(seen: Sequence[_Seen], *, tls13: bool) -> Iterator[int]:
    """Yield the positions of each side's close_notify, where there is one.

    Which alert it is, is encrypted; one that tells of an error ends the conversation in ways that are judged anyway.
    """
    finished = next((i for i, each in enumerate(seen) if each[:2] == (Direction.TO_SERVER, "data")), len(seen))
    for direction in Direction:
        own = [i for i, each in enumerate(seen) if each.direction is direction and each.kind not in ("reset", "cut")]
        if tls13:
            # Two bytes of payload look the same, but only close_notify is the last record.
            yield from (i for i in own[-1:] if i > finished and seen[i][1:] == ("data", _NOTIFY_13))
        else:
            # An alert of two bytes is one in the clear, from a handshake that failed.
            yield from (i for i in own if seen[i].kind == "alert" and seen[i].length > 2)


def judge(trace: Trace, policy: ClosePolicy, *, tls: TLSProfile | None, talk: Talk) -> str | None:
    """Return None when the wire shows what the case promises, else one sentence that says why it does not.

    How the handshake is cut into records is left to the library. After it there may be nothing but the conversation's
    own bytes, in as few records as can be, and the end that the policy asks for. Raises UsageError for a policy that
    has no meaning with this `tls`.
    """
    if policy is ClosePolicy.BOTH_NOTIFY and tls is not None:
        return _judge_tls(trace, tls, talk)
    if policy is ClosePolicy.FIN and tls is None:
        return _judge_plain(trace, talk)
    raise UsageError(f"the close policy {policy} is not defined for {'plain TCP' if tls is None else 'TLS'}")


def _judge_plain(trace: Trace, talk: Talk) -> str | None:
    for each in _parse(trace):
        if each.kind != "plain":
            what = "reset the connection" if each.kind == "reset" else "sent TLS on what should be a plain connection"
            return f"the {each.direction.sender} {what}"
    request, reply = (talk.rounds * n for n in (sum(map(len, talk.parts)), len(talk.reply)))
    for sender, due, sent in (("client", request, trace.bytes_to_server), ("server", reply, trace.bytes_to_client)):
        if sent != due:
            return f"the {sender} sent {sent} bytes instead of {due}"
    if trace.first_fin != "server":
        return f"the first FIN came from {'nobody' if trace.first_fin is None else 'the client'}, not from the server"
    return None


def _judge_tls(trace: Trace, tls: TLSProfile, talk: Talk) -> str | None:
    seen = _parse(trace)
    for each in seen:
        if each.kind in ("plain", "cut"):
            what = "sent something that is not TLS" if each.kind == "plain" else "stopped inside a TLS record"
            return f"the {each.direction.sender} {what}"
    if trace.group is None or _one_name(trace.group) != _one_name(tls.group):
        return f"the key exchange used {trace.group or 'no group that could be read'} instead of {tls.group}"
    spoken = (_spoken_12 if tls.version == "1.2" else _spoken_13)([each for each in seen if each.kind != "reset"])
    if isinstance(spoken, str):
        return spoken
    for way, parts in ((Direction.TO_CLIENT, (talk.reply,)), (Direction.TO_SERVER, talk.parts)):
        if fault := _judge_records(spoken, way, [len(part) for part in parts], talk.rounds):
            return f"the {way.sender} sent {fault}"
    if trace.first_close_notify != "server":
        return "the client sent its close_notify before the server's"
    # A server that does not wait may reset, when the client's close_notify is there before it closes its socket.
    if any(each[:2] == (Direction.TO_SERVER, "reset") for each in seen):
        return "the client reset the connection after its close_notify"
    return None


class _Spoken(NamedTuple):
    """What each side said after the handshake, as kind and length; what encryption adds to a length."""

    records: dict[Direction, list[tuple[str, int]]]
    added: int
    notify: tuple[str, int]


def _judge_records(spoken: _Spoken, way: Direction, parts: list[int], rounds: int) -> str | None:
    """Check what one side said: the content in full records, then one close_notify."""
    own = spoken.records[way]
    if spoken.notify not in own:
        return "no close_notify"
    if own[-1] != spoken.notify:
        return "more after its close_notify"
    content = own[:-1]
    size = rounds * sum(parts)
    fewest, most = rounds * ceil(sum(parts) / _FRAGMENT), rounds * sum(ceil(part / _FRAGMENT) for part in parts)
    payload = sum(length - spoken.added for _, length in content)
    if {kind for kind, _ in content} <= {"data"} and payload == size and fewest <= len(content) <= most:
        return None
    found = ", ".join(f"{kind} {length}" for kind, length in content) or "nothing"
    ticket = " (a session ticket?)" if way is Direction.TO_CLIENT and payload > size else ""
    return f"{found}{ticket} where {size} bytes in {fewest} record(s) are due"


def _spoken_13(seen: list[_Seen]) -> _Spoken | str:
    at = next((i for i, each in enumerate(seen) if each[:2] == (Direction.TO_SERVER, "data")), None)
    if at is None or seen[at].length not in _FINISHED_13:
        return f"the client's handshake ends with {'nothing' if at is None else seen[at]}, not with TLS 1.3's Finished"
    if sum(each[:2] == (Direction.TO_SERVER, "handshake") for each in seen) > 1:
        return "the handshake took a second round trip (HelloRetryRequest)"
    records = {way: [each[1:] for each in seen[at + 1 :] if each.direction is way] for way in Direction}
    return _Spoken(records, _ADDED_13, ("data", _NOTIFY_13))


def _spoken_12(seen: list[_Seen]) -> _Spoken | str:
    at = next((i for i, each in enumerate(seen) if each[:2] == (Direction.TO_SERVER, "ccs")), len(seen))
    tails = {way: [each[1:] for each in seen[at:] if each.direction is way] for way in Direction}
    if [kind for kind, _ in tails[Direction.TO_CLIENT][:2]] == ["handshake", "ccs"]:
        return "the server sent a session ticket"
    for way, tail in tails.items():
        if [kind for kind, _ in tail[:2]] != ["ccs", "handshake"]:
            return f"the {way.sender}'s handshake does not end with TLS 1.2's Finished"
        if tail[1][1] - 16 not in _ADDED_12:
            return f"the cipher is not an AEAD one (Finished takes {tail[1][1]} bytes)"
    added = tails[Direction.TO_SERVER][1][1] - 16
    return _Spoken({way: tail[2:] for way, tail in tails.items()}, added, ("alert", added + 2))


def _one_name(group: str) -> str:
    return _ALIASES.get(group.lower(), group.lower())


def _parse(trace: Trace) -> list[_Seen]:
    """Read a trace's records back."""
    fields = (record.split() for record in trace.records)
    return [_Seen(Direction(direction), kind, int(length)) for direction, kind, length in fields]
