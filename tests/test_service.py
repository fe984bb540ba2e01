"""The sans-I/O conversations: one outcome for every way in which the bytes can arrive."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopmark.errors import Kind, ProtocolError, TrafficError
from loopmark.service import (
    HANG_UP,
    KEEP_READING,
    AnswerMany,
    AnswerOnce,
    EchoMessages,
    EchoToEnd,
    EchoToNul,
    File,
    Reply,
    Service,
    Talk,
    Then,
)

REQUEST, REPLY = b"PING\x00PING", b"PONG"


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut the data at these places, counted from its start; no part is empty, for that means the end of the stream."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def answers(parts: list[bytes], request: bytes = REQUEST) -> list[Reply]:
    service, prepared = AnswerOnce(request, REPLY), AnswerOnce.prepared(request, REPLY)()
    replies = [service.receive(part) for part in parts]
    assert [prepared.receive(part) for part in parts] == replies
    return replies


def failure(parts: list[bytes]) -> TrafficError:
    """Feed a service until it hangs up, and return what it holds against its peer."""
    service = AnswerOnce.prepared(REQUEST, REPLY)()
    for part in parts:
        if service.receive(part) == HANG_UP:
            assert service.failure is not None
            return service.failure
    raise AssertionError("it never hung up")


CUTS = st.lists(st.integers(min_value=0), max_size=8)


@given(st.binary(min_size=1, max_size=200), CUTS)
def test_a_whole_request_is_answered_once_however_it_is_split(request: bytes, cuts: list[int]) -> None:
    *before, last = answers(split(request, cuts), request)
    assert last == Reply(REPLY, Then.CLOSE)
    assert all(reply == KEEP_READING for reply in before)


@given(st.binary(min_size=1, max_size=20).filter(lambda data: not REQUEST.startswith(data)), CUTS)
def test_another_request_is_a_fault_however_it_is_split(data: bytes, cuts: list[int]) -> None:
    found = failure(split(data, cuts))
    assert found.kind is Kind.PROTOCOL
    assert "expected the request" in str(found)


@given(st.binary(min_size=1))
def test_bytes_that_come_with_the_end_of_the_request_are_a_fault(more: bytes) -> None:
    found = failure([REQUEST[:-1], REQUEST[-1:] + more])
    assert found.kind is Kind.PROTOCOL


@given(st.integers(min_value=0, max_value=len(REQUEST) - 1), CUTS)
def test_a_cut_request_is_the_peers_fault(size: int, cuts: list[int]) -> None:
    found = failure([*split(REQUEST[:size], cuts), b""])
    assert found.kind is Kind.EOF
    assert f"the stream ended after {size} bytes" in str(found)


@pytest.mark.parametrize("make", [lambda: AnswerOnce(REQUEST, REPLY), AnswerOnce.prepared(REQUEST, REPLY)])
def test_each_connection_has_its_own_conversation(make: Callable[[], AnswerOnce]) -> None:
    first, second = make(), make()
    first.receive(REQUEST[:3])
    assert second.receive(REQUEST).then is Then.CLOSE


def test_a_wrong_request_is_found_at_its_first_wrong_byte() -> None:
    service = AnswerOnce(b"x" * 1000, REPLY)
    service.receive(b"xx")
    assert service.receive(b"y") == HANG_UP


def test_the_right_reply_passes_the_check() -> None:
    Talk(parts=(REQUEST,), reply=REPLY, reply_size=None).check(b"PONG")


@pytest.mark.parametrize("reply", [b"", b"PON"])
def test_a_reply_that_is_cut_short_is_the_streams_end(reply: bytes) -> None:
    with pytest.raises(TrafficError, match=rf"ended after {len(reply)} of 4 bytes") as caught:
        Talk(parts=(REQUEST,), reply=REPLY, reply_size=None).check(reply)
    assert caught.value.kind is Kind.EOF


@pytest.mark.parametrize("reply", [b"PONGPONG", b"pong", b"PONG\x00"])
def test_any_other_reply_breaks_the_protocol(reply: bytes) -> None:
    with pytest.raises(ProtocolError, match=rf"expected the reply b'PONG'.*\({len(reply)} bytes\)") as caught:
        Talk(parts=(REQUEST,), reply=REPLY, reply_size=None).check(reply)
    assert caught.value.kind is Kind.PROTOCOL


def test_long_replies_are_cut_in_the_message() -> None:
    with pytest.raises(ProtocolError) as caught:
        Talk(parts=(REQUEST,), reply=b"a" * 100_000, reply_size=None).check(b"b" * 100_000)
    assert len(str(caught.value)) < 200
    assert "(100000 bytes)" in str(caught.value)


# Conversations of more than one answer


class Tally:
    def __init__(self) -> None:
        self.ended: list[str] = []
        self.answered = 0

    def served(self) -> None:
        self.ended.append("served")

    def exchanged(self) -> None:
        self.answered += 1

    def failed(self, kind: Kind, /) -> None:
        self.ended.append(kind)


def outcome(service: Service, parts: list[bytes]) -> tuple[bytes, list[str], int]:
    """Feed a service until it closes, as a backend does; return what it said, how it was counted, and the messages."""
    tally = Tally()
    service.tally = tally
    said = b""
    for part in parts:
        reply = service.receive(part)
        said += reply.data
        if reply.then is Then.CLOSE:
            break
    return said, tally.ended, tally.answered


@given(st.binary(max_size=200), CUTS)
def test_all_is_echoed_until_the_stream_ends(data: bytes, cuts: list[int]) -> None:
    assert outcome(EchoToEnd(), [*split(data, cuts), b""]) == (data, ["served"], 0)


@given(st.binary(max_size=100).map(lambda data: data.replace(b"\0", b"")), st.binary(max_size=20), CUTS)
def test_all_up_to_the_nul_is_echoed_and_what_follows_is_ignored(data: bytes, more: bytes, cuts: list[int]) -> None:
    assert outcome(EchoToNul(), split(data + b"\0" + more, cuts)) == (data, ["served"], 0)


@given(st.binary(max_size=100).map(lambda data: data.replace(b"\0", b"")), CUTS)
def test_a_stream_without_a_nul_is_echoed_and_the_clients_fault(data: bytes, cuts: list[int]) -> None:
    assert outcome(EchoToNul(), [*split(data, cuts), b""]) == (data, [Kind.EOF], 0)


@given(st.integers(1, 20), st.integers(0, 5), CUTS)
def test_messages_are_echoed_and_counted_however_they_arrive(size: int, many: int, cuts: list[int]) -> None:
    stream = bytes(each % 256 for each in range(size * many))
    assert outcome(EchoMessages(size), [*split(stream, cuts), b""]) == (stream, ["served"], many)


@given(st.integers(1, 20), st.integers(0, 5), CUTS)
def test_no_message_is_answered_before_it_is_complete(size: int, many: int, cuts: list[int]) -> None:
    service, received, said = EchoMessages(size), 0, 0
    for part in split(bytes(size * many), cuts):
        received += len(part)
        said += len(service.receive(part).data)
        assert said == received // size * size


@given(st.integers(2, 20), st.integers(0, 5), st.data(), CUTS)
def test_a_cut_message_is_the_clients_fault_and_those_before_are_answered(
    size: int, many: int, data: st.DataObject, cuts: list[int]
) -> None:
    rest = data.draw(st.integers(1, size - 1))
    stream = bytes(each % 256 for each in range(size * many + rest))
    assert outcome(EchoMessages(size), [*split(stream, cuts), b""]) == (stream[: size * many], [Kind.EOF], many)


@given(st.lists(CUTS, max_size=5))
def test_each_request_is_answered_however_it_is_split(rounds: list[list[int]]) -> None:
    parts = [part for cuts in rounds for part in split(REQUEST, cuts)]
    assert outcome(AnswerMany(REQUEST, REPLY), [*parts, b""]) == (REPLY * len(rounds), ["served"], len(rounds))


@given(st.integers(0, 3), st.integers(1, len(REQUEST) - 1), CUTS)
def test_a_cut_request_after_whole_ones_is_the_clients_fault(many: int, size: int, cuts: list[int]) -> None:
    parts = [REQUEST] * many + split(REQUEST[:size], cuts)
    assert outcome(AnswerMany(REQUEST, REPLY), [*parts, b""]) == (REPLY * many, [Kind.EOF], many)


@given(st.binary(min_size=1, max_size=20).filter(lambda data: not REQUEST.startswith(data[: len(REQUEST)])), CUTS)
def test_another_request_after_a_right_one_is_the_clients_fault(data: bytes, cuts: list[int]) -> None:
    assert outcome(AnswerMany(REQUEST, REPLY), [REQUEST, *split(data, cuts)]) == (REPLY, [Kind.PROTOCOL], 1)


def test_a_request_before_the_answer_to_the_last_one_is_the_clients_fault() -> None:
    assert outcome(AnswerMany(REQUEST, REPLY), [REQUEST + REQUEST[:1]]) == (b"", [Kind.PROTOCOL], 0)


@pytest.mark.parametrize("service", [EchoToEnd(), EchoMessages(3), AnswerMany(REQUEST, REPLY)])
def test_a_stream_that_ends_at_once_is_a_conversation_without_a_message(service: Service) -> None:
    assert outcome(service, [b""]) == (b"", ["served"], 0)


@pytest.mark.parametrize("service", [EchoToNul(), EchoMessages(3), AnswerMany(REQUEST, REPLY)])
def test_a_fault_says_what_the_client_did_wrong(service: Service) -> None:
    outcome(service, [REQUEST[:2], b""])
    assert service.failure is not None
    assert "the stream ended" in str(service.failure)


def test_a_file_that_was_sent_in_part_is_an_error_that_names_it() -> None:
    file = File("/some/where", 100, zero_copy=True)
    file.expect(100)
    with pytest.raises(OSError, match=r"99 bytes of 100 are left: '/some/where'"):
        file.expect(99)
