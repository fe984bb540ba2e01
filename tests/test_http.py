"""HTTP/1.1 without sockets: one outcome for every way in which the bytes can arrive."""

import gc
import re
import weakref
from contextlib import suppress
from importlib import import_module
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopmark.case import Benchmark
from loopmark.errors import Kind, ProtocolError
from loopmark.http1 import LIMIT, Fetch, OneRequest, Page, Response, Site, read_response
from loopmark.service import HANG_UP, KEEP_READING, Reply, Then

SITE = Site(
    Page(path="/", body=b"Home"),
    Page(path="/about", body=b"About", content_type="text/html"),
    Page(path="/long", body=b"x" * 5000, sized=False),
)
HOST = "Host: localhost\r\n"
NAMES = ("http_server", "https_server", "https_static", "https_client")
BENCHMARKS: dict[str, Benchmark] = {name: import_module(f"loopmark.benchmarks.{name}").BENCHMARK for name in NAMES}


class Tally:
    def __init__(self) -> None:
        self.ended: list[str] = []

    def served(self) -> None:
        self.ended.append("served")

    def exchanged(self) -> None:
        self.ended.append("exchanged")

    def failed(self, kind: Kind, /) -> None:
        self.ended.append(kind)


def opened() -> tuple[OneRequest, Tally]:
    service, tally = OneRequest(SITE), Tally()
    service.tally = tally
    return service, tally


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut the data at these places, counted from its start; no part is empty, for that means the end of the stream."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def outcome(parts: list[bytes]) -> tuple[bytes, list[str]]:
    """Feed a service until it closes, as a backend does; return what it said, and how it was counted."""
    service, tally = opened()
    said = b""
    for part in parts:
        reply = service.receive(part)
        said += reply.data
        if reply.then is Then.CLOSE:
            break
    return said, tally.ended


def answered(request: str) -> tuple[int, bytes, list[str]]:
    said, ended = outcome([request.encode("latin-1")])
    response = read_response(said)
    return response.status, response.body, ended


def fields(reply: bytes) -> dict[str, str]:
    lines = reply.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return dict(line.split(": ") for line in lines)


CUTS = st.lists(st.integers(min_value=0), max_size=12)
PATHS = st.sampled_from(["/", "/about", "/long", "/missing", "/about?x=1", "http://localhost/about", "*", "//"])
METHODS = st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "CONNECT", "BREW", "get", "\x16\x03\x01", ""])
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/3.0", "FTP/1.1"])
FIELDS = st.sampled_from(
    [
        *(HOST, "Accept: */*\r\n", "Empty:\r\n", "Connection: close\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        *("No colon\r\n", "Content-Length: 3\r\n", "Content-Length: x\r\n", "Transfer-Encoding: chunked\r\n"),
        f"Long: {'y' * LIMIT}\r\n",
    ]
)
REQUESTS = st.builds(
    lambda method, path, version, lines, tail: f"{method} {path} {version}\r\n{''.join(lines)}\r\n{tail}".encode(
        "latin-1"
    ),
    METHODS,
    PATHS,
    VERSIONS,
    st.lists(FIELDS, max_size=4),
    st.sampled_from(["", "abc", f"GET /about HTTP/1.1\r\n{HOST}\r\n", "\x00\r\n\r\n", "z" * LIMIT]),
)


@given(REQUESTS, CUTS)
def test_the_answer_and_the_count_are_the_same_however_a_request_is_split(request: bytes, cuts: list[int]) -> None:
    assert outcome(split(request, cuts)) == outcome([request])


@given(st.binary(min_size=1, max_size=200), CUTS)
def test_noise_has_one_outcome_however_it_is_split(noise: bytes, cuts: list[int]) -> None:
    whole = outcome([noise, b""])
    assert outcome([*split(noise, cuts), b""]) == whole
    assert len(whole[1]) == 1


@pytest.mark.parametrize("path", ["/", "/about", "/missing", "/about?query"])
def test_a_request_may_come_byte_by_byte(path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\n{HOST}\r\n".encode()
    service, _ = opened()
    *before, last = [service.receive(bytes([byte])) for byte in request]
    assert before == [KEEP_READING] * (len(request) - 1)
    assert last.then is Then.CLOSE
    assert (last.data, ["served"]) == outcome([request])


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/", 200, b"Home"),
        ("/about", 200, b"About"),
        ("/about?a=b", 200, b"About"),
        ("http://localhost:8443/about", 200, b"About"),
        ("http://localhost/", 200, b"Home"),
        ("/missing", 404, b"Not Found"),
        ("/about/", 404, b"Not Found"),
        ("http://localhost", 404, b"Not Found"),
        ("*", 404, b"Not Found"),
    ],
)
def test_a_get_finds_what_there_is(target: str, status: int, body: bytes) -> None:
    assert answered(f"GET {target} HTTP/1.1\r\n{HOST}\r\n") == (status, body, ["served"])


def test_length_and_type_of_the_body_are_told() -> None:
    about, _ = outcome([f"GET /about HTTP/1.1\r\n{HOST}\r\n".encode()])
    assert fields(about) == {"Content-Type": "text/html", "Content-Length": "5", "Connection": "close"}
    missing, _ = outcome([f"GET /x HTTP/1.1\r\n{HOST}\r\n".encode()])
    assert fields(missing)["Content-Length"] == str(len(b"Not Found"))


def test_a_page_that_is_not_sized_has_no_length_and_ends_with_the_connection() -> None:
    service, _ = opened()
    reply = service.receive(f"GET /long HTTP/1.1\r\n{HOST}\r\n".encode())
    assert reply.then is Then.CLOSE
    assert "Content-Length" not in fields(reply.data)
    assert reply.data.endswith(b"\r\n\r\n" + b"x" * 5000)


@pytest.mark.parametrize("path", ["/", "/about", "/long", "/missing"])
def test_a_head_request_gets_the_fields_of_a_get_and_no_body(path: str) -> None:
    get, head = (outcome([f"{method} {path} HTTP/1.1\r\n{HOST}\r\n".encode()]) for method in ("GET", "HEAD"))
    assert head == (get[0].partition(b"\r\n\r\n")[0] + b"\r\n\r\n", ["served"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "M-SEARCH"])
def test_a_method_that_is_not_served_gets_405_and_is_told_which_are(method: str) -> None:
    said, ended = outcome([f"{method} / HTTP/1.1\r\n{HOST}\r\n".encode()])
    assert read_response(said).status == 405
    assert fields(said)["Allow"] == "GET, HEAD"
    assert ended == ["served"]


def test_connect_is_not_served_either() -> None:
    assert answered(f"CONNECT example.org:443 HTTP/1.1\r\n{HOST}\r\n")[0] == 405


@pytest.mark.parametrize("method", ["BREW", "GETS", "Get", "X"])
def test_a_method_that_nobody_knows_gets_501(method: str) -> None:
    assert answered(f"{method} / HTTP/1.1\r\n{HOST}\r\n") == (501, b"Not Implemented", [Kind.PROTOCOL])


@pytest.mark.parametrize(
    "request_",
    [
        "hello\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        f"GET about HTTP/1.1\r\n{HOST}\r\n",
        f"GET /a b HTTP/1.1\r\n{HOST}\r\n",
        f"GET /\xff HTTP/1.1\r\n{HOST}\r\n",
        "GET /\r\n\r\n",
        f"GET / HTTP/2.0\r\n{HOST}\r\n",
        f"GET / HTTP/9.9\r\n{HOST}\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        f"GET / HTTP/1.1\r\n{HOST}{HOST}\r\n",
        f"GET / HTTP/1.1\r\n{HOST}no colon here\r\n\r\n",
        f"GET / HTTP/1.1\r\n{HOST}Content-Length: three\r\n\r\n",
        f"GET / HTTP/1.1\r\n{HOST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_400_and_is_the_clients_fault(request_: str) -> None:
    assert answered(request_) == (400, b"Bad Request", [Kind.PROTOCOL])


def test_an_older_client_needs_no_host() -> None:
    assert answered("GET / HTTP/1.0\r\n\r\n") == (200, b"Home", ["served"])


def test_a_wish_to_upgrade_is_ignored() -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: h2c\r\n"
    assert answered(f"GET / HTTP/1.1\r\n{HOST}{upgrade}\r\n") == (200, b"Home", ["served"])


def with_head_of(size: int) -> bytes:
    """Make a request whose head has so many bytes."""
    start = f"GET / HTTP/1.1\r\n{HOST}Long: ".encode()
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"


def test_the_longest_head_is_answered() -> None:
    said, ended = outcome([with_head_of(LIMIT)])
    assert (read_response(said).status, ended) == (200, ["served"])


@pytest.mark.parametrize("chunk", [1 << 20, 1000, 1])
def test_a_longer_head_gets_431_at_once_however_it_comes(chunk: int) -> None:
    request = with_head_of(LIMIT + 1)
    parts = [request[start : start + chunk] for start in range(0, len(request), chunk)]
    said, ended = outcome(parts)
    assert (read_response(said).status, ended) == (431, [Kind.PROTOCOL])


def test_a_head_that_never_ends_is_not_kept_for_ever() -> None:
    service, _ = opened()
    answers = [service.receive(b"GET / HTTP/1.1\r\n")]
    while answers[-1] == KEEP_READING:
        answers.append(service.receive(b"A: b\r\n"))
    assert sum(6 for _ in answers[1:]) <= LIMIT


@pytest.mark.parametrize(
    "after", ["", "body", f"GET /about HTTP/1.1\r\n{HOST}\r\n", "\x00nonsense\r\n\r\n", "z" * 2 * LIMIT]
)
@pytest.mark.parametrize("connection", ["", "Connection: close\r\n", "Connection: keep-alive\r\n"])
def test_of_pipelined_requests_the_first_is_answered_and_the_rest_ignored(after: str, connection: str) -> None:
    assert answered(f"GET / HTTP/1.1\r\n{HOST}{connection}\r\n{after}") == (200, b"Home", ["served"])


def test_a_body_is_not_waited_for() -> None:
    assert answered(f"POST / HTTP/1.1\r\n{HOST}Content-Length: 1000000\r\n\r\n")[0] == 405


@pytest.mark.parametrize("late", [b"GET / HTTP/1.1\r\n\r\n", b"\x00", b""])
def test_what_comes_after_the_answer_is_neither_answered_nor_counted(late: bytes) -> None:
    service, tally = opened()
    service.receive(f"GET / HTTP/1.1\r\n{HOST}\r\n".encode())
    assert service.receive(late) == HANG_UP
    assert (tally.ended, service.failure) == (["served"], None)


@given(st.integers(min_value=0, max_value=40), CUTS)
def test_a_cut_request_is_an_early_end(size: int, cuts: list[int]) -> None:
    request = f"GET /about HTTP/1.1\r\n{HOST}\r\n".encode()[:-2]
    assert outcome([*split(request[:size], cuts), b""]) == (b"", [Kind.EOF])


def test_a_lost_connection_is_counted_by_how_it_was_lost() -> None:
    service, tally = opened()
    service.receive(b"GET ")
    service.lost(ConnectionResetError(104, "reset"))
    assert tally.ended == [Kind.RESET]


def test_each_connection_has_its_own_request() -> None:
    (first, _), (second, _) = opened(), opened()
    first.receive(b"GET /about ")
    assert read_response(second.receive(f"GET / HTTP/1.1\r\n{HOST}\r\n".encode()).data).body == b"Home"
    assert read_response(first.receive(f"HTTP/1.1\r\n{HOST}\r\n".encode()).data).body == b"About"


@pytest.mark.parametrize("request_", [f"GET / HTTP/1.1\r\n{HOST}\r\n", "nonsense", ""])
def test_a_conversation_that_is_over_leaves_nothing_to_the_garbage_collector(request_: str) -> None:
    service, _ = opened()
    service.receive(request_.encode())
    gone = weakref.ref(service)
    gc.disable()
    try:
        del service
        assert gone() is None
    finally:
        gc.enable()


def test_equal_requests_share_one_reply() -> None:
    request = f"GET / HTTP/1.1\r\n{HOST}\r\n".encode()
    replies: list[Reply] = [opened()[0].receive(request) for _ in range(2)]
    assert replies[0] is replies[1]


@given(st.integers(min_value=100, max_value=999), st.binary(max_size=100))
def test_a_response_is_read_as_status_and_body(status: int, body: bytes) -> None:
    assert read_response(b"HTTP/1.1 %d Some Thing\r\nA: b\r\n\r\n%b" % (status, body)) == Response(status, body)


@pytest.mark.parametrize(
    "reply",
    [
        *(b"", b"PONG", b"HTTP/1.1 200 OK\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 20\r\n\r\n"),
        *(b"HTTP/1.1 abc OK\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"\r\n\r\nHTTP/1.1 200 OK"),
    ],
)
def test_what_is_no_response_breaks_the_protocol(reply: bytes) -> None:
    with pytest.raises(ProtocolError, match=re.escape(f"({len(reply)} bytes)")):
        read_response(reply)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_response_or_break_the_protocol(reply: bytes) -> None:
    with suppress(ProtocolError):
        assert 0 <= read_response(reply).status <= 999


FETCH = SITE.fetch("/about")


@pytest.mark.parametrize(
    "reply",
    [
        FETCH.reply,
        b"HTTP/1.1 200 OK\r\nServer: other\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\nAbout",
        b"HTTP/1.0 200 Fine\r\n\r\nAbout",
    ],
)
def test_another_servers_fields_do_not_matter(reply: bytes) -> None:
    FETCH.check(reply)


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (b"HTTP/1.1 500 Oh\r\n\r\nAbout", "got 500 and 5 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\nAbou", "got 200 and 4 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\nAbout!", "got 200 and 6 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\nabout", "b'About', got 200 and 5 bytes b'about'"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nAbout\r\n0\r\n\r\n", "got 200 and 15 bytes"),
        (b"About", "expected an HTTP/1.1 reply"),
    ],
)
def test_status_and_body_must_be_right_to_the_byte(reply: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=re.escape(complaint)):
        FETCH.check(reply)


@pytest.mark.parametrize("name", NAMES)
def test_every_talk_of_a_benchmark_gets_the_reply_that_it_expects(name: str) -> None:
    conversation = BENCHMARKS[name].conversation("")
    for talk in conversation.talks:
        assert isinstance(talk, Fetch)
        service = conversation.service()
        assert service.receive(b"".join(talk.parts)) == Reply(talk.reply, Then.CLOSE)
        talk.check(talk.reply)


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("http_server", [200, 200, 404]),
        ("https_server", [200, 200, 404]),
        ("https_static", [200]),
        ("https_client", [200, 200, 200, 404]),
    ],
)
def test_benchmarks_ask_for_what_they_promise(name: str, statuses: list[int]) -> None:
    talks = BENCHMARKS[name].conversation("").talks
    assert [read_response(talk.reply).status for talk in talks] == statuses
    assert (BENCHMARKS[name].tls is None) == (name == "http_server")


def test_the_static_page_has_20480_bytes_and_no_stated_length() -> None:
    (talk,) = BENCHMARKS["https_static"].conversation("").talks
    assert len(read_response(talk.reply).body) == 20_480
    assert "Content-Length" not in fields(talk.reply)
    assert b"Connection: close\r\n" in talk.parts[0]
