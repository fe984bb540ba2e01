"""The contract's clauses about datagrams: blocking sockets on the other side, and answers that go astray."""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from loopmark.ledger import Ledger
from loopmark.listening import read_address
from loopmark.spi import Address, Facts, Feature
from loopmark.testing.ground import (
    JOBS,
    PING,
    BrokenContract,
    Clause,
    Ground,
    Where,
    clause,
    expect,
)
from loopmark.testing.resources import nothing_left

ROUNDS = 5

BIG = 60_000 if sys.platform == "linux" else 9_000
"""Bytes of a datagram that is near the most: 65,507, and elsewhere less unless somebody has asked for more."""

_TOO_BIG = 70_000

_SHORT = 0.05
"""Seconds after which a client gives up waiting for an answer that nobody sends."""


@clause(Where.DATAGRAMS, needs=Feature.DATAGRAMS)
def server_answers_datagrams(at: Ground) -> None:
    """Every client gets the answers to its own datagrams, also when several send before the first is answered."""

    def work(address: Address, _: Ledger) -> None:
        with _socket(at) as first, _socket(at) as second:
            for number in range(ROUNDS):
                for client, name in ((first, b"first"), (second, b"second")):
                    client.sendto(b"%s %d" % (name, number), address)
                for client, name in ((first, b"first"), (second, b"second")):
                    answer, peer = client.recvfrom(65536)
                    expect(answer == b"re: %s %d" % (name, number), f"the {name.decode()} client got {answer!r}")
                    expect(peer[:2] == address, f"the answer came from {peer[:2]}")
            first.sendto(bytes(BIG), address)
            expect(len(first.recv(65536)) == BIG + 4, f"a datagram of {BIG} bytes was not answered whole")

    at.serve_datagrams(work, answer=lambda data: b"re: " + data)


@clause(Where.DATAGRAMS, needs=Feature.DATAGRAMS)
def server_survives_bad_datagrams(at: Ground) -> None:
    """What is empty, senseless, of a client that is gone, or answered too long, is nobody else's affair."""
    gone = _socket(at)

    def answer(data: bytes) -> bytes | None:
        if data == b"gone":
            # The answer meets a closed port, of which the system tells the server.
            gone.close()
        return {b"": None, b"senseless": None, b"gone": b"too late", b"too long": bytes(_TOO_BIG)}.get(data, data)

    def work(address: Address, _: Ledger) -> None:
        with _socket(at) as client:
            for bad in (b"", b"senseless", b"gone", b"too long"):
                (gone if bad == b"gone" else client).sendto(bad, address)
                for number in range(ROUNDS):
                    client.sendto(b"%d" % number, address)
                    try:
                        reply = client.recv(65536)
                    except TimeoutError:
                        raise BrokenContract(f"after the datagram {bad!r} the server answers no more") from None
                    expect(reply == b"%d" % number, f"after the datagram {bad!r} the answer is {reply!r}")

    with gone:
        at.serve_datagrams(work, answer=answer)


@clause(Where.DATAGRAMS, needs=Feature.DATAGRAMS)
def client_exchanges_datagrams(at: Ground) -> None:
    """Clients get their own answers, again and again, and many at once."""

    async def main() -> None:
        names = iter(range(JOBS))

        async def job() -> None:
            name = next(names)
            client = await at.backend.open_datagrams(address)
            try:
                for number in range(ROUNDS):
                    request = b"%d.%d" % (name, number)
                    reply = await client.exchange(request, at.patience)
                    expect(reply == b"re: " + request, f"{request!r} was answered with {reply!r}")
            finally:
                await client.close()

        await at.backend.gather(*[job] * JOBS)

    with _answering(at, lambda data: b"re: " + data) as address:
        at.backend.run(main)


@clause(Where.DATAGRAMS, needs=Feature.DATAGRAMS)
def client_sends_what_a_datagram_holds(at: Ground) -> None:
    """A big datagram is sent, and its answer returned, whole; one that no system sends has no answer and no sequel."""

    async def main() -> None:
        client = await at.backend.open_datagrams(address)
        try:
            # Whether the system's word about it is told is the library's affair.
            with suppress(Exception):
                endless = await client.exchange(bytes(_TOO_BIG), _SHORT)
                replies.append(b"" if endless is None else endless)
            replies.append(await client.exchange(bytes(BIG), at.patience) or b"")
        finally:
            await client.close()

    replies: list[bytes] = []
    with _answering(at, lambda data: b"re: " + data) as address:
        at.backend.run(main)
    *endless, big = replies
    expect(not any(endless), f"a datagram of {_TOO_BIG} bytes was answered")
    expect(big == b"re: " + bytes(BIG), f"of a big answer of {BIG + 4} bytes came {len(big)}")


@clause(Where.DATAGRAMS, needs=Feature.DATAGRAMS)
def client_gives_up_waiting_for_an_answer(at: Ground) -> None:
    """Without an answer `exchange` returns None, after the deadline and not before; the next one is another matter."""

    async def main() -> None:
        client = await at.backend.open_datagrams(address)
        try:
            start = time.monotonic()
            lost = await client.exchange(b"lost", _SHORT)
            waited = time.monotonic() - start
            expect(lost is None, f"what nobody answered returned {lost!r}")
            # Clocks of loops are as coarse as a millisecond.
            expect(waited > _SHORT - 0.002, f"the deadline of {_SHORT:g} s was over after {waited:.3f} s")
            reply = await client.exchange(PING, at.patience)
            expect(reply == PING, f"after a lost datagram the answer is {reply!r}")
        finally:
            await client.close()

    with _answering(at, lambda data: None if data == b"lost" else data) as address:
        at.backend.run(main)


@clause(Where.DATAGRAMS, needs=Feature.DATAGRAMS)
def datagram_facts_are_true(at: Ground) -> None:
    """Both sides tell the loop that runs, what the datagrams go through, and neither TCP_NODELAY nor TLS."""
    told: list[tuple[str, Facts | None]] = []

    async def main() -> None:
        client = await at.backend.open_datagrams(address)
        told.append(("client", client.facts()))
        await client.close()

    def work(_: Address, ledger: Ledger) -> None:
        told.append(("server", ledger.facts()))

    with _answering(at, lambda data: data) as address:
        at.backend.run(main)
    at.serve_datagrams(work)
    factory = at.backend.loop_factory
    loop = None
    if factory is not None:
        made = factory()
        loop = f"{type(made).__module__}.{type(made).__qualname__}"
        made.close()
    for side, facts in told:
        expect(facts is not None, f"the {side} tells no facts")
        assert facts is not None
        expect(loop in (None, facts.loop), f"the {side} tells the loop {facts.loop}, the factory makes {loop}")
        expect(facts.transport not in ("", "builtins.NoneType"), f"the {side} tells no transport")
        stream = (facts.nodelay, facts.tls_version, facts.cipher)
        expect(stream == (None, None, None), f"of datagrams the {side} tells TCP_NODELAY, TLS and cipher: {stream}")


@clause(Where.DATAGRAMS, needs=Feature.DATAGRAMS)
def datagrams_leave_nothing_behind(at: Ground) -> None:
    """Leaving a server frees its port at once; no descriptor, thread or unclosed object is left, on either side."""
    at.backend.run(lambda: at.backend.sleep(0))

    async def ask(address: Address) -> None:
        client = await at.backend.open_datagrams(address)
        try:
            # Nobody listens. Whether the system's word about that is told is the library's affair, but it ends.
            with suppress(Exception):
                await client.exchange(PING, _SHORT)
        finally:
            await client.close()

    async def serve() -> Address:
        free = at.backend.serve_datagrams(lambda data: data, lambda _: None, Address(at.host, 0))
        async with free as server:
            address = read_address(server)
            with _socket(at) as client:
                client.sendto(PING, address)
        with _socket(at, address):
            return address

    with nothing_left():
        try:
            address = at.backend.run(serve)
        except OSError as error:
            raise BrokenContract(f"the port outlives the server: {error}") from error
        at.backend.run(lambda: ask(address))


@contextmanager
def _answering(at: Ground, answer: Callable[[bytes], bytes | None]) -> Iterator[Address]:
    """Answer datagrams from a blocking socket in a thread."""
    leave = b"the test is over"

    def answer_all() -> None:
        while True:
            data, peer = sock.recvfrom(65536)
            if data == leave:
                return
            reply = answer(data)
            if reply is not None:
                sock.sendto(reply, peer)

    with _socket(at) as sock:
        sock.settimeout(None)
        thread = threading.Thread(target=answer_all, name="reference server", daemon=True)
        thread.start()
        address = Address(*sock.getsockname()[:2])
        try:
            yield address
        finally:
            with _socket(at) as last:
                last.sendto(leave, address)
            thread.join()


def _socket(at: Ground, address: Address | None = None) -> socket.socket:
    """Open a blocking socket on this address, or on any free port."""
    sock = socket.socket(socket.AF_INET6 if ":" in at.host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.settimeout(at.patience)
        sock.bind(address or (at.host, 0))
    except OSError:
        sock.close()
        raise
    return sock


CLAUSES: tuple[Clause, ...] = (
    server_answers_datagrams,
    server_survives_bad_datagrams,
    client_exchanges_datagrams,
    client_sends_what_a_datagram_holds,
    client_gives_up_waiting_for_an_answer,
    datagram_facts_are_true,
    datagrams_leave_nothing_behind,
)
