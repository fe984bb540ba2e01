"""The contract's clauses about half-closed connections: a side ends its own stream and goes on reading."""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

from loopmark.case import ClosePolicy
from loopmark.errors import Kind
from loopmark.ledger import Ledger
from loopmark.relay import RecordingRelay
from loopmark.service import KEEP_READING, EchoToEnd, Reply, Service, Talk, Then
from loopmark.spi import Address, Feature
from loopmark.testing.endpoint import End, Endpoint
from loopmark.testing.ground import Clause, Ground, Where, calling, clause, expect, failure
from loopmark.wire import judge

MESSAGE = bytes(range(256)) * 400
"""100 KiB: more than is read or written at once."""

REPLY = MESSAGE[::-1]


@clause(Where.ONCE_PLAIN, needs=Feature.HALF_CLOSE)
def client_reads_on_after_its_end(at: Ground) -> None:
    """An empty part ends the client's stream, after everything before it, and all of a later reply is read."""
    talk = Talk(parts=(MESSAGE[:1], MESSAGE[1:], b""), reply=REPLY, reply_size=None)

    def answer_the_end(peer: Endpoint) -> None:
        received = peer.read_to_end()
        expect(peer.end is End.FIN, f"after its empty part the client ended its stream with {peer.end}")
        expect(received == MESSAGE, f"of {len(MESSAGE)} bytes before the end came {len(received)}")
        peer.send(REPLY)

    for size in (None, len(REPLY)):
        with at.reference_server(answer_the_end) as server, RecordingRelay(server.address) as relay:
            reply = at.backend.run(lambda: at.visit(relay.address, parts=talk.parts, reply_size=size))  # noqa: B023  # called at once
            traces = relay.traces(at.patience)
        expect(reply == REPLY, f"of {len(REPLY)} bytes after its own end the client read {len(reply)}")
        fault = judge(traces[0], ClosePolicy.HALF_CLOSE, tls=None, talk=talk)
        expect(fault is None, f"{fault}: {', '.join(traces[0].records)}")


@clause(Where.ONCE_PLAIN, needs=Feature.HALF_CLOSE)
def client_reports_a_reset_after_its_end(at: Ground) -> None:
    """A connection that is reset after the client's own end is a failure, also in the middle of the reply."""

    def reset(peer: Endpoint) -> None:
        peer.read_to_end()
        peer.send(REPLY[:3])
        peer.reset()

    with at.reference_server(reset) as server:
        error = failure(
            at.backend, lambda: at.visit(server.address, parts=(MESSAGE, b"")), "a reply was returned that was reset"
        )
    expect(error.kind in (Kind.RESET, Kind.EOF), f"the failure is told as {error}")


@clause(Where.ONCE_PLAIN, needs=Feature.HALF_CLOSE)
def server_answers_after_the_end(at: Ground) -> None:
    """What the service answers to the end of the client's stream arrives whole, and then the server's stream ends."""

    class Reverse(Service):
        def __init__(self) -> None:
            self._received = b""

        def receive(self, data: bytes, /) -> Reply:
            self._received += data
            return KEEP_READING if data else self.finish(Reply(self._received[::-1], Then.CLOSE))

    def work(address: Address, ledger: Ledger) -> None:
        with RecordingRelay(address) as relay, calling() as clients:
            client = at.dial(relay.address)
            clients.append(client)
            client.send(MESSAGE)
            expect(not client.hears(0.005), "the server said something before the end of the client's stream")
            client.cut()
            reply = client.read_to_end()
            expect(reply == REPLY, f"after the end of the client's stream came {len(reply)} of {len(REPLY)} bytes")
            expect(client.end is End.FIN, f"after its answer the server ended its stream with {client.end}")
            client.close()
            _judged(at, relay, ledger, Talk(parts=(MESSAGE, b""), reply=REPLY, reply_size=None))

    at.serve(work, service=Reverse)


@clause(Where.ONCE_PLAIN, needs=Feature.HALF_CLOSE)
def server_echoes_to_the_end(at: Ground) -> None:
    """A server that answers what it reads ends its own stream when the client has ended, and not before."""

    def work(address: Address, ledger: Ledger) -> None:
        with RecordingRelay(address) as relay, calling() as clients:
            client = at.dial(relay.address)
            clients.append(client)
            client.send(MESSAGE)
            echo = client.read(len(MESSAGE))
            expect(not client.hears(0.005), "the server ended its stream before the client did")
            client.send(MESSAGE)
            client.cut()
            echo += client.read_to_end()
            expect(echo == 2 * MESSAGE, f"of {2 * len(MESSAGE)} bytes to echo came {len(echo)}")
            expect(client.end is End.FIN, f"after its echo the server ended its stream with {client.end}")
            client.close()
            _judged(at, relay, ledger, Talk(parts=(MESSAGE, MESSAGE, b""), reply=2 * MESSAGE, reply_size=None))

    at.serve(work, service=EchoToEnd)


def _judged(at: Ground, relay: RecordingRelay, ledger: Ledger, talk: Talk) -> None:
    (trace,) = relay.traces(at.patience)
    fault = judge(trace, ClosePolicy.HALF_CLOSE, tls=None, talk=talk)
    expect(fault is None, f"{fault}: {', '.join(trace.records)}")
    at.settle(ledger, 0)
    counts = ledger.counts()
    expect((counts.served, counts.faults) == (1, {}), f"one conversation was counted as {counts}")


CLAUSES: tuple[Clause, ...] = (
    client_reads_on_after_its_end,
    client_reports_a_reset_after_its_end,
    server_answers_after_the_end,
    server_echoes_to_the_end,
)
