"""What does it cost to look a name up through the library's resolver? No server is asked: the names are local."""

import socket

from loopmark.case import Benchmark, Conversation, Lookup, Role, Traffic

from .tcp_pingpong import PINGPONG

IPV4, IPV6 = socket.AddressFamily.AF_INET, socket.AddressFamily.AF_INET6


def _lookup(host: str, family: socket.AddressFamily) -> Conversation:
    addresses = {IPV4: frozenset({"127.0.0.1"}), IPV6: frozenset({"::1"})}[family]
    name = Lookup(host=host, family=family, addresses=addresses)
    # The ping-pong is for the proof: it tells on which loop this runs.
    return Conversation(service=PINGPONG.service, talks=PINGPONG.talks, traffic=Traffic.LOOKUPS, lookups=(name,))


BENCHMARK = Benchmark(
    name="getaddrinfo",
    question="What does the resolver's path cost, for an address and for a local name?",
    conversations={
        "literal-ipv4": _lookup("127.0.0.1", IPV4),
        "literal-ipv6": _lookup("::1", IPV6),
        "localhost-ipv4": _lookup("localhost", IPV4),
    },
    tls=None,
    concurrencies=(1, 10),
    bursts=(),
    usual=((1, (Role.BOTH,)),),
    roles=(Role.BOTH,),
)
