"""Whether a conversation on the wire was the one that a case promises: handshake, content and end are judged.

Nothing is decrypted; what records are is known by their order and length:

* TLS 1.3: every record after ServerHello has the outer type `data`. Up to the client's Finished they are handshake, in
  one record or several. Those that follow are told apart by length: the content's plus 17, so that close_notify has 19.
  Session tickets come before the server's first content, because OpenSSL sends them as the last step of its handshake.
* TLS 1.2: close_notify is an `alert`; a ticket is a `handshake` record before the server's change of cipher. What
  encryption adds to a record is seen on the Finished message, which has 16 bytes. In a full handshake it is the client
  who changes the cipher first, in a resumed one the server.

A side that sends a certificate has a long handshake; with a resumed session no side sends one. All lengths are those of
AEAD ciphers.
"""

from math import ceil
from typing import NamedTuple

from loopmark.case import ClosePolicy
from loopmark.errors import UsageError
from loopmark.record import Trace
from loopmark.service import Talk
from loopmark.spi import TLSProfile
from loopmark.traces import ADDED_13, NOTIFY_13, Direction, Seen, records_of

_FRAGMENT = 2**14
_ALIASES = {"prime256v1": "p-256", "secp256r1": "p-256", "secp384r1": "p-384", "secp521r1": "p-521"}
"""OpenSSL's and the standard's names of what is also called P-something."""

_FINISHED_13 = (4 + 32 + ADDED_13, 4 + 48 + ADDED_13)
"""The lengths of a Finished record: there are suites with SHA-256 and with SHA-384, no others."""
_ADDED_12 = (16, 24)
"""ChaCha20-Poly1305 and CCM8 add 16 bytes, AES-GCM and CCM add 24."""
_CERTIFIED = 200
"""Bytes of handshake after a side's hello: more with a certificate and the proof of its key, less without."""

_FIRST_FIN = {ClosePolicy.FIN: "server", ClosePolicy.CLIENT_FIN: "client", ClosePolicy.HALF_CLOSE: "client"}
_FIRST_NOTIFY = {ClosePolicy.BOTH_NOTIFY: "server", ClosePolicy.CLIENT_NOTIFY: "client"}
"""Who ends first, without and with TLS."""


def judge(
    trace: Trace, policy: ClosePolicy, *, tls: TLSProfile | None, talk: Talk, go_ahead: bytes = b""
) -> str | None:
    """Return None when the wire shows what the case promises, else one sentence that says why it does not.

    How the handshake is cut into records is left to the library. Before it, only the `go_ahead` may be in the clear.
    After it there may be nothing but the profile's session tickets, the conversation's own bytes, in as few records as
    can be, and the end that the policy asks for. Raises UsageError for a policy that has no meaning with this `tls`.
    """
    if tls is None and policy in _FIRST_FIN:
        return _judge_plain(trace, _FIRST_FIN[policy], talk)
    if tls is not None and policy in _FIRST_NOTIFY:
        return _judge_tls(trace, _FIRST_NOTIFY[policy], tls, talk, go_ahead)
    raise UsageError(f"the close policy {policy} is not defined for {'plain TCP' if tls is None else 'TLS'}")


def _judge_plain(trace: Trace, first: str, talk: Talk) -> str | None:
    for each in records_of(trace):
        if each.kind != "plain":
            what = "reset the connection" if each.kind == "reset" else "sent TLS on what should be a plain connection"
            return f"the {each.direction.sender} {what}"
    request, reply = (talk.rounds * n for n in (sum(map(len, talk.parts)), len(talk.reply)))
    for sender, due, sent in (("client", request, trace.bytes_to_server), ("server", reply, trace.bytes_to_client)):
        if sent != due:
            return f"the {sender} sent {sent} bytes instead of {due}"
    if trace.first_fin != first:
        ended = "nobody" if trace.first_fin is None else f"the {trace.first_fin}"
        return f"the first FIN came from {ended}, not from the {first}"
    return None


def _judge_tls(trace: Trace, first: str, tls: TLSProfile, talk: Talk, go_ahead: bytes) -> str | None:
    seen = records_of(trace)
    if go_ahead:
        if seen[:1] != [(Direction.TO_CLIENT, "plain", len(go_ahead))]:
            start = seen[0] if seen else "nothing"
            return f"the conversation starts with {start}, not with a go-ahead of {len(go_ahead)} bytes"
        del seen[0]
    for each in seen:
        if each.kind in ("plain", "cut"):
            what = "sent something that is not TLS" if each.kind == "plain" else "stopped inside a TLS record"
            return f"the {each.direction.sender} {what}"
    resets = {each.direction.sender for each in seen if each.kind == "reset"}
    spoken = (_spoken_12 if tls.version == "1.2" else _spoken_13)([each for each in seen if each.kind != "reset"])
    if isinstance(spoken, str):
        return spoken
    if fault := _judge_handshake(spoken, trace.group, tls):
        return fault
    for way, due in ((Direction.TO_CLIENT, _reply_due(talk, tls)), (Direction.TO_SERVER, _request_due(talk))):
        # A client that ends first, and waits for nobody, may reset before the server has answered.
        cut_off = way.sender != first == "client" and first in resets
        if fault := _judge_records(spoken, way, due, cut_off=cut_off):
            return f"the {way.sender} sent {fault}"
    second = "client" if first == "server" else "server"
    if trace.first_close_notify != first:
        return f"the {second} sent its close_notify before the {first}'s"
    # Who ends first waits for nobody: it may reset, when the other's close_notify is there before it closes its socket.
    return f"the {second} reset the connection after its close_notify" if second in resets else None


class _Spoken(NamedTuple):
    """What was said: who sent certificates, how many tickets came inside the handshake, and what followed it.

    `records` have kind and length; `added` is what encryption adds to a length.
    """

    certified: set[Direction]
    tickets: int
    records: dict[Direction, list[tuple[str, int]]]
    added: int
    notify: tuple[str, int]


def _spoken_13(seen: list[Seen]) -> _Spoken | str:
    own = [i for i, each in enumerate(seen) if each[:2] == (Direction.TO_SERVER, "data")]
    at = next((i for i in own if seen[i].length in _FINISHED_13), len(seen))
    said = {way: sum(each.length for each in seen[:at] if each[:2] == (way, "data")) for way in Direction}
    if at == len(seen) or 0 < said[Direction.TO_SERVER] <= _CERTIFIED:
        return f"the client's handshake ends with {seen[own[0]] if own else 'nothing'}, not with TLS 1.3's Finished"
    if sum(each[:2] == (Direction.TO_SERVER, "handshake") for each in seen) > 1:
        return "the handshake took a second round trip (HelloRetryRequest)"
    records = {way: [each[1:] for each in seen[at + 1 :] if each.direction is way] for way in Direction}
    return _Spoken({way for way in Direction if said[way] > _CERTIFIED}, 0, records, ADDED_13, ("data", NOTIFY_13))


def _spoken_12(seen: list[Seen]) -> _Spoken | str:
    change = {way: next((i for i, each in enumerate(seen) if each[:2] == (way, "ccs")), len(seen)) for way in Direction}
    tails = {way: [each[1:] for each in seen[change[way] :] if each.direction is way] for way in Direction}
    for way, tail in tails.items():
        if [kind for kind, _ in tail[:2]] != ["ccs", "handshake"]:
            return f"the {way.sender}'s handshake does not end with TLS 1.2's Finished"
        if tail[1][1] - 16 not in _ADDED_12:
            return f"the cipher is not an AEAD one (Finished takes {tail[1][1]} bytes)"
    resumed = change[Direction.TO_CLIENT] < change[Direction.TO_SERVER]
    # What is a ticket: all that the server says between its hello, or the client's change of cipher, and its own.
    start = 0 if resumed else change[Direction.TO_SERVER]
    served = sum(each[:2] == (Direction.TO_CLIENT, "handshake") for each in seen[start : change[Direction.TO_CLIENT]])
    own = [each.length for each in seen[: change[Direction.TO_SERVER]] if each.direction is Direction.TO_SERVER]
    certified = {Direction.TO_SERVER} if sum(own[1:]) > _CERTIFIED else set()
    added = tails[Direction.TO_SERVER][1][1] - 16
    return _Spoken(
        certified if resumed else certified | {Direction.TO_CLIENT},
        served - resumed,
        {way: tail[2:] for way, tail in tails.items()},
        added,
        ("alert", added + 2),
    )


def _judge_handshake(spoken: _Spoken, group: str | None, tls: TLSProfile) -> str | None:
    if tls.resumed is (Direction.TO_CLIENT in spoken.certified):
        return f"the handshake was a {'full' if tls.resumed else 'resumed'} one"
    shown = Direction.TO_SERVER in spoken.certified
    if shown is not (tls.client_key is not None and not tls.resumed):
        return f"the client showed {'a certificate that nobody asked for' if shown else 'no certificate'}"
    if tls.version == "1.2" and spoken.tickets != (due := _tickets_due(tls)):
        return f"the server sent {spoken.tickets} session ticket(s) instead of {due}"
    # TLS 1.2 resumes a session without another key exchange.
    if group is None and tls.version == "1.2" and tls.resumed:
        return None
    if group is None or _one_name(group) != _one_name(tls.group):
        return f"the key exchange used {group or 'no group that could be read'} instead of {tls.group}"
    return None


def _tickets_due(tls: TLSProfile) -> int:
    """How many tickets OpenSSL's server sends; after a resumed handshake one, and in one of TLS 1.2 none."""
    if tls.resumed:
        return 0 if tls.version == "1.2" else min(1, tls.tickets)
    return tls.tickets


class _Due(NamedTuple):
    """What a side has to send: bytes, in how many records, after how many records with tickets."""

    size: int
    fewest: int
    most: int
    tickets: int


def _request_due(talk: Talk) -> _Due:
    parts = [len(part) for part in talk.parts]
    return _due(talk.rounds, sum(parts), sum(ceil(part / _FRAGMENT) for part in parts), tickets=0)


def _reply_due(talk: Talk, tls: TLSProfile) -> _Due:
    size = len(talk.reply)
    # The last record of each write may be a short one.
    most = (size + min(size, talk.reply_parts) * (_FRAGMENT - 1)) // _FRAGMENT
    return _due(talk.rounds, size, most, tickets=0 if tls.version == "1.2" else _tickets_due(tls))


def _due(rounds: int, size: int, most: int, *, tickets: int) -> _Due:
    return _Due(rounds * size, rounds * ceil(size / _FRAGMENT), rounds * most, tickets)


def _judge_records(spoken: _Spoken, way: Direction, due: _Due, *, cut_off: bool) -> str | None:
    """Check what one side said: tickets, the content in full records, then one close_notify, if it was not cut off."""
    own = spoken.records[way]
    if spoken.notify in own:
        if own[-1] != spoken.notify:
            return "more after its close_notify"
        own = own[:-1]
    elif not cut_off:
        return "no close_notify"
    content = own[due.tickets :]
    payload = sum(length - spoken.added for _, length in content)
    if {kind for kind, _ in own} <= {"data"} and payload == due.size and due.fewest <= len(content) <= due.most:
        return None
    found = ", ".join(f"{kind} {length}" for kind, length in own) or "nothing"
    surplus = " (a session ticket?)" if way is Direction.TO_CLIENT and payload > due.size else ""
    tickets = f"{due.tickets} session ticket(s) and " if due.tickets else ""
    return f"{found}{surplus} where {tickets}{due.size} bytes in {due.fewest} record(s) are due"


def _one_name(group: str) -> str:
    return _ALIASES.get(group.lower(), group.lower())
