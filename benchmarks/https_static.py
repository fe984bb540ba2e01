"""What does a TLS server need? A page of 20 KiB for each connection, whose end marks the end of the body."""

from dataclasses import replace
from functools import partial

from loopmark.case import Benchmark, Conversation, Role
from loopmark.http1 import OneRequest, Page, Site
from loopmark.spi import TLSProfile

# Numbered lines, so that nothing that is lost or swapped goes unseen.
PAGE = Page(path="/page.txt", body=b"".join(b"%015d\n" % line for line in range(1280)), sized=False)

# Not part of the benchmark, but for wrk, which over TLS counts no request whose reply tells no length.
SIZED_PAGE = replace(PAGE, path="/sized.txt", sized=True)

SITE = Site(PAGE, SIZED_PAGE)

BENCHMARK = Benchmark(
    name="https_static",
    question="What does a server need for a page of 20,480 bytes over TLS, one connection for each request?",
    conversations={"": Conversation(service=partial(OneRequest, SITE), talks=(SITE.fetch(PAGE.path),))},
    tls=TLSProfile(),
    usual=((1000, (Role.SERVER,)),),
    references=("nginx",),
    second_opinion=SIZED_PAGE.path,
)
