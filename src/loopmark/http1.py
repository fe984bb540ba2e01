"""HTTP/1.1 free of I/O: one request per connection, answered with a reply that was made before, then closed.

* The end of the head is the end of the request. What follows, a body or pipelined requests, is ignored: the first
  request is answered, and the connection is closed.
* What is no request gets 400, a method that HTTP does not know 501, a head without an end 431. These count as the
  client's faults, as does a stream that ends early. 404 and 405 are proper answers to proper requests.
* Replies have no date, although servers should send one: equal requests get equal bytes, which can be compared.

The parser is llhttp, by way of `httptools`: one in Python would be most of what is measured.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser, parse_url

from loopmark.errors import Kind, ProtocolError, TrafficError
from loopmark.service import HANG_UP, KEEP_READING, Reply, Service, Talk, Then

LIMIT = 16384
"""Bytes of the longest head that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is found at a path; where it is not `sized`, only the end of the connection tells where the body ends."""

    path: str
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    sized: bool = True


class Site:
    """Pages, and what any request is answered."""

    def __init__(self, *pages: Page) -> None:
        self._replies = {method: {page.path.encode(): _found(page, method) for page in pages} for method in _METHODS}

    def answer(self, method: bytes, target: bytes) -> Reply:
        """Return the reply to a request; raises HttpParserError for a target that is none."""
        replies = self._replies.get(method)
        if replies is None:
            return _NOT_ALLOWED
        # Mostly the target is the path itself; it may have a query, or be a whole URL.
        return replies.get(target) or replies.get(parse_url(target).path) or _MISSING[method]

    def fetch(self, path: str) -> "Fetch":
        """Return a client's side: GET this path, and expect what the site answers."""
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        return Fetch(parts=(request,), reply=self.answer(b"GET", path.encode()).data, reply_size=None)


class OneRequest(Service):
    """Answers the first request and closes."""

    _head: "_Head | None" = None
    _received = _target = b""
    _hosts = 0

    def __init__(self, site: Site) -> None:
        self._site = site
        self._parser: HttpRequestParser | None = HttpRequestParser(self)

    def receive(self, data: bytes, /) -> Reply:
        """Answer once the head is there; what comes after an answer changes nothing."""
        if self._parser is None:
            return HANG_UP
        if not data:
            what = f"the stream ended after {len(self._received)} bytes of a request"
            return self._reject(HANG_UP, TrafficError(Kind.EOF, what))
        room = LIMIT - len(self._received)
        self._received += data
        try:
            self._parser.feed_data(data[:room])
        except HttpParserUpgrade:
            pass  # there is nothing here to upgrade to, and servers may ignore the wish
        except HttpParserError as error:
            # Behind the first request mistakes are ignored, too.
            if self._head is None:
                return self._reject(self._mistake(error), ProtocolError(f"no HTTP request: {error}"))
        if self._head is not None:
            return self._answer(self._head)
        if len(self._received) >= LIMIT:
            return self._reject(_TOO_LONG, ProtocolError(f"a request whose head has more than {LIMIT} bytes"))
        return KEEP_READING

    def on_url(self, part: bytes) -> None:
        """Take a part of the target from the parser."""
        self._target += part

    def on_header(self, name: bytes, _value: bytes) -> None:
        """Take a field from the parser; none of them matters but Host, which there must be."""
        if name.lower() == b"host":
            self._hosts += 1

    def on_headers_complete(self) -> None:
        """Keep the first head from the parser, which goes on to the next request at once."""
        if self._head is None and self._parser is not None:
            parser = self._parser
            self._head = _Head(parser.get_method(), self._target, parser.get_http_version(), self._hosts)

    def _answer(self, head: "_Head") -> Reply:
        if head.version not in ("1.0", "1.1") or head.hosts > 1 or (head.version == "1.1" and not head.hosts):
            what = f"HTTP/{head.version} with {head.hosts} Host fields"
            return self._reject(_BAD, ProtocolError(f"no HTTP/1.1 request: {what}"))
        try:
            reply = self._site.answer(head.method, head.target)
        except HttpParserError as error:
            return self._reject(_BAD, ProtocolError(f"no HTTP request: {error}"))
        self._parser = None
        return self.finish(reply)

    def _mistake(self, error: HttpParserError) -> Reply:
        """Tell an unknown method from what is no HTTP at all, by its first byte, which is there however it is split."""
        is_method = isinstance(error, HttpParserInvalidMethodError) and self._received.lstrip(b"\r\n")[:1].isupper()
        return _UNKNOWN if is_method else _BAD

    def _reject(self, reply: Reply, failure: TrafficError) -> Reply:
        """Count the client's fault, and tell it."""
        # Parser and service know each other: without this they would wait for the garbage collector.
        self._parser = None
        self.refuse(failure)
        return reply


class _Head(NamedTuple):
    method: bytes
    target: bytes
    version: str
    hosts: int


class Response(NamedTuple):
    """What matters of a reply, as a client sees it."""

    status: int
    body: bytes


def read_response(reply: bytes) -> Response:
    """Read a whole reply whose body ends with it; raises ProtocolError for what is none."""
    head, end, body = reply.partition(b"\r\n\r\n")
    version, _, rest = head.partition(b" ")
    if not end or version not in (b"HTTP/1.1", b"HTTP/1.0") or not rest[:3].isdigit() or len(rest[:3]) < 3:
        raise ProtocolError(f"expected an HTTP/1.1 reply, got {reply[:40]!r} ({len(reply)} bytes)")
    return Response(int(rest[:3]), body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch(Talk):
    """One request. Of another server's reply, whose fields differ, status and body must be right, to the byte."""

    def check(self, reply: bytes) -> None:
        """Raise ProtocolError unless status and body are what they should be."""
        expected, got = read_response(self.reply), read_response(reply)
        if got != expected:
            raise ProtocolError(
                f"expected status {expected.status} and a body of {len(expected.body)} bytes {expected.body[:20]!r}, "
                f"got {got.status} and {len(got.body)} bytes {got.body[:20]!r}"
            )


_METHODS = (b"GET", b"HEAD")


def _found(page: Page, method: bytes) -> Reply:
    fields = [f"Content-Type: {page.content_type}"]
    if page.sized:
        fields.append(f"Content-Length: {len(page.body)}")
    return _reply(HTTPStatus.OK, fields, b"" if method == b"HEAD" else page.body)


def _other(status: HTTPStatus, *fields: str, is_head: bool = False) -> Reply:
    body = status.phrase.encode()
    fields = ("Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}", *fields)
    return _reply(status, fields, b"" if is_head else body)


def _reply(status: HTTPStatus, fields: Iterable[str], body: bytes) -> Reply:
    lines = (f"HTTP/1.1 {status.value} {status.phrase}", *fields, "Connection: close", "", "")
    return Reply("\r\n".join(lines).encode() + body, Then.CLOSE)


_MISSING = {method: _other(HTTPStatus.NOT_FOUND, is_head=method == b"HEAD") for method in _METHODS}
_NOT_ALLOWED = _other(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET, HEAD")
_UNKNOWN = _other(HTTPStatus.NOT_IMPLEMENTED)
_BAD = _other(HTTPStatus.BAD_REQUEST)
_TOO_LONG = _other(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
