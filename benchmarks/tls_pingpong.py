"""What does a new TLS connection cost? The headline: one full, verified handshake for every PING and PONG."""

from dataclasses import replace

from loopmark.spi import TLSProfile

from . import tcp_pingpong

BENCHMARK = replace(
    tcp_pingpong.BENCHMARK,
    name="tls_pingpong",
    question="What does a new TLS connection cost: connect, verified handshake, PING, PONG, close?",
    tls=TLSProfile(),
)
