"""What does a message cost over TLS? One that is ended by a NUL byte, and round trips on open connections."""

from loopmark.case import Benchmark, Conversation
from loopmark.service import EchoToNul, Talk
from loopmark.spi import TLSProfile

from .tcp_echo import round_trips

PARTS = (b"This is the message. ", b"It will be sent ", b"in parts.")

# The NUL is a write of its own, because TLS cannot half-close. The server may read it with the last part. It reads up
# to 128 bytes at a time, but for a server on the protocol level, which is given what arrives.
MESSAGE = Conversation(
    service=EchoToNul,
    talks=(Talk(parts=(*PARTS, b"\0"), reply=b"".join(PARTS), reply_size=None, reply_parts=len(PARTS)),),
)

SIZES = {"64B": 64, "1KiB": 1024, "16KiB": 16 * 1024, "100KiB": 100 * 1024}

BENCHMARK = Benchmark(
    name="tls_echo",
    question="What does a message cost over TLS: in parts up to a NUL byte, and on open connections?",
    conversations={"nul": MESSAGE} | {f"open-{name}": round_trips(size) for name, size in SIZES.items()},
    tls=TLSProfile(),
    concurrencies=(1, 10, 100),
    bursts=(),
)
