"""The client's traffic, on a backend without sockets whose jobs take turns one step at a time."""

import socket
import ssl
from collections import Counter
from collections.abc import Coroutine, Generator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopmark.case import Conversation, Lookup, Traffic
from loopmark.errors import FactsError, Kind, ProtocolError, TrafficError, VoidError
from loopmark.service import Talk
from loopmark.spi import Accept, Address, Backend, ClientTLS, Connection, Datagrams, Facts, Main, Options, Server, T
from loopmark.traffic import DATAGRAM_DEADLINE, Stopwatch, Target, churn, converse, hold, release, visit

FACTS = Facts(loop="loop", transport="transport", nodelay=True)
TALK = Talk(parts=(b"PI", b"NG"), reply=b"PONG", reply_size=None, rounds=2)
TARGET = Target(address=Address("127.0.0.1", 1), talk=TALK, tls=None, options=Options())
ASKING = replace(TARGET, talk=Talk(parts=(b"PING",), reply=b"PONG", reply_size=None))
"""One request and its reply are one call of the backend."""


class Turn:
    """Awaiting one lets the others run."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Line(Connection):
    def __init__(self, backend: "Steps", reply: bytes | Exception) -> None:
        self.backend = backend
        self.reply = reply
        self.busy = self.closed = False

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        assert not self.busy, "two jobs share a connection at the same time"
        self.busy = True
        self.backend.using += 1
        self.backend.used = max(self.backend.used, self.backend.using)
        try:
            await Turn()
        finally:
            self.busy = False
            self.backend.using -= 1
        self.backend.said.append((tuple(parts), reply_size, rounds))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.backend.replies.get(tuple(parts), self.reply)

    async def close(self) -> None:
        await Turn()
        self.closed = True
        self.backend.open -= 1

    def facts(self) -> Facts:
        assert not self.closed
        return FACTS


class Socket(Datagrams):
    def __init__(self, backend: "Steps", reply: bytes | None) -> None:
        self.backend = backend
        self.reply = reply
        self.closed = False

    async def exchange(self, payload: bytes, deadline: float) -> bytes | None:
        await Turn()
        self.backend.sent.append((payload, deadline))
        return self.reply

    async def close(self) -> None:
        self.closed = True

    def facts(self) -> Facts:
        raise NotImplementedError


class Slots:
    def __init__(self, slots: int) -> None:
        self.free = slots

    async def acquire(self) -> None:
        while not self.free:
            await Turn()
        self.free -= 1

    def release(self) -> None:
        self.free += 1


class Steps(Backend):
    """Answers PONG, but to the parts that `replies` has, and for the connections that `odd` names by their number.

    Of datagram sockets `lost` names those that hear no answer, and `wrong` those that hear another one. Addresses are
    found in `names`.
    """

    features = frozenset()

    def __init__(
        self,
        odd: dict[int, bytes | Exception] | None = None,
        *,
        gathers: bool = True,
        replies: dict[tuple[bytes, ...], bytes] | None = None,
        lost: Sequence[int] = (),
        wrong: Sequence[int] = (),
        names: dict[str, list[str]] | None = None,
    ) -> None:
        super().__init__()
        self.odd = odd or {}
        self.gathers = gathers
        self.replies = replies or {}
        self.datagrams: dict[int, bytes | None] = dict.fromkeys(lost) | dict.fromkeys(wrong, b"PANG")
        self.names = names or {}
        self.lines: list[Line] = []
        self.sockets: list[Socket] = []
        self.sent: list[tuple[bytes, float]] = []
        self.slots: list[Slots] = []
        self.looked_up: list[tuple[str, socket.AddressFamily]] = []
        self.open = self.peak = 0
        self.using = self.used = 0
        self.jobs: list[int] = []
        self.deadlines: list[float] = []
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

    async def within(self, seconds: float, job: Main[T]) -> T:
        self.deadlines.append(seconds)
        return await job()

    def limiter(self, slots: int, /) -> Slots:
        self.slots.append(Slots(slots))
        return self.slots[-1]

    async def open_datagrams(self, address: Address) -> Datagrams:
        self.sockets.append(Socket(self, self.datagrams.get(len(self.sockets), b"PONG")))
        return self.sockets[-1]

    async def resolve(self, host: str, port: int, family: socket.AddressFamily) -> list[Address]:
        await Turn()
        self.looked_up.append((host, family))
        return [Address(each, port) for each in self.names[host]]


@pytest.mark.parametrize("target", [TARGET, ASKING])
@pytest.mark.parametrize(("connections", "concurrency"), [(1, 1), (7, 1), (10, 3), (9, 3), (3, 3), (2, 5)])
def test_churn_makes_every_connection_and_counts_its_reply(target: Target, connections: int, concurrency: int) -> None:
    backend = Steps()
    assert backend.run(lambda: churn(backend, target, connections=connections, concurrency=concurrency)) == connections
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


@pytest.mark.parametrize("target", [TARGET, ASKING])
@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("number", [0, 5, 11])
def test_one_wrong_reply_fails_the_whole_value(target: Target, concurrency: int, number: int) -> None:
    backend = Steps({number: b"PANG"})
    with pytest.raises(ProtocolError, match=r"expected the reply b'PONG', got b'PANG'"):
        backend.run(lambda: churn(backend, target, connections=12, concurrency=concurrency))
    assert backend.lines[number].closed


def test_a_connection_that_fails_is_closed_and_its_error_flies_as_it_is() -> None:
    error = ConnectionResetError("gone")
    backend = Steps({2: error})
    with pytest.raises(ConnectionResetError) as caught:
        backend.run(lambda: churn(backend, TARGET, connections=9, concurrency=3))
    assert caught.value is error
    assert backend.lines[2].closed


@pytest.mark.parametrize("target", [TARGET, ASKING])
def test_a_gather_that_returns_early_is_caught(target: Target) -> None:
    backend = Steps(gathers=False)
    with pytest.raises(FactsError, match="gather returned after 0 of 3 jobs"):
        backend.run(lambda: churn(backend, target, connections=9, concurrency=3))


class OneAtATime(Steps):
    async def gather(self, *jobs: Main[None]) -> None:
        await jobs[0]()


@pytest.mark.parametrize("target", [TARGET, ASKING])
def test_a_gather_that_has_one_job_do_the_work_of_all_is_caught(target: Target) -> None:
    backend = OneAtATime()
    with pytest.raises(FactsError, match="gather returned after 1 of 3 jobs"):
        backend.run(lambda: churn(backend, target, connections=9, concurrency=3))


def test_a_visit_reads_the_facts_while_the_connection_is_open() -> None:
    backend = Steps()
    assert backend.run(lambda: visit(backend, TARGET)) is FACTS
    assert [line.closed for line in backend.lines] == [True]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(b"PANG", Kind.PROTOCOL), (ConnectionResetError(104, "reset"), Kind.RESET), (ssl.SSLError("bad"), Kind.TLS)],
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


# Conversations, each kind by its own traffic


class Watch:
    """What the traffic tells its stopwatch, with how many connections were open then."""

    def __init__(self, backend: Steps) -> None:
        self.backend = backend
        self.told: list[tuple[str, int]] = []
        self.stopwatch = Stopwatch(start=self.start, stop=lambda: self.tell("stop"), rest=lambda: self.tell("rest"))

    def start(self, connections: int) -> None:
        self.tell(f"start with {connections}")

    def tell(self, what: str) -> None:
        self.told.append((what, self.backend.open))


def converses(
    backend: Steps, conversation: Conversation, *, count: int, concurrency: int, watch: Watch | None = None
) -> tuple[int, int]:
    first, *others = conversation.talks or (TALK,)
    target = replace(TARGET, talk=first, others=tuple(others))
    stopwatch = (watch or Watch(backend)).stopwatch
    return backend.run(lambda: converse(backend, target, conversation, stopwatch, count=count, concurrency=concurrency))


IPV4, IPV6 = socket.AddressFamily.AF_INET, socket.AddressFamily.AF_INET6
SHORT = Talk(parts=(b"PI", b"NG"), reply=b"PONG", reply_size=4)
CHURN = Conversation(talks=(TALK,))
MESSAGES = Conversation(talks=(SHORT,), traffic=Traffic.MESSAGES)
POOL = Conversation(talks=(SHORT,), traffic=Traffic.POOL, slots=3)
DATAGRAMS = Conversation(talks=(replace(SHORT, parts=(b"PING",)),), answer=lambda data: data, traffic=Traffic.DATAGRAMS)
NAMES = {"here": ["127.0.0.1"], "there": ["::1"]}
LOOKUPS = Conversation(
    talks=(TALK,),
    traffic=Traffic.LOOKUPS,
    lookups=(
        Lookup(host="here", family=IPV4, addresses=frozenset({"127.0.0.1", "127.0.0.2"})),
        Lookup(host="there", family=IPV6, addresses=frozenset({"::1"})),
    ),
)


@pytest.mark.parametrize("conversation", [MESSAGES, POOL, DATAGRAMS, LOOKUPS], ids=lambda each: each.traffic)
@pytest.mark.parametrize("concurrency", [3, 10])
def test_jobs_that_did_not_run_are_missed(conversation: Conversation, concurrency: int) -> None:
    class Hasty(Watch):
        """From the start on, what is gathered does not run; before, connections have to be opened."""

        def start(self, connections: int) -> None:
            self.backend.gathers = False

    backend = Steps(names=NAMES)
    with pytest.raises(FactsError, match=f"gather returned after 0 of {concurrency} jobs"):
        converses(backend, conversation, count=30, concurrency=concurrency, watch=Hasty(backend))


@pytest.mark.parametrize(
    ("conversation", "told"),
    [
        (CHURN, [("start with 0", 0), ("stop", 0)]),
        (MESSAGES, [("start with 5", 5), ("stop", 5), ("rest", 5)]),
        (POOL, [("start with 3", 3), ("stop", 3), ("rest", 3)]),
        (DATAGRAMS, [("start with 0", 0), ("stop", 0), ("rest", 0)]),
        (LOOKUPS, [("start with 0", 0), ("stop", 0)]),
    ],
    ids=lambda each: each.traffic if isinstance(each, Conversation) else "",
)
def test_what_stays_open_is_opened_before_and_closed_after_what_is_timed(
    conversation: Conversation, told: list[tuple[str, int]]
) -> None:
    backend = Steps(names=NAMES)
    watch = Watch(backend)
    converses(backend, conversation, count=10, concurrency=5, watch=watch)
    assert watch.told == told
    assert backend.open == 0
    assert all(line.closed for line in backend.lines)
    assert all(each.closed for each in backend.sockets)


@given(count=st.integers(1, 200), concurrency=st.integers(1, 20))
def test_each_connection_makes_as_many_round_trips_as_every_other_or_one_more(count: int, concurrency: int) -> None:
    backend = Steps()
    assert converses(backend, MESSAGES, count=count, concurrency=concurrency) == (count, concurrency)
    shares = [rounds for _, _, rounds in backend.said]
    assert (len(shares), len(backend.lines), sum(shares)) == (concurrency, concurrency, count)
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(("concurrency", "number"), [(1, 0), (4, 0), (4, 3)])
def test_a_wrong_last_reply_of_any_connection_fails_the_value(concurrency: int, number: int) -> None:
    with pytest.raises(ProtocolError, match=r"expected the reply b'PONG', got b'PANG'"):
        converses(Steps({number: b"PANG"}), MESSAGES, count=12, concurrency=concurrency)


@given(count=st.integers(1, 100), concurrency=st.integers(1, 12), slots=st.integers(1, 5))
def test_a_pool_never_has_more_connections_than_slots_and_answers_every_request(
    count: int, concurrency: int, slots: int
) -> None:
    backend = Steps()
    conversation = replace(POOL, slots=slots)
    assert converses(backend, conversation, count=count, concurrency=concurrency) == (count, slots)
    assert len(backend.lines) == backend.peak == slots
    assert backend.used == min(slots, concurrency, count)
    assert backend.said == [((b"PI", b"NG"), 4, 1)] * count
    assert [each.free for each in backend.slots] == [slots]


@pytest.mark.parametrize("reply", [b"PANG", ConnectionResetError("gone")])
def test_an_exchange_that_fails_gives_its_slot_back(reply: bytes | Exception) -> None:
    backend = Steps({1: reply})
    with pytest.raises((ProtocolError, ConnectionResetError)):
        converses(backend, POOL, count=30, concurrency=10)
    assert [each.free for each in backend.slots] == [3]


@pytest.mark.parametrize(("count", "concurrency"), [(7, 1), (10, 3), (2, 5)])
def test_every_datagram_is_sent_with_the_deadline_from_sockets_of_its_own(count: int, concurrency: int) -> None:
    backend = Steps()
    assert converses(backend, DATAGRAMS, count=count, concurrency=concurrency) == (count, concurrency)
    assert backend.sent == [(b"PING", DATAGRAM_DEADLINE)] * count
    assert len(backend.sockets) == concurrency


@pytest.mark.parametrize(("concurrency", "many"), [(1, 20), (4, 5)])
def test_a_lost_datagram_voids_the_value(concurrency: int, many: int) -> None:
    backend = Steps(lost=[0])
    with pytest.raises(VoidError, match=f"{many} of 20 datagrams were lost"):
        converses(backend, DATAGRAMS, count=20, concurrency=concurrency)
    assert all(each.closed for each in backend.sockets)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_wrong_answer_to_a_datagram_fails_the_value(concurrency: int) -> None:
    with pytest.raises(ProtocolError, match=r"expected the reply b'PONG', got b'PANG'"):
        converses(Steps(wrong=[0]), DATAGRAMS, count=20, concurrency=concurrency)


@pytest.mark.parametrize(("count", "concurrency"), [(7, 1), (10, 3), (2, 5)])
def test_names_are_looked_up_in_turn_without_a_connection(count: int, concurrency: int) -> None:
    backend = Steps(names=NAMES)
    assert converses(backend, LOOKUPS, count=count, concurrency=concurrency) == (count, 0)
    found = Counter(backend.looked_up)
    assert found == {("here", IPV4): (count + 1) // 2, ("there", IPV6): count // 2}
    assert backend.lines == []


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ([], "there was resolved to nothing"),
        (["::2"], "there was resolved to ::2"),
        (["::1", "::2"], "there was resolved to ::1, ::2"),
    ],
)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_wrong_address_or_none_fails_the_value(found: list[str], complaint: str, concurrency: int) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        converses(Steps(names=NAMES | {"there": found}), LOOKUPS, count=8, concurrency=concurrency)


TALKS = tuple(Talk(parts=(word,), reply=word.lower(), reply_size=None) for word in (b"A", b"B", b"C"))
REPLIES = {talk.parts: talk.reply for talk in TALKS}
IN_TURN = Conversation(talks=TALKS)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_connections_have_the_talks_in_turn(concurrency: int) -> None:
    backend = Steps(replies=REPLIES)
    assert converses(backend, IN_TURN, count=8, concurrency=concurrency) == (8, 8)
    assert [parts for parts, _, _ in backend.said] == [talk.parts for talk in (*TALKS, *TALKS, *TALKS[:2])]
    assert all(line.closed for line in backend.lines)
    assert backend.peak == concurrency


@pytest.mark.parametrize("talk", TALKS, ids=lambda talk: talk.reply.decode())
def test_the_reply_of_every_talk_is_compared(talk: Talk) -> None:
    backend = Steps(replies=REPLIES | {talk.parts: b"x"})
    with pytest.raises(ProtocolError, match=f"expected the reply {talk.reply!r}, got b'x'"):
        converses(backend, IN_TURN, count=8, concurrency=2)


def test_a_yardstick_makes_its_connections_itself() -> None:
    asked = []

    async def by_hand(backend: Backend, target: Target, *, connections: int, concurrency: int) -> int:
        asked.append((target.talk, connections, concurrency))
        return connections

    backend = Steps()
    backend.churn = by_hand
    assert converses(backend, CHURN, count=8, concurrency=2) == (8, 8)
    assert (asked, backend.lines) == ([(TALK, 8, 2)], [])


@pytest.mark.parametrize("conversation", [MESSAGES, POOL, DATAGRAMS, LOOKUPS], ids=lambda each: each.traffic)
def test_a_yardsticks_connections_are_no_other_traffic(conversation: Conversation) -> None:
    async def by_hand(*_: object, **__: object) -> int:
        raise AssertionError("this is no churn")

    backend = Steps(names=NAMES)
    backend.churn = by_hand
    assert converses(backend, conversation, count=8, concurrency=2)[0] == 8
