"""What does an HTTPS client need? Several URLs at once, with chain and host name verified for each."""

from functools import partial

from loopmark.case import Benchmark, Conversation, Role
from loopmark.http1 import OneRequest, Site
from loopmark.spi import TLSProfile

from . import http_server, https_static

SITE = Site(*http_server.PAGES, https_static.PAGE)
PATHS = ("/", "/about", https_static.PAGE.path, "/missing")

BENCHMARK = Benchmark(
    name="https_client",
    question="What does a client need for a URL over TLS: connect, verified handshake, GET, the whole reply, close?",
    conversations={
        "": Conversation(service=partial(OneRequest, SITE), talks=tuple(SITE.fetch(path) for path in PATHS))
    },
    tls=TLSProfile(),
    usual=((100, (Role.CLIENT,)),),
)
