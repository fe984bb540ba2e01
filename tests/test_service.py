"""The sans-I/O conversations: one outcome for every way in which the bytes can arrive."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopmark.errors import Kind, ProtocolError, TrafficError
from loopmark.service import HANG_UP, KEEP_READING, AnswerOnce, Reply, Talk, Then

REQUEST, REPLY = b"PING\x00PING", b"PONG"


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut the data at these places, counted from its start; no part is empty, for that means the end of the stream."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def answers(parts: list[bytes], request: bytes = REQUEST) -> list[Reply]:
    service = AnswerOnce(request, REPLY)
    return [service.receive(part) for part in parts]


def failure(parts: list[bytes]) -> TrafficError:
    """Feed a service until it hangs up, and return what it holds against its peer."""
    service = AnswerOnce(REQUEST, REPLY)
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


def test_each_connection_has_its_own_conversation() -> None:
    first, second = AnswerOnce(REQUEST, REPLY), AnswerOnce(REQUEST, REPLY)
    first.receive(REQUEST[:3])
    assert second.receive(REQUEST).then is Then.CLOSE


def test_a_wrong_request_is_found_at_its_first_wrong_byte() -> None:
    service = AnswerOnce(b"x" * 1000, REPLY)
    service.receive(b"xx")
    assert service.receive(b"y") == HANG_UP


def test_the_right_reply_passes_the_check() -> None:
    Talk(parts=(REQUEST,), reply=REPLY, reply_size=None).check(b"PONG")


@pytest.mark.parametrize("reply", [b"", b"PON", b"PONGPONG", b"pong", b"PONG\x00"])
def test_any_other_reply_breaks_the_protocol(reply: bytes) -> None:
    with pytest.raises(ProtocolError, match=rf"expected the reply b'PONG'.*\({len(reply)} bytes\)") as caught:
        Talk(parts=(REQUEST,), reply=REPLY, reply_size=None).check(reply)
    assert caught.value.kind is Kind.PROTOCOL


def test_long_replies_are_cut_in_the_message() -> None:
    with pytest.raises(ProtocolError) as caught:
        Talk(parts=(REQUEST,), reply=b"a" * 100_000, reply_size=None).check(b"b" * 100_000)
    assert len(str(caught.value)) < 200
    assert "(100000 bytes)" in str(caught.value)
