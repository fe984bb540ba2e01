"""What does a small page cost over HTTP/1.1, one request for each connection? Home, About, and what is not there."""

from functools import partial

from loopmark.case import Benchmark, Conversation, Role
from loopmark.http1 import OneRequest, Page, Site

PAGES = (Page(path="/", body=b"Home"), Page(path="/about", body=b"About"))
SITE = Site(*PAGES)

BENCHMARK = Benchmark(
    name="http_server",
    question="What does a server need for a small page: connect, parse, answer, close?",
    conversations={
        "": Conversation(
            service=partial(OneRequest, SITE),
            talks=(SITE.fetch("/"), SITE.fetch("/about"), SITE.fetch("/missing")),
        )
    },
    tls=None,
    usual=((100, (Role.SERVER,)),),
)
