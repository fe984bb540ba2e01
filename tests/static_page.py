"""A plug-in with a static page over TLS, and over plain TCP, for servers that are not ours."""

from dataclasses import dataclass

from loopmark.case import Benchmark, Conversation
from loopmark.errors import ProtocolError
from loopmark.service import AnswerOnce, Talk
from loopmark.spi import TLSProfile

BODY = b"".join(b"%015d\n" % line for line in range(1280))
REQUEST = b"GET /files/page.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" + BODY


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Talk):
    """Takes any server's header."""

    def check(self, reply: bytes) -> None:
        """Raise ProtocolError unless it is the page."""
        header, _, body = reply.partition(b"\r\n\r\n")
        if not header.startswith(b"HTTP/1.1 200 ") or body != BODY:
            raise ProtocolError(f"not the page: {reply[:40]!r}")


TALK = Page(parts=(REQUEST,), reply=REPLY, reply_size=None)
CONVERSATION = Conversation(service=lambda: AnswerOnce(REQUEST, REPLY), talks=(TALK,))
SECURE = Benchmark(
    name="secure_page",
    question="?",
    conversations={"": CONVERSATION},
    tls=TLSProfile(),
    second_opinion="/sized/page.txt",
)
PLAIN = Benchmark(name="plain_page", question="?", conversations={"": CONVERSATION}, tls=None)

benchmarks = {"secure_page": SECURE, "plain_page": PLAIN}
