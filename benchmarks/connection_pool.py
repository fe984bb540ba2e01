"""What does it save to use connections again? Ten requests at once over three connections, and without a pool."""

from functools import partial

from loopmark.case import Benchmark, Conversation, Role, Traffic
from loopmark.service import AnswerMany, Talk
from loopmark.spi import TLSProfile

from .tcp_pingpong import PINGPONG

SLOTS = 3
AT_ONCE = 10

# The conversation goes on after a reply, so that the client is who ends it.
POOLED = Conversation(
    service=partial(AnswerMany, b"PING", b"PONG"),
    talks=(Talk(parts=(b"PING",), reply=b"PONG", reply_size=4),),
    traffic=Traffic.POOL,
    slots=SLOTS,
)

BENCHMARK = Benchmark(
    name="connection_pool",
    question=f"What does a pool of {SLOTS} TLS connections save for {AT_ONCE} requests at once?",
    conversations={"pool": POOLED, "no-pool": PINGPONG},
    tls=TLSProfile(),
    concurrencies=(AT_ONCE, 100),
    bursts=(),
    usual=((AT_ONCE, (Role.CLIENT,)),),
)
