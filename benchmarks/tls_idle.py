"""What does an idle TLS connection hold? Private memory of both sides, beyond the first quarter of the connections."""

from loopmark.case import Benchmark, Conversation, Role, Traffic
from loopmark.spi import TLSProfile

from .tcp_pingpong import PINGPONG

# In the end every connection has its ping-pong: none was lost meanwhile.
IDLE = Conversation(service=PINGPONG.service, talks=PINGPONG.talks, traffic=Traffic.IDLE)

BENCHMARK = Benchmark(
    name="tls_idle",
    question="How much private memory does an idle TLS connection take, on either side?",
    conversations={"": IDLE},
    tls=TLSProfile(),
    concurrencies=(2000,),
    bursts=(),
    usual=((2000, (Role.SERVER, Role.CLIENT)),),
)
