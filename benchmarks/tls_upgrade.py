"""What does it cost to upgrade an open plain connection to TLS? The rest is `tls_pingpong`."""

from dataclasses import replace

from . import tls_pingpong
from .tcp_pingpong import PINGPONG

# The server's go-ahead: a client that began with TLS at once could find the server's plain reader still there.
UPGRADED = replace(PINGPONG, go_ahead=b"GO")

BENCHMARK = replace(
    tls_pingpong.BENCHMARK,
    name="tls_upgrade",
    question="What does it cost to upgrade: connect in the clear, go-ahead, handshake, PING, PONG, close?",
    conversations={"": UPGRADED},
)
