"""What a server's sessions count, whatever a backend does with them."""

import json
import ssl
import sys
import threading
from collections.abc import Iterator

import pytest

from loopmark.errors import Kind, TrafficError
from loopmark.ledger import Counts, Ledger
from loopmark.service import HANG_UP, KEEP_READING, AnswerMany, AnswerOnce, EchoMessages, Reply, Service, Then
from loopmark.spi import Facts


def facts() -> Facts:
    return Facts(loop="loop", transport="transport", nodelay=True)


class Chatty(Service):
    """Answers everything and never hangs up."""

    def receive(self, data: bytes, /) -> Reply:
        return Reply(data, Then.READ)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(lambda: AnswerOnce(b"PING", b"PONG"))


def test_a_new_ledger_has_counted_nothing(ledger: Ledger) -> None:
    assert ledger.counts() == Counts(accepted=0, served=0, exchanged=0, open=0, faults={})
    assert ledger.facts() is None


def test_a_conversation_is_open_until_its_last_reply(ledger: Ledger) -> None:
    session = ledger.accept(facts)
    assert session.receive(b"PI") == KEEP_READING
    assert ledger.counts() == Counts(accepted=1, served=0, exchanged=0, open=1, faults={})
    assert session.receive(b"NG") == Reply(b"PONG", Then.CLOSE)
    assert ledger.counts() == Counts(accepted=1, served=1, exchanged=0, open=0, faults={})


@pytest.mark.parametrize("error", [None, ConnectionResetError(104, "reset"), ssl.SSLEOFError(8, "EOF")])
def test_a_loss_after_the_close_changes_nothing(ledger: Ledger, error: Exception | None) -> None:
    session = ledger.accept(facts)
    session.receive(b"PING")
    before = ledger.counts()
    session.lost(error)
    session.lost(error)
    assert ledger.counts() == before


@pytest.mark.parametrize(("data", "fault"), [(b"PANG", Kind.PROTOCOL), (b"PINGPING", Kind.PROTOCOL), (b"", Kind.EOF)])
def test_a_fault_of_the_peer_hangs_up_and_is_counted_by_kind(ledger: Ledger, data: bytes, fault: Kind) -> None:
    session = ledger.accept(facts)
    assert session.receive(data) == HANG_UP
    assert ledger.counts() == Counts(accepted=1, served=0, exchanged=0, open=0, faults={fault: 1})


def test_the_loss_that_follows_a_fault_is_not_a_second_one(ledger: Ledger) -> None:
    session = ledger.accept(facts)
    session.receive(b"PANG")
    session.lost(ConnectionResetError(104, "reset"))
    assert ledger.counts().faults == {"protocol": 1}
    assert ledger.counts().open == 0


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (None, "eof"),
        (ConnectionResetError(104, "reset"), "reset"),
        (TimeoutError(), "timeout"),
        (ssl.SSLError(1, "wrong version number"), "tls"),
        (ValueError(), "other"),
    ],
)
def test_a_connection_that_is_lost_too_early_is_a_fault(ledger: Ledger, error: Exception | None, fault: str) -> None:
    session = ledger.accept(facts)
    session.lost(error)
    session.lost(error)
    assert ledger.counts() == Counts(accepted=1, served=0, exchanged=0, open=0, faults={fault: 1})


def test_faults_of_each_kind_add_up(ledger: Ledger) -> None:
    for error in (ConnectionResetError(104, "reset"), TimeoutError(), ConnectionResetError(104, "reset")):
        ledger.accept(facts).lost(error)
    assert ledger.counts().faults == {"reset": 2, "timeout": 1}


def test_the_words_of_faults_are_plain_text(ledger: Ledger) -> None:
    ledger.accept(facts).lost(TrafficError(Kind.TLS, "broken"))
    ledger.accept(facts).receive(b"PANG")
    assert json.dumps(ledger.counts().faults) == '{"tls": 1, "protocol": 1}'


def test_a_session_that_keeps_reading_stays_open() -> None:
    ledger = Ledger(Chatty)
    session = ledger.accept(facts)
    for _ in range(3):
        assert session.receive(b"again") == Reply(b"again", Then.READ)
    assert ledger.counts().open == 1
    assert ledger.counts().served == 0


def test_counts_once_taken_do_not_change(ledger: Ledger) -> None:
    ledger.accept(facts).lost(None)
    before = ledger.counts()
    ledger.accept(facts).lost(None)
    assert before.faults == {"eof": 1}
    assert before.accepted == 1


def test_facts_are_read_from_the_newest_connection_and_only_on_demand(ledger: Ledger) -> None:
    def never() -> Facts:
        raise AssertionError("read without need, or from an older connection")

    ledger.accept(never)
    ledger.accept(facts)
    assert ledger.facts() == facts()


def test_messages_are_counted_beside_the_conversations_that_have_them() -> None:
    ledger = Ledger(lambda: EchoMessages(4))
    first, second = ledger.accept(facts), ledger.accept(facts)
    first.receive(b"onetwo")
    second.receive(b"onlyfour")
    assert ledger.counts() == Counts(accepted=2, served=0, exchanged=3, open=2, faults={})
    first.receive(b"so")
    second.receive(b"")
    assert ledger.counts() == Counts(accepted=2, served=1, exchanged=4, open=1, faults={})


def test_the_messages_before_a_fault_stay_counted() -> None:
    ledger = Ledger(lambda: AnswerMany(b"PING", b"PONG"))
    session = ledger.accept(facts)
    session.receive(b"PING")
    session.receive(b"PANG")
    assert ledger.counts() == Counts(accepted=1, served=0, exchanged=1, open=0, faults={"protocol": 1})


def test_what_is_told_of_datagrams_counts_as_messages_and_opens_nothing(ledger: Ledger) -> None:
    ledger.note(facts)
    ledger.exchanged()
    assert ledger.counts() == Counts(accepted=0, served=0, exchanged=1, open=0, faults={})
    assert ledger.facts() == facts()


@pytest.fixture
def _hasty_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_hasty_threads")
def test_threads_lose_no_count(ledger: Ledger) -> None:
    barrier = threading.Barrier(8)

    def serve() -> None:
        barrier.wait()
        for _ in range(500):
            ledger.accept(facts).receive(b"PING")
            ledger.accept(facts).lost(None)
            ledger.exchanged()

    threads = [threading.Thread(target=serve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = ledger.counts()
    assert (counts.accepted, counts.served, counts.open, counts.faults) == (8000, 4000, 0, {"eof": 4000})
    assert counts.exchanged == 4000


def test_a_fault_that_comes_while_faults_are_counted_is_one_of_the_next_count(ledger: Ledger) -> None:
    class Meanwhile(str):
        __slots__ = ()

        def __str__(self) -> str:
            ledger.failed(Kind.RESET)
            return "eof"

    ledger.failed(Meanwhile())  # type: ignore[arg-type]  # a kind during whose counting another thread has its turn
    assert ledger.counts().faults == {"eof": 1}
    assert ledger.counts().faults == {"eof": 1, "reset": 1}
