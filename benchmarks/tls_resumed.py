"""What does session resumption save? The same as `tls_pingpong`, but every handshake takes up an older session."""

from dataclasses import replace

from loopmark.spi import TLSProfile

from . import tls_pingpong

BENCHMARK = replace(
    tls_pingpong.BENCHMARK,
    name="tls_resumed",
    question="What does a new TLS connection cost when it resumes a session: connect, handshake, PING, PONG, close?",
    tls=TLSProfile(tickets=1, resumed=True),
)
