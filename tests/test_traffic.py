"""The client's traffic, on a backend without sockets whose jobs take turns one step at a time."""

import ssl
from collections.abc import Coroutine, Generator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from loopmark.errors import FactsError, Kind, ProtocolError, TrafficError
from loopmark.service import Talk
from loopmark.spi import Accept, Address, Backend, ClientTLS, Connection, Facts, Main, Options, Server, T
from loopmark.traffic import Target, churn, hold, release, visit

FACTS = Facts(loop="loop", transport="transport", nodelay=True)
TALK = Talk(parts=(b"PI", b"NG"), reply=b"PONG", reply_size=None, rounds=2)
TARGET = Target(address=Address("127.0.0.1", 1), talk=TALK, tls=None, options=Options())


class Turn:
    """Awaiting one lets the others run."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Line(Connection):
    def __init__(self, backend: "Steps", reply: bytes | Exception) -> None:
        self.backend = backend
        self.reply = reply
        self.closed = False

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        await Turn()
        self.backend.said.append((tuple(parts), reply_size, rounds))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    async def close(self) -> None:
        await Turn()
        self.closed = True
        self.backend.open -= 1

    def facts(self) -> Facts:
        assert not self.closed
        return FACTS


class Steps(Backend):
    """Answers PONG, but for the connections that `odd` names by their number."""

    features = frozenset()

    def __init__(self, odd: dict[int, bytes | Exception] | None = None, *, gathers: bool = True) -> None:
        super().__init__()
        self.odd = odd or {}
        self.gathers = gathers
        self.lines: list[Line] = []
        self.open = self.peak = 0
        self.jobs: list[int] = []
        self.said: list[tuple[tuple[bytes, ...], int | None, int]] = []

    def run(self, main: Main[T], /) -> T:
        coroutine = main()
        while True:
            try:
                coroutine.send(None)
            except StopIteration as end:
                result: T = end.value
                return result

    def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AbstractAsyncContextManager[Server]:
        raise NotImplementedError

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        await Turn()
        line = Line(self, self.odd.get(len(self.lines), b"PONG"))
        self.lines.append(line)
        self.open += 1
        self.peak = max(self.peak, self.open)
        return line

    async def gather(self, *jobs: Main[None]) -> None:
        self.jobs.append(len(jobs))
        if not self.gathers:
            return
        running: list[Coroutine[Any, Any, None]] = [job() for job in jobs]
        try:
            while running:
                for coroutine in tuple(running):
                    try:
                        coroutine.send(None)
                    except StopIteration:
                        running.remove(coroutine)
        finally:
            for coroutine in running:
                coroutine.close()

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(("connections", "concurrency"), [(1, 1), (7, 1), (10, 3), (9, 3), (3, 3), (2, 5)])
def test_churn_makes_every_connection_and_counts_its_reply(connections: int, concurrency: int) -> None:
    backend = Steps()
    assert backend.run(lambda: churn(backend, TARGET, connections=connections, concurrency=concurrency)) == connections
    assert len(backend.lines) == connections
    assert all(line.closed for line in backend.lines)
    assert backend.peak == min(connections, concurrency)


def test_churn_says_what_the_talk_says() -> None:
    backend = Steps()
    backend.run(lambda: churn(backend, TARGET, connections=3, concurrency=2))
    assert backend.said == [((b"PI", b"NG"), None, 2)] * 3


def test_one_at_a_time_needs_no_gather() -> None:
    backend = Steps()
    backend.run(lambda: churn(backend, TARGET, connections=3, concurrency=1))
    assert backend.jobs == []


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("number", [0, 5, 11])
def test_one_wrong_reply_fails_the_whole_value(concurrency: int, number: int) -> None:
    backend = Steps({number: b"PANG"})
    with pytest.raises(ProtocolError, match=r"expected the reply b'PONG', got b'PANG'"):
        backend.run(lambda: churn(backend, TARGET, connections=12, concurrency=concurrency))
    assert backend.lines[number].closed


def test_a_connection_that_fails_is_closed_and_its_error_flies_as_it_is() -> None:
    error = ConnectionResetError("gone")
    backend = Steps({2: error})
    with pytest.raises(ConnectionResetError) as caught:
        backend.run(lambda: churn(backend, TARGET, connections=9, concurrency=3))
    assert caught.value is error
    assert backend.lines[2].closed


def test_a_gather_that_returns_early_is_caught() -> None:
    backend = Steps(gathers=False)
    with pytest.raises(FactsError, match="gather returned after 0 of 3 jobs"):
        backend.run(lambda: churn(backend, TARGET, connections=9, concurrency=3))


def test_a_visit_reads_the_facts_while_the_connection_is_open() -> None:
    backend = Steps()
    assert backend.run(lambda: visit(backend, TARGET)) is FACTS
    assert [line.closed for line in backend.lines] == [True]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(b"PANG", Kind.PROTOCOL), (ConnectionResetError(), Kind.RESET), (ssl.SSLError("bad"), Kind.TLS)],
)
def test_a_visits_failure_is_translated_and_the_connection_closed(reply: bytes | Exception, kind: Kind) -> None:
    backend = Steps({0: reply})
    with pytest.raises(TrafficError) as caught:
        backend.run(lambda: visit(backend, TARGET))
    assert caught.value.kind is kind
    assert backend.lines[0].closed


def test_connections_that_are_held_stay_open_until_they_are_released() -> None:
    backend = Steps()
    connections = backend.run(lambda: hold(backend, TARGET, 5))
    assert (len(connections), backend.open, backend.said) == (5, 5, [])
    backend.run(lambda: release(backend, TARGET, connections))
    assert (backend.open, len(backend.said)) == (0, 5)
    assert all(line.closed for line in backend.lines)


def test_held_connections_must_get_the_right_reply_too() -> None:
    backend = Steps({3: b"PANG"})
    connections = backend.run(lambda: hold(backend, TARGET, 5))
    with pytest.raises(ProtocolError):
        backend.run(lambda: release(backend, TARGET, connections))
