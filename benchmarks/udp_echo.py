"""What does a datagram cost? Each is sent after the answer to the one before it, with a deadline for that."""

from loopmark.case import Benchmark, Conversation, Role, Traffic
from loopmark.service import Talk

LARGEST = 65_507
"""Bytes of content that a datagram over IPv4 can have."""


def echo(data: bytes) -> bytes:
    """Answer with the same bytes."""
    return data


def _conversation(size: int) -> Conversation:
    message = b"\xa5" * size
    talk = Talk(parts=(message,), reply=message, reply_size=size)
    return Conversation(answer=echo, talks=(talk,), traffic=Traffic.DATAGRAMS)


BENCHMARK = Benchmark(
    name="udp_echo",
    question="What does a datagram and its answer cost?",
    conversations={"64B": _conversation(64), "1KiB": _conversation(1024)},
    tls=None,
    concurrencies=(1, 10, 100),
    bursts=(),
    usual=((10, (Role.SERVER, Role.CLIENT)), (1, (Role.BOTH,))),
)
