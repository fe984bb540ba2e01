"""The same small pages over TLS: side by side with `http_server` they show what HTTPS costs a server."""

from dataclasses import replace

from loopmark.spi import TLSProfile

from . import http_server

BENCHMARK = replace(
    http_server.BENCHMARK,
    name="https_server",
    question="What does a server need for a small page over TLS: connect, handshake, parse, answer, close?",
    tls=TLSProfile(),
)
