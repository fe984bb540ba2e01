"""What does a new plain TCP connection cost? The twin of `tls_pingpong`: side by side they show the cost of TLS."""

from loopmark.case import Benchmark, Conversation
from loopmark.service import AnswerOnce, Talk

# The reply ends with the stream: the client sees the server close, so that both sides end alike everywhere.
PINGPONG = Conversation(
    service=AnswerOnce.prepared(b"PING", b"PONG"), talks=(Talk(parts=(b"PING",), reply=b"PONG", reply_size=None),)
)

BENCHMARK = Benchmark(
    name="tcp_pingpong",
    question="What does a new TCP connection cost: connect, PING, PONG, close?",
    conversations={"": PINGPONG},
    tls=None,
)
