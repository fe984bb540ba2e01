"""The witness without a wire: synthetic streams and traces, and handshakes of OpenSSL in memory."""

import ssl
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopmark import certs, tls
from loopmark.case import ClosePolicy
from loopmark.errors import UsageError
from loopmark.record import Trace
from loopmark.service import Talk
from loopmark.spi import ClientTLS, TLSProfile
from loopmark.tls import Identity
from loopmark.tlsrecords import Record, RecordParser
from loopmark.traces import Direction, End, Event, read_trace
from loopmark.wire import judge

UP, DOWN = Direction.TO_SERVER, Direction.TO_CLIENT
KINDS = {"ccs": 20, "alert": 21, "handshake": 22, "data": 23}
TALK = Talk(parts=(b"PING",), reply=b"PONG", reply_size=None)
TLS13, TLS12 = TLSProfile(), TLSProfile(version="1.2")
NOTIFY, CLIENT_NOTIFY = ClosePolicy.BOTH_NOTIFY, ClosePolicy.CLIENT_NOTIFY


def record(kind: str, body: bytes) -> bytes:
    return bytes([KINDS[kind], 3, 3]) + len(body).to_bytes(2) + body


def vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size) + content


def server_hello(group: int) -> bytes:
    """A TLS 1.3 ServerHello as the specification lays it out, with another extension before and after."""
    share = group.to_bytes(2) + vector(2, b"k" * 1120)
    extensions = b"".join(
        number.to_bytes(2) + vector(2, content) for number, content in ((43, b"\3\4"), (51, share), (41, b"\0\0"))
    )
    body = b"\3\3" + b"r" * 32 + vector(1, b"s" * 32) + b"\x13\x02\0" + vector(2, extensions)
    return b"\2" + vector(3, body)


# What the parser makes of streams


@settings(deadline=None)
@given(
    records=st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.binary(max_size=300)), max_size=8),
    tail=st.sampled_from([b"", b"GET / HTTP/1.1", b"\x17\x03\x03\xff\xff"]),
    cuts=st.lists(st.integers(0, 2500)),
)
def test_records_are_the_same_however_the_stream_is_split(
    records: list[tuple[str, bytes]], tail: bytes, cuts: list[int]
) -> None:
    stream = b"".join(record(kind, body) for kind, body in records) + tail
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parser = RecordParser()
    found = [each for a, b in pairwise(edges) for each in parser.feed(stream[a:b])]
    assert [each for each in found if each.kind != "plain"] == [Record(*each) for each in records]
    assert b"".join(each.body for each in found if each.kind == "plain") == tail
    assert parser.pending == 0


def test_a_record_waits_for_its_last_byte() -> None:
    parser = RecordParser()
    assert parser.feed(record("data", b"abc")[:-1]) == []
    assert parser.pending == 7
    assert parser.feed(b"c") == [Record("data", b"abc")]


@pytest.mark.parametrize(
    ("number", "name"), [(0x11EC, "X25519MLKEM768"), (0x1D, "X25519"), (0x17, "P-256"), (0x2A2A, "0x2a2a")]
)
@pytest.mark.parametrize("size", [9, 4096])
def test_the_group_is_read_from_a_server_hello_in_any_number_of_records(number: int, name: str, size: int) -> None:
    hello = server_hello(number)
    pieces = [hello[at : at + size] for at in range(0, len(hello), size)]
    assert read_trace([Event(DOWN, record("handshake", piece)) for piece in pieces]).group == name


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([1, 2, 12]))
def test_no_handshake_message_stops_the_witness(body: bytes, kind: int) -> None:
    read_trace([Event(DOWN, record("handshake", bytes([kind]) + vector(3, body)))])


def test_records_stand_in_the_order_in_which_they_became_complete() -> None:
    late = record("data", b"12345")
    events = [Event(UP, late[:4]), Event(DOWN, record("data", b"1")), Event(UP, late[4:])]
    assert read_trace(events).records == ("< data 1", "> data 5")


def test_plain_bytes_are_counted_together_until_the_other_side_speaks() -> None:
    events = [Event(UP, b"PI"), Event(UP, b"NG"), Event(DOWN, b"PO"), Event(UP, b"!"), Event(DOWN, b"NG")]
    trace = read_trace(events)
    assert trace.records == ("> plain 4", "< plain 2", "> plain 1", "< plain 2")
    assert (trace.bytes_to_server, trace.bytes_to_client, trace.group) == (5, 4, None)


def test_a_record_that_never_ended_is_shown_as_cut() -> None:
    assert read_trace([Event(UP, record("data", b"123")[:6])]).records == ("> cut 6",)


@pytest.mark.parametrize(("first", "second", "name"), [(UP, DOWN, "client"), (DOWN, UP, "server")])
def test_the_first_fin_is_the_one_that_came_first(first: Direction, second: Direction, name: str) -> None:
    assert read_trace([Event(first, End.FIN), Event(second, End.FIN)]).first_fin == name


def test_a_reset_is_no_fin() -> None:
    trace = read_trace([Event(UP, End.RESET), Event(DOWN, End.FIN)])
    assert trace.records == ("> reset 0",)
    assert trace.first_fin == "server"


def test_a_reset_after_a_fin_changes_nothing() -> None:
    assert read_trace([Event(UP, End.FIN), Event(UP, End.RESET)]).records == ()


# What OpenSSL really sends


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return certs.ensure(tmp_path_factory.mktemp("certs"), client_key="ed25519")


class InMemory:
    """A conversation of two SSLObjects, seen as a relay would see it; a resumed one comes after a full one."""

    def __init__(self, profile: TLSProfile, identity: Identity, *, ciphers: str = "") -> None:
        server, client = tls.server_context(profile, identity), tls.client_tls(profile, identity)
        if ciphers:
            server.set_ciphers(ciphers)
        self._connect(server, client)
        if profile.resumed:
            self.say(*PONG)
            session = self.client.session
            assert session is not None
            tls.offer(client.context, session)
            self._connect(server, client)

    def _connect(self, server: ssl.SSLContext, client: ClientTLS) -> None:
        self.events: list[Event] = []
        self._in = {UP: ssl.MemoryBIO(), DOWN: ssl.MemoryBIO()}
        self._out = {UP: ssl.MemoryBIO(), DOWN: ssl.MemoryBIO()}
        self.server = server.wrap_bio(self._in[UP], self._out[DOWN], server_side=True)
        self.client = client.context.wrap_bio(self._in[DOWN], self._out[UP], server_hostname=client.server_name)
        for end in (self.client, self.server, self.client, self.server, self.client):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
            self.move()

    def move(self) -> None:
        for direction in Direction:
            if data := self._out[direction].read():
                self.events.append(Event(direction, data))
                self._in[direction].write(data)

    def say(self, direction: Direction, text: bytes) -> None:
        sender, receiver = (self.client, self.server) if direction is UP else (self.server, self.client)
        sender.write(text)
        self.move()
        assert receiver.read(100) == text

    def notify(self, direction: Direction) -> None:
        with suppress(ssl.SSLWantReadError):
            (self.client if direction is UP else self.server).unwrap()
        self.move()

    def finish(self, *steps: Direction | tuple[Direction, bytes]) -> Trace:
        """Take the steps: something to say, or a close_notify."""
        for step in steps:
            if isinstance(step, tuple):
                self.say(*step)
            else:
                self.notify(step)
        return read_trace(self.events)


PING, PONG = (UP, b"PING"), (DOWN, b"PONG")
GOOD = (PING, PONG, DOWN, UP)
KINDS_OF_PROFILES = [
    TLSProfile(),
    TLSProfile(tickets=1),
    TLSProfile(tickets=1, resumed=True),
    TLSProfile(client_key="ed25519"),
    TLSProfile(client_key="ed25519", tickets=1),
    TLSProfile(client_key="ed25519", tickets=1, resumed=True),
]
PROFILES = [
    *(replace(each, version=version) for each in KINDS_OF_PROFILES for version in tls.VERSIONS),
    *(replace(each, group="prime256v1") for each in (TLS13, TLS12)),
    *(TLSProfile(tickets=2, client_key=key) for key in (None, "ed25519")),
]


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_a_conversation_as_promised_is_comparable(profile: TLSProfile, identity: Identity) -> None:
    trace = InMemory(profile, identity).finish(*GOOD)
    assert judge(trace, NOTIFY, tls=profile, talk=TALK) is None
    without = profile.resumed and profile.version == "1.2"
    assert trace.group == (None if without else "X25519" if profile.group == "X25519" else "P-256")
    assert trace.first_close_notify == "server"


@pytest.mark.parametrize("real", PROFILES, ids=str)
@pytest.mark.parametrize("promised", PROFILES, ids=str)
def test_no_profile_passes_for_another(real: TLSProfile, promised: TLSProfile, identity: Identity) -> None:
    # With a resumed session nobody shows a certificate again: that it was shown before is the server's fact.
    known = replace(promised, client_key=real.client_key) if real.resumed and promised.resumed else promised
    trace = InMemory(real, identity).finish(*GOOD)
    assert (judge(trace, NOTIFY, tls=promised, talk=TALK) is None) is (real == known)


@pytest.mark.parametrize("version", tls.VERSIONS)
@pytest.mark.parametrize("talked", [{}, {"tickets": 1}, {"tickets": 1, "resumed": True}, {"client_key": "ed25519"}])
@pytest.mark.parametrize("client_first", [False, True])
def test_a_close_policy_is_kept_by_one_order_only(
    version: str, talked: dict[str, Any], client_first: bool, identity: Identity
) -> None:
    profile = TLSProfile(version=version, **talked)
    trace = InMemory(profile, identity).finish(PING, PONG, *((UP, DOWN) if client_first else (DOWN, UP)))
    kept, broken = (CLIENT_NOTIFY, NOTIFY) if client_first else (NOTIFY, CLIENT_NOTIFY)
    assert judge(trace, kept, tls=profile, talk=TALK) is None
    assert "sent its close_notify before the" in (judge(trace, broken, tls=profile, talk=TALK) or "")


@pytest.mark.parametrize("profile", [TLS13, TLS12], ids=str)
def test_an_upgrade_begins_with_the_go_ahead_alone(profile: TLSProfile, identity: Identity) -> None:
    conversation = InMemory(profile, identity)
    conversation.finish(*GOOD)
    upgraded = read_trace([Event(DOWN, b"G"), Event(DOWN, b"O"), *conversation.events])
    assert upgraded.records[0] == "< plain 2"
    assert upgraded.group == "X25519"
    judged = {said: judge(upgraded, NOTIFY, tls=profile, talk=TALK, go_ahead=said) for said in (b"GO", b"GO!", b"")}
    assert judged == {
        b"GO": None,
        b"GO!": "the conversation starts with < plain 2, not with a go-ahead of 3 bytes",
        b"": "the server sent something that is not TLS",
    }
    start = judge(read_trace(conversation.events), NOTIFY, tls=profile, talk=TALK, go_ahead=b"GO") or ""
    assert start.startswith("the conversation starts with > handshake ")


def test_a_client_that_does_not_wait_for_the_go_ahead_is_found(identity: Identity) -> None:
    conversation = InMemory(TLS13, identity)
    conversation.finish(*GOOD)
    hello, *rest = conversation.events
    trace = read_trace([hello, Event(DOWN, b"GO"), *rest])
    assert "not with a go-ahead" in (judge(trace, NOTIFY, tls=TLS13, talk=TALK, go_ahead=b"GO") or "")


@pytest.mark.parametrize("ciphers", ["ECDHE+CHACHA20", "ECDHE+AESGCM+AES128"])
def test_any_aead_cipher_of_tls_1_2_can_be_judged(ciphers: str, identity: Identity) -> None:
    assert judge(InMemory(TLS12, identity, ciphers=ciphers).finish(*GOOD), NOTIFY, tls=TLS12, talk=TALK) is None


def test_a_cipher_whose_lengths_tell_nothing_is_not_judged(identity: Identity) -> None:
    trace = InMemory(TLS12, identity, ciphers="ECDHE-ECDSA-AES128-SHA256").finish(*GOOD)
    assert "is not an AEAD one" in (judge(trace, NOTIFY, tls=TLS12, talk=TALK) or "")


@pytest.mark.parametrize("profile", [TLS13, TLS12], ids=str)
@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ((PING, PONG, UP), "the server sent no close_notify"),
        ((PING, PONG, DOWN), "the client sent no close_notify"),
        ((PING, PONG, UP, DOWN), "the client sent its close_notify before the server's"),
        ((PING, (DOWN, b"PONG!"), DOWN, UP), "the server sent data "),
        ((PING, (DOWN, b"PO"), (DOWN, b"NG"), DOWN, UP), "the server sent data "),
        ((PING, DOWN, UP), "the server sent nothing where 4 bytes"),
        ((PING, PONG, PING, PONG, DOWN, UP), "the server sent data "),
        ((PING, PING, PONG, DOWN, UP), "the client sent data "),
        ((PING, PONG, DOWN, (UP, b"!"), UP), "the client sent data "),
    ],
)
def test_what_openssl_sends_beside_the_promise_is_found(
    profile: TLSProfile, steps: tuple[Direction | tuple[Direction, bytes], ...], why: str, identity: Identity
) -> None:
    conversation = InMemory(profile, identity)
    with suppress(ssl.SSLZeroReturnError):
        conversation.finish(*steps)
    assert (judge(read_trace(conversation.events), NOTIFY, tls=profile, talk=TALK) or "").startswith(why)


@pytest.mark.parametrize("profile", [TLS13, TLS12], ids=str)
def test_tickets_that_nobody_promised_are_told_as_such(profile: TLSProfile, identity: Identity) -> None:
    trace = InMemory(replace(profile, tickets=1), identity).finish(*GOOD)
    assert "session ticket" in (judge(trace, NOTIFY, tls=profile, talk=TALK) or "")


@pytest.mark.parametrize("version", tls.VERSIONS)
@pytest.mark.parametrize(("resumed", "name"), [(False, "full"), (True, "resumed")])
def test_the_other_kind_of_handshake_is_told_as_such(
    version: str, resumed: bool, name: str, identity: Identity
) -> None:
    real = TLSProfile(version=version, tickets=1, resumed=resumed)
    trace = InMemory(real, identity).finish(*GOOD)
    why = judge(trace, NOTIFY, tls=replace(real, resumed=not resumed), talk=TALK)
    assert why == f"the handshake was a {name} one"


@pytest.mark.parametrize("version", tls.VERSIONS)
@pytest.mark.parametrize(
    ("real", "promised", "why"),
    [
        (None, "ed25519", "the client showed no certificate"),
        ("ed25519", None, "the client showed a certificate that nobody asked for"),
    ],
)
def test_who_shows_a_certificate_is_seen(
    version: str, real: str | None, promised: str | None, why: str, identity: Identity
) -> None:
    trace = InMemory(TLSProfile(version=version, client_key=real), identity).finish(*GOOD)
    assert judge(trace, NOTIFY, tls=TLSProfile(version=version, client_key=promised), talk=TALK) == why


@pytest.mark.parametrize(("real", "promised"), [(TLS13, TLS12), (TLS12, TLS13)], ids=str)
def test_the_other_version_is_found(real: TLSProfile, promised: TLSProfile, identity: Identity) -> None:
    trace = InMemory(real, identity).finish(*GOOD)
    assert judge(trace, NOTIFY, tls=promised, talk=TALK)


@pytest.mark.parametrize("profile", [TLS13, TLS12], ids=str)
def test_another_group_is_found(profile: TLSProfile, identity: Identity) -> None:
    trace = InMemory(replace(profile, group="prime256v1"), identity).finish(*GOOD)
    assert judge(trace, NOTIFY, tls=profile, talk=TALK) == "the key exchange used P-256 instead of X25519"


# What is promised, record by record

HANDSHAKE = ("> handshake 517", "< handshake 122", "< ccs 1", "< data 900", "> ccs 1", "> data 69")
TRACE = Trace(
    records=(*HANDSHAKE, "> data 21", "< data 21", "< data 19", "> data 19"),
    bytes_to_server=0,
    bytes_to_client=0,
    group="X25519",
    first_close_notify="server",
    first_fin="server",
)


def verdict(
    *records: str, talk: Talk = TALK, handshake: tuple[str, ...] = HANDSHAKE, tls: TLSProfile = TLS13
) -> str | None:
    return judge(replace(TRACE, records=handshake + records), NOTIFY, tls=tls, talk=talk)


def client_first(*records: str) -> str | None:
    trace = replace(TRACE, records=HANDSHAKE + records, first_close_notify="client")
    return judge(trace, CLIENT_NOTIFY, tls=TLS13, talk=TALK)


@pytest.mark.parametrize("flight", [("< data 1100",), ("< data 27", "< data 800", "< data 95", "< data 69")])
def test_a_library_may_cut_its_handshake_as_it_likes(flight: tuple[str, ...]) -> None:
    handshake = ("> handshake 517", "< handshake 122", *flight, "> data 53")
    assert verdict("> data 21", "< data 21", "< data 19", "> data 19", handshake=handshake) is None


def test_a_hello_retry_request_is_found() -> None:
    handshake = ("> handshake 517", "< handshake 88", *HANDSHAKE)
    why = verdict("> data 21", "< data 21", "< data 19", "> data 19", handshake=handshake)
    assert why == "the handshake took a second round trip (HelloRetryRequest)"


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (("> data 21", "< data 21", "< data 19", "< data 19", "> data 19"), "the server sent data 21, data 19"),
        (("> data 21", "< data 21", "< data 19", "> data 19", "> data 19"), "the client sent data 21, data 19"),
        (("> data 21", "< data 21", "< data 19", "< data 21", "> data 19"), "the server sent more after"),
        (("> data 21", "< data 21", "< data 19", "> data 19", "> cut 3"), "the client stopped inside"),
        (("> data 21", "< data 21", "< data 19", "> plain 3"), "the client sent something that is not TLS"),
        (("> data 21", "< data 21", "< handshake 5", "< data 19", "> data 19"), "the server sent data 21, handshake 5"),
        (("> data 21", "< handshake 21", "< data 19", "> data 19"), "the server sent handshake 21 where"),
        (("> data 21", "< data 21", "< data 19", "> data 19", "> reset 0"), "the client reset the connection"),
        (("> data 21", "< data 21", "< data 19"), "the client sent no close_notify"),
        (("> data 21", "< data 20", "< data 19", "> data 19"), "the server sent data 20 where"),
        (("> data 22", "< data 21", "< data 19", "> data 19"), "the client sent data 22 where"),
        (("< data 21", "< data 19", "> data 19"), "the client sent nothing where 4 bytes"),
    ],
)
def test_every_record_after_the_handshake_is_judged(records: tuple[str, ...], why: str) -> None:
    assert (verdict(*records) or "").startswith(why)


def test_a_server_that_has_said_all_may_reset() -> None:
    assert verdict("> data 21", "< data 21", "< data 19", "> data 19", "< reset 0") is None


def test_a_client_that_refuses_the_certificate_has_not_finished() -> None:
    handshake = (*HANDSHAKE[:-1], "> data 19")
    assert "not with TLS 1.3's Finished" in (verdict(handshake=handshake) or "")


def test_an_alert_that_ends_the_handshake_is_no_close_notify() -> None:
    hello = Event(DOWN, record("handshake", server_hello(0x1D)))
    assert read_trace([hello, Event(UP, record("data", b"x" * 19))]).first_close_notify is None
    assert read_trace([Event(DOWN, record("alert", b"\2\50"))]).first_close_notify is None


def test_nothing_encrypted_is_read_as_a_handshake() -> None:
    events = [record("handshake", server_hello(0x1D)), record("ccs", b"\1"), record("handshake", server_hello(0x17))]
    assert read_trace([Event(DOWN, each) for each in events]).group == "X25519"


def test_a_handshake_without_key_exchange_is_not_comparable() -> None:
    trace = replace(TRACE, group=None)
    assert judge(trace, NOTIFY, tls=TLS13, talk=TALK) == (
        "the key exchange used no group that could be read instead of X25519"
    )


def test_parts_may_share_a_record_or_have_their_own() -> None:
    talk = replace(TALK, parts=(b"PI", b"NG!"))
    rest = ("< data 21", "< data 19", "> data 19")
    assert verdict("> data 22", *rest, talk=talk) is None
    assert verdict("> data 19", "> data 20", *rest, talk=talk) is None
    assert verdict("> data 18", "> data 18", "> data 20", *rest, talk=talk)


def test_a_long_reply_takes_full_records_in_every_round() -> None:
    talk = Talk(parts=(b"PING",), reply=b"x" * 20000, reply_size=20000, rounds=2)
    full = ("> data 21", "< data 16401", "< data 3633")
    assert verdict(*full, *full, "< data 19", "> data 19", talk=talk) is None
    assert verdict(*full, "< data 19", "> data 19", talk=talk)


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (("> data 21", "< data 21", "> data 19", "< data 19"), None),
        (("> data 21", "< data 21", "> data 19", "< data 19", "> reset 0"), None),
        (("> data 21", "< data 21", "> data 19", "> reset 0"), None),
        (("> data 21", "< data 21", "> data 19"), "the server sent no close_notify"),
        (("> data 21", "> data 19", "> reset 0"), "the server sent nothing where 4 bytes"),
        (("> data 21", "< data 21", "> reset 0"), "the client sent no close_notify"),
        (("> data 21", "< data 21", "> data 19", "< data 19", "< reset 0"), "the server reset the connection"),
        (("> data 21", "< data 21", "> data 19", "< reset 0"), "the server sent no close_notify"),
        (("> data 21", "< data 21", "> data 19", "< data 21", "< data 19"), "the server sent data 21, data 21"),
        (("> data 21", "< data 21", "> data 19", "> data 21", "< data 19"), "the client sent more after"),
    ],
)
def test_a_client_that_ends_first_waits_for_nobody(records: tuple[str, ...], why: str | None) -> None:
    found = client_first(*records)
    assert found is None if why is None else (found or "").startswith(why)


@pytest.mark.parametrize(
    ("tickets", "said", "fine"),
    [
        (1, ("< data 250", "< data 21"), True),
        (2, ("< data 250", "< data 250", "< data 21"), True),
        (2, ("< data 250", "< data 21"), False),
        (1, ("< data 250", "< data 250", "< data 21"), False),
        (1, ("< data 21",), False),
        (1, ("< data 21", "< data 250"), False),
        (0, ("< data 250", "< data 21"), False),
    ],
)
def test_there_are_as_many_tickets_as_promised(tickets: int, said: tuple[str, ...], fine: bool) -> None:
    why = verdict("> data 21", *said, "< data 19", "> data 19", tls=TLSProfile(tickets=tickets))
    assert (why is None) is fine
    assert fine or "session ticket" in (why or "")


@settings(deadline=None)
@given(writes=st.lists(st.integers(1, 40_000), min_size=1, max_size=6), spare=st.integers(0, 3))
def test_a_reply_in_parts_may_take_a_record_for_each_write(writes: list[int], spare: int) -> None:
    lengths = [min(2**14, write - at) for write in writes for at in range(0, write, 2**14)]
    talk = replace(TALK, reply=b"x" * sum(writes), reply_parts=len(writes) + spare)
    content = [f"< data {length + 17}" for length in lengths]
    assert verdict("> data 21", *content, "< data 19", "> data 19", talk=talk) is None


def test_a_reply_in_more_parts_than_promised_is_found() -> None:
    said = ("> data 21", "< data 18", "< data 18", "< data 19", "< data 19", "> data 19")
    assert verdict(*said, talk=replace(TALK, reply_parts=3)) is None
    assert verdict(*said, talk=replace(TALK, reply_parts=2))


LINES = st.builds(
    lambda way, kind, length: f"{way} {kind} {length}",
    st.sampled_from("<>"),
    st.sampled_from([*KINDS, "plain", "cut", "reset"]),
    st.sampled_from([0, 1, 19, 21, 26, 32, 40, 53, 69, 250, 900]),
)


@settings(deadline=None)
@given(
    records=st.lists(LINES, max_size=14),
    profile=st.sampled_from(PROFILES),
    policy=st.sampled_from([NOTIFY, CLIENT_NOTIFY]),
    go_ahead=st.sampled_from([b"", b"GO"]),
    group=st.sampled_from([None, "X25519"]),
)
def test_every_trace_can_be_judged(
    records: list[str], profile: TLSProfile, policy: ClosePolicy, go_ahead: bytes, group: str | None
) -> None:
    trace = replace(TRACE, records=tuple(records), group=group)
    why = judge(trace, policy, tls=profile, talk=TALK, go_ahead=go_ahead)
    assert why is None or "\n" not in why


def plain_trace(*records: str, first_fin: str | None = "server") -> Trace:
    sizes = {way: sum(int(r.split()[2]) for r in records if r.startswith(way)) for way in Direction}
    return replace(
        TRACE, records=records, group=None, first_fin=first_fin, bytes_to_server=sizes[UP], bytes_to_client=sizes[DOWN]
    )


@pytest.mark.parametrize(
    ("trace", "why"),
    [
        (plain_trace("> plain 4", "< plain 4"), None),
        (plain_trace("> plain 4", "< plain 5"), "the server sent 5 bytes instead of 4"),
        (plain_trace("> plain 4", "< plain 4", "> plain 1"), "the client sent 5 bytes instead of 4"),
        (plain_trace("> plain 4", "< plain 4", first_fin="client"), "the first FIN came from the client, not from"),
        (plain_trace("> plain 4", "< plain 4", first_fin=None), "the first FIN came from nobody"),
        (plain_trace("> plain 4", "< plain 4", "> reset 0"), "the client reset the connection"),
        (plain_trace("> handshake 4", "< plain 4"), "the client sent TLS"),
    ],
)
def test_a_plain_conversation_is_judged_by_bytes_and_ends(trace: Trace, why: str | None) -> None:
    found = judge(trace, ClosePolicy.FIN, tls=None, talk=TALK)
    assert found is None if why is None else (found or "").startswith(why)


@pytest.mark.parametrize("policy", [ClosePolicy.CLIENT_FIN, ClosePolicy.HALF_CLOSE])
@pytest.mark.parametrize(
    ("trace", "why"),
    [
        (plain_trace("> plain 4", "< plain 4", first_fin="client"), None),
        (plain_trace("> plain 4", "< plain 4"), "the first FIN came from the server, not from the client"),
        (plain_trace("> plain 4", first_fin="client"), "the server sent 0 bytes instead of 4"),
        (plain_trace("> plain 4", "< plain 4", "< reset 0", first_fin="client"), "the server reset the connection"),
        (plain_trace("> plain 4", "< plain 4", "> reset 0", first_fin=None), "the client reset the connection"),
    ],
)
def test_a_plain_client_may_be_the_one_that_ends_first(policy: ClosePolicy, trace: Trace, why: str | None) -> None:
    # The empty part of a half-close is no byte on the wire.
    assert judge(trace, policy, tls=None, talk=replace(TALK, parts=(b"PI", b"NG", b""))) == why


@pytest.mark.parametrize("policy", ClosePolicy)
def test_a_policy_has_a_meaning_with_tls_or_without(policy: ClosePolicy) -> None:
    secure = policy in (NOTIFY, CLIENT_NOTIFY)
    with pytest.raises(UsageError, match=str(policy)):
        judge(TRACE, policy, tls=None if secure else TLS13, talk=TALK)
    judge(TRACE, policy, tls=TLS13 if secure else None, talk=TALK)


def test_two_bytes_of_payload_are_not_taken_for_close_notify() -> None:
    hello = Event(DOWN, record("handshake", server_hello(0x1D)))
    data = [(UP, 69), (UP, 21), (DOWN, 19), (UP, 19), (DOWN, 19)]
    trace = read_trace([hello, *(Event(way, record("data", b"x" * length)) for way, length in data)])
    assert trace.first_close_notify == "client"
