"""The contract's clauses about conversations that last: many rounds, many connections that stay open."""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

from loopmark.ledger import Ledger
from loopmark.service import EchoMessages
from loopmark.spi import Address, Connection
from loopmark.testing.endpoint import End, Endpoint
from loopmark.testing.ground import Clause, Ground, Where, calling, clause, expect
from loopmark.testing.resources import nothing_left

ROUNDS = 200

CROWD = 100
"""Connections that are open at once."""

SMALL, BIG = 64, 100_000
"""Bytes of a message: in one segment, and in more pieces than one read or write."""


@clause(Where.ALL)
def client_converses_for_long(at: Ground) -> None:
    """A connection takes any number of exchanges of any number of rounds, small and big."""
    plan = ((SMALL, ROUNDS), (BIG, 3), (1, 2), (SMALL, 1))

    def echo(peer: Endpoint) -> None:
        for size, rounds in plan:
            for _ in range(rounds):
                peer.send(peer.read(size))

    async def main() -> None:
        connection = await at.connect(server.address)
        try:
            for number, (size, rounds) in enumerate(plan, 1):
                message = bytes([number]) * size
                reply = await connection.exchange((message,), size, rounds)
                expect(reply == message, f"exchange number {number}, of {size} bytes, returned {len(reply)} others")
        finally:
            await connection.close()

    with at.reference_server(echo) as server:
        at.backend.run(main)
    received = len(server.connections[0].received)
    expect(received == sum(size * rounds for size, rounds in plan), f"the server was sent {received} bytes")


@clause(Where.ALL)
def client_holds_conversations_open(at: Ground) -> None:
    """Many connections are open at once, each has rounds, pauses and has more; of none is anything left."""
    rounds = 3

    def echo(peer: Endpoint) -> None:
        for _ in range(2 * rounds):
            peer.send(peer.read(SMALL))

    async def main() -> None:
        tls = at.client_tls()
        connections: list[Connection] = []

        async def dial() -> None:
            connections.append(await at.connect(server.address, tls))

        await at.backend.gather(*[dial] * CROWD)
        for _ in range(2):
            waiting = iter(enumerate(connections))

            async def repeat() -> None:
                number, connection = next(waiting)  # noqa: B023  # called before the next one is made
                message = b"%*d" % (SMALL, number)
                reply = await connection.exchange((message,), SMALL, rounds)
                expect(reply == message, f"connection {number} sent {message!r} and got {reply!r}")

            await at.backend.gather(*[repeat] * CROWD)
        await at.backend.gather(*(connection.close for connection in connections))

    at.backend.run(lambda: at.backend.sleep(0))
    with nothing_left(), at.reference_server(echo) as server:
        at.backend.run(main)
    expect(server.peak == CROWD, f"{server.peak} connections were open at once instead of {CROWD}")
    sizes = {len(peer.received) for peer in server.connections}
    expect(sizes == {2 * rounds * SMALL}, f"{2 * rounds} rounds of {SMALL} bytes brought {sorted(sizes)} bytes")


@clause(Where.ALL)
def server_converses_for_long(at: Ground) -> None:
    """A server answers message after message, small and big, one by one and many at once, until its client ends."""

    def work(address: Address, ledger: Ledger) -> None:
        with calling() as clients:
            client = at.dial(address)
            clients.append(client)
            for number in range(ROUNDS):
                message = b"%*d" % (SMALL, number)
                client.send(message)
                reply = client.read(SMALL)
                expect(reply == message, f"message {number} was answered with {reply!r}")
            many = bytes(SMALL) * (BIG // SMALL)
            client.send(many)
            expect(client.read(len(many)) == many, "messages that came at once were answered with others")
            _ends(at, client)
        at.settle(ledger, 0)
        counts, due = ledger.counts(), ROUNDS + BIG // SMALL
        told = (counts.served, counts.exchanged, counts.faults)
        expect(told == (1, due, {}), f"one conversation of {due} messages was counted as {counts}")

    at.serve(work, service=lambda: EchoMessages(SMALL))


@clause(Where.ALL)
def server_holds_conversations_open(at: Ground) -> None:
    """Many connections are open at once and have rounds in turn; clients end them, and of none is anything left."""
    rounds = 3

    def work(address: Address, ledger: Ledger) -> None:
        tls = at.client_tls()
        with calling() as clients:
            clients.extend(at.dial(address, tls) for _ in range(CROWD))
            at.settle(ledger, CROWD)
            for _ in range(rounds):
                for number, client in enumerate(clients):
                    client.send(b"%*d" % (SMALL, number))
                for number, client in enumerate(clients):
                    reply = client.read(SMALL)
                    expect(reply == b"%*d" % (SMALL, number), f"connection {number} was answered with {reply!r}")
            counts = ledger.counts()
            expect(counts.open == CROWD, f"{CROWD} conversations are open, and are counted as {counts}")
            for client in clients:
                _ends(at, client)
        at.settle(ledger, 0)
        counts = ledger.counts()
        told = (counts.served, counts.exchanged, counts.faults)
        expect(told == (CROWD, CROWD * rounds, {}), f"{CROWD} conversations were counted as {counts}")

    at.backend.run(lambda: at.backend.sleep(0))
    with nothing_left():
        at.serve(work, service=lambda: EchoMessages(SMALL))


def _ends(at: Ground, client: Endpoint) -> None:
    """End a conversation as the client, and see that the server ends it, too."""
    client.finish()
    rest = client.read_to_end()
    expect(not rest, f"after the client's end came {rest[:20]!r}")
    wanted = End.CLOSE_NOTIFY if at.profile else End.FIN
    expect(client.end is wanted, f"after the client's end the server ended its stream with {client.end}")


CLAUSES: tuple[Clause, ...] = (
    client_converses_for_long,
    client_holds_conversations_open,
    server_converses_for_long,
    server_holds_conversations_open,
)
