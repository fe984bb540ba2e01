"""What does a message cost without TLS? Echo until the end of the stream, and round trips on open connections."""

from functools import partial

from loopmark.case import Benchmark, Conversation, Traffic
from loopmark.service import EchoMessages, EchoToEnd, Talk

SIZES = {"1KiB": 1024, "10KiB": 10 * 1024, "100KiB": 100 * 1024}


def to_end(size: int) -> Conversation:
    """Connect, send, half-close, read the same bytes to the end of the stream."""
    message = b"\xa5" * size
    # How often a server reads, and so writes, is its library's affair.
    talk = Talk(parts=(message, b""), reply=message, reply_size=None, reply_parts=size)
    return Conversation(service=EchoToEnd, talks=(talk,))


def round_trips(size: int) -> Conversation:
    """Send a message and read it back, again and again, on connections that stay open."""
    message = b"\xa5" * size
    talk = Talk(parts=(message,), reply=message, reply_size=size, reply_parts=size)
    return Conversation(service=partial(EchoMessages, size), talks=(talk,), traffic=Traffic.MESSAGES)


BENCHMARK = Benchmark(
    name="tcp_echo",
    question="What does a message cost without TLS: echo to the end of the stream, and on open connections?",
    conversations={name: to_end(size) for name, size in SIZES.items()}
    | {f"open-{name}": round_trips(size) for name, size in SIZES.items()},
    tls=None,
    concurrencies=(1, 10, 100),
    bursts=(),
)
