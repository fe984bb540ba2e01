"""Every benchmark there is: both sides fit each other without sockets, and every kind of work is proven with them."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.callers import Doctored, calling, in_process, order_of, task_of

from loopmark import plan
from loopmark.case import Benchmark, Case, ClosePolicy, Conversation, Cores, Role, Traffic
from loopmark.errors import FactsError, Kind
from loopmark.peer import Handle
from loopmark.registry import registry
from loopmark.service import HANG_UP, File, Service, Talk, Then
from loopmark.spi import Feature
from loopmark.tls import Identity

ROOT = Path(__file__).parents[1]
BENCHMARKS: dict[str, Benchmark] = {
    name: registry().benchmark(name)
    for name, source in registry().benchmarks.items()
    if source.value.startswith("loopmark.benchmarks.")
}
ALL = [(benchmark, variant) for benchmark in BENCHMARKS.values() for variant in benchmark.conversations]
TALKS = [
    pytest.param(benchmark.conversation(variant), talk, id=f"{benchmark.name}:{variant}:{number}")
    for benchmark, variant in ALL
    for number, talk in enumerate(benchmark.conversation(variant).talks)
    if benchmark.conversation(variant).answer is None
]

# As in test_backends: what a server has just accepted when it is left.
pytestmark = [pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"), pytest.mark.usefixtures("_collected")]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let files that are sent be made here, and by all processes of these tests, instead of in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


# What there is


def test_every_module_is_a_benchmark_of_its_own_name_with_a_row_in_the_list() -> None:
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert modules == BENCHMARKS.keys() == {benchmark.name for benchmark in BENCHMARKS.values()}
    rows = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    assert [name for name in BENCHMARKS if f"\n| `{name}` |" not in rows] == []


def test_each_asks_a_question_of_its_own() -> None:
    questions = [benchmark.question for benchmark in BENCHMARKS.values()]
    assert len(set(questions)) == len(questions)
    assert all(question.endswith("?") for question in questions)


def test_no_two_conversations_share_a_cases_name() -> None:
    names = [
        case.name
        for benchmark, variant in ALL
        for role in benchmark.roles
        for case in plan.cases_of(benchmark, variant, plan.Axes(roles=(role,)), peer="peer", cores=2)
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("benchmark", "variant"), ALL, ids=lambda each: getattr(each, "name", each))
def test_the_usual_cases_are_possible_ones(benchmark: Benchmark, variant: str) -> None:
    assert plan.cases_of(benchmark, variant, plan.Axes(), peer="peer", cores=2)
    for concurrency, roles in benchmark.usual:
        assert concurrency in benchmark.concurrencies
        assert set(roles) <= set(benchmark.roles)


NEEDS: dict[str, tuple[set[Feature], ClosePolicy | None]] = {
    "connection_pool:pool": ({Feature.TLS, Feature.LIMITER}, ClosePolicy.CLIENT_NOTIFY),
    "connection_pool:no-pool": ({Feature.TLS}, ClosePolicy.BOTH_NOTIFY),
    "getaddrinfo:literal-ipv4": ({Feature.TCP, Feature.RESOLVER}, None),
    "getaddrinfo:literal-ipv6": ({Feature.TCP, Feature.RESOLVER}, None),
    "getaddrinfo:localhost-ipv4": ({Feature.TCP, Feature.RESOLVER}, None),
    "http_server": ({Feature.TCP}, ClosePolicy.FIN),
    "https_client": ({Feature.TLS}, ClosePolicy.BOTH_NOTIFY),
    "https_server": ({Feature.TLS}, ClosePolicy.BOTH_NOTIFY),
    "https_static": ({Feature.TLS}, ClosePolicy.BOTH_NOTIFY),
    "sendfile:20KiB": ({Feature.TCP, Feature.SENDFILE}, ClosePolicy.FIN),
    "sendfile:10MiB": ({Feature.TCP, Feature.SENDFILE}, ClosePolicy.FIN),
    "sendfile:copy-20KiB": ({Feature.TCP, Feature.FILES}, ClosePolicy.FIN),
    "sendfile:copy-10MiB": ({Feature.TCP, Feature.FILES}, ClosePolicy.FIN),
    "tcp_echo:1KiB": ({Feature.TCP, Feature.HALF_CLOSE}, ClosePolicy.HALF_CLOSE),
    "tcp_echo:10KiB": ({Feature.TCP, Feature.HALF_CLOSE}, ClosePolicy.HALF_CLOSE),
    "tcp_echo:100KiB": ({Feature.TCP, Feature.HALF_CLOSE}, ClosePolicy.HALF_CLOSE),
    "tcp_echo:open-1KiB": ({Feature.TCP}, ClosePolicy.CLIENT_FIN),
    "tcp_echo:open-10KiB": ({Feature.TCP}, ClosePolicy.CLIENT_FIN),
    "tcp_echo:open-100KiB": ({Feature.TCP}, ClosePolicy.CLIENT_FIN),
    "tcp_pingpong": ({Feature.TCP}, ClosePolicy.FIN),
    "tls_echo:nul": ({Feature.TLS}, ClosePolicy.BOTH_NOTIFY),
    "tls_echo:open-64B": ({Feature.TLS}, ClosePolicy.CLIENT_NOTIFY),
    "tls_echo:open-1KiB": ({Feature.TLS}, ClosePolicy.CLIENT_NOTIFY),
    "tls_echo:open-16KiB": ({Feature.TLS}, ClosePolicy.CLIENT_NOTIFY),
    "tls_echo:open-100KiB": ({Feature.TLS}, ClosePolicy.CLIENT_NOTIFY),
    "tls_idle": ({Feature.TLS}, ClosePolicy.BOTH_NOTIFY),
    "tls_pingpong": ({Feature.TLS}, ClosePolicy.BOTH_NOTIFY),
    "tls_resumed": ({Feature.TLS}, ClosePolicy.BOTH_NOTIFY),
    "tls_upgrade": ({Feature.TLS, Feature.START_TLS}, ClosePolicy.BOTH_NOTIFY),
    "udp_echo:64B": ({Feature.DATAGRAMS}, None),
    "udp_echo:1KiB": ({Feature.DATAGRAMS}, None),
}


def test_what_each_case_needs_and_how_its_connections_end_is_as_listed() -> None:
    found = {
        name: (set(benchmark.needs(variant)), benchmark.close_policy(variant))
        for benchmark in BENCHMARKS.values()
        for name, variant in zip(benchmark.variants, benchmark.conversations, strict=True)
    }
    assert found == NEEDS


@pytest.mark.parametrize(
    ("name", "serving", "calling"),
    [
        ("sendfile:20KiB", {Feature.TCP, Feature.SENDFILE}, {Feature.TCP}),
        ("sendfile:copy-20KiB", {Feature.TCP, Feature.FILES}, {Feature.TCP}),
        ("connection_pool:pool", {Feature.TLS}, {Feature.TLS, Feature.LIMITER}),
        ("tls_upgrade", {Feature.TLS, Feature.START_TLS}, {Feature.TLS, Feature.START_TLS}),
        ("udp_echo:64B", {Feature.DATAGRAMS}, {Feature.DATAGRAMS}),
    ],
)
def test_a_side_needs_only_what_it_does_itself(name: str, serving: set[Feature], calling: set[Feature]) -> None:
    name, _, variant = name.partition(":")
    assert BENCHMARKS[name].needs(variant, calling=False) == serving
    assert BENCHMARKS[name].needs(variant, serving=False) == calling


# Both sides, without sockets


class Tally:
    def __init__(self) -> None:
        self.ended: list[str] = []
        self.answered = 0

    def served(self) -> None:
        self.ended.append("served")

    def exchanged(self) -> None:
        self.answered += 1

    def failed(self, kind: Kind, /) -> None:
        self.ended.append(kind)


@cache
def _content(file: File) -> bytes:
    content = Path(file.path).read_bytes()
    assert len(content) == file.size
    return content


def answers(service: Service, parts: Iterable[bytes]) -> tuple[bytes, bool]:
    """Hand a service what arrives as a backend does, until it closes; return all that it sends, and if it did."""
    sent = b""
    for part in parts:
        reply = service.receive(part)
        sent += reply.data
        if reply.file is not None:
            sent += _content(reply.file)
            service.sent()
        if reply.then is Then.CLOSE:
            return sent, True
    return sent, False


def opened(conversation: Conversation) -> tuple[Service, Tally]:
    service, tally = conversation.service(), Tally()
    service.tally = tally
    return service, tally


def split(parts: tuple[bytes, ...], cuts: list[int]) -> list[bytes]:
    """Put parts together and cut them at these places; where the client ends its stream, that stays the last part."""
    data = b"".join(parts)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)] + ([b""] if not parts[-1] else [])


def assert_they_fit(conversation: Conversation, talk: Talk, rounds: list[list[bytes]]) -> None:
    """Have the conversation, each round as the parts that arrive, and look how it was counted."""
    service, tally = opened(conversation)
    for parts in rounds:
        reply, is_over = answers(service, parts)
        talk.check(reply)
        assert is_over is (talk.reply_size is None)
        assert talk.reply_size in (None, len(reply))
    if conversation.traffic in (Traffic.MESSAGES, Traffic.POOL):
        assert (tally.ended, tally.answered) == ([], len(rounds))
        assert service.receive(b"") == HANG_UP
    else:
        assert tally.answered == 0
    assert tally.ended == ["served"]


def rounds_of(conversation: Conversation) -> int:
    return 3 if conversation.traffic in (Traffic.MESSAGES, Traffic.POOL) else 1


@pytest.mark.parametrize(("conversation", "talk"), TALKS)
def test_a_service_answers_what_its_client_says(conversation: Conversation, talk: Talk) -> None:
    assert_they_fit(conversation, talk, [list(talk.parts)] * rounds_of(conversation))


CUTS = st.lists(st.integers(min_value=0), max_size=6)


@pytest.mark.parametrize(("conversation", "talk"), TALKS)
@given(data=st.data())
def test_a_service_answers_the_same_however_that_is_split(
    conversation: Conversation, talk: Talk, data: st.DataObject
) -> None:
    rounds = [split(talk.parts, data.draw(CUTS)) for _ in range(rounds_of(conversation))]
    assert_they_fit(conversation, talk, rounds)


@pytest.mark.parametrize(("conversation", "talk"), TALKS)
@given(data=st.data())
def test_a_conversation_is_counted_once_wherever_it_breaks_off(
    conversation: Conversation, talk: Talk, data: st.DataObject
) -> None:
    said = b"".join(talk.parts)
    noise = data.draw(st.binary(max_size=8))
    stream = said[: data.draw(st.integers(0, len(said)))] + noise
    service, tally = opened(conversation)
    _, is_over = answers(service, split((stream,), data.draw(CUTS)))
    if not is_over and data.draw(st.booleans()):
        answers(service, [b""])
    service.lost(ConnectionResetError(104, "reset"))
    service.lost(None)
    assert len(tally.ended) == 1


DATAGRAMS = [
    pytest.param(benchmark.conversation(variant), id=f"{benchmark.name}:{variant}")
    for benchmark, variant in ALL
    if benchmark.conversation(variant).answer
]


@pytest.mark.parametrize("conversation", DATAGRAMS)
def test_a_datagram_is_answered_by_the_right_one(conversation: Conversation) -> None:
    assert conversation.answer is not None
    (payload,) = conversation.talk.parts
    answer = conversation.answer(payload)
    assert answer is not None
    conversation.talk.check(answer)
    assert len(answer) == conversation.talk.reply_size
    assert len(payload) <= 65_507


@pytest.mark.parametrize("conversation", DATAGRAMS)
@given(payload=st.binary(max_size=100))
def test_no_datagram_breaks_a_server(conversation: Conversation, payload: bytes) -> None:
    assert conversation.answer is not None
    assert conversation.answer(payload) in (None, payload)


# And with sockets: one of each kind, with a server in a process of its own

AT_A_TIME, SLOTS = 4, 3
UNITS = 3 * AT_A_TIME

# Contenders, and how often a server of the case must have accepted, answered messages, and resumed.
KINDS: dict[str, tuple[tuple[str, str], tuple[int, int, int]]] = {
    "tls_pingpong": (("asyncio", "trio"), (UNITS, 0, 0)),
    "tls_resumed": (("asyncio", "trio"), (UNITS, 0, UNITS)),
    "tls_upgrade": (("asyncio", "trio"), (UNITS, 0, 0)),
    "tls_idle": (("asyncio", "trio"), (AT_A_TIME, 0, 0)),
    "tls_echo:nul": (("asyncio", "trio"), (UNITS, 0, 0)),
    "tls_echo:open-1KiB": (("asyncio", "trio"), (AT_A_TIME, UNITS, 0)),
    "tcp_echo:1KiB": (("asyncio", "trio"), (UNITS, 0, 0)),
    "tcp_echo:open-100KiB": (("asyncio", "trio"), (AT_A_TIME, UNITS, 0)),
    "udp_echo:1KiB": (("asyncio-protocol", "trio"), (0, UNITS, 0)),
    "connection_pool:pool": (("asyncio", "trio"), (SLOTS, UNITS, 0)),
    "getaddrinfo:localhost-ipv4": (("asyncio", "trio"), (0, 0, 0)),
    "http_server": (("asyncio", "trio"), (UNITS, 0, 0)),
    "https_static": (("asyncio", "trio"), (UNITS, 0, 0)),
    "sendfile:20KiB": (("asyncio", "blocking"), (UNITS, 0, 0)),
    "sendfile:copy-20KiB": (("asyncio", "trio"), (UNITS, 0, 0)),
}


def case_of(name: str) -> Case:
    name, _, variant = name.partition(":")
    is_idle = BENCHMARKS[name].conversation(variant).traffic is Traffic.IDLE
    return Case(
        benchmark=name,
        variant=variant,
        concurrency=AT_A_TIME,
        role=Role.BOTH,
        peer=None,
        cores=Cores.ANY,
        tls=BENCHMARKS[name].tls,
        held=1 if is_idle else None,
    )


def test_there_is_one_of_every_kind() -> None:
    kinds = {BENCHMARKS[case_of(name).benchmark].conversation(case_of(name).variant).traffic for name in KINDS}
    assert kinds == {benchmark.conversation(variant).traffic for benchmark, variant in ALL}
    closes = {BENCHMARKS[case_of(name).benchmark].close_policy(case_of(name).variant) for name in KINDS}
    assert closes == {benchmark.close_policy(variant) for benchmark, variant in ALL}


@pytest.mark.parametrize(
    ("name", "contender"), [(name, contender) for name, (contenders, _) in KINDS.items() for contender in contenders]
)
def test_work_of_every_kind_is_proven_and_measured(name: str, contender: str, identity: Identity, load: Any) -> None:
    load(contender)
    case = case_of(name)
    accepted, answered, resumed = KINDS[name][1]
    with calling(task_of(case, contender, identity)) as caller:
        caller.prove(AT_A_TIME)
        assert caller.trace().get("judgement") is None
        before = caller.server.ask("counts")
        value = caller.time(case.minimum_loops)
        after = caller.server.ask("counts")
    assert value.wall > 0
    more = {what: after[what] - before[what] for what in ("accepted", "served", "exchanged")}
    assert more == {"accepted": accepted, "served": accepted, "exchanged": answered}
    assert (after["open"], after["faults"]) == (0, {})
    if case.tls is not None:
        assert after["handshakes"] - before["handshakes"] == accepted
        assert after["resumptions"] - before["resumptions"] == resumed


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("tls_echo:open-64B", AT_A_TIME),
        ("connection_pool:pool", SLOTS),
        ("udp_echo:64B", 0),
        ("getaddrinfo:literal-ipv4", AT_A_TIME),
        ("tls_upgrade", AT_A_TIME),
        ("tls_idle", AT_A_TIME),
    ],
)
def test_an_arm_of_every_kind_reports_what_a_campaign_stores(name: str, peak: int, identity: Identity) -> None:
    case = case_of(name)
    task = task_of(case, "asyncio-protocol" if "udp" in name else "asyncio", identity)
    order = order_of(task, loops=case.minimum_loops, trace=True)
    proof, *turns, readings = in_process(order)
    assert proof["facts"]["equal"]["nodelay"] is (None if "udp" in name else True)
    assert len(turns) == 3
    assert (readings["loops"], len(readings["wall"]), readings["peak"]) == (case.minimum_loops, 2, peak)


LISTED = ["accepted", "served", "exchanged", "handshakes", "resumptions"]
WORDS = {
    "accepted": "connections that the server accepted",
    "served": "conversations that the server finished",
    "exchanged": "messages that the server answered",
    "handshakes": "handshakes that the server completed",
    "resumptions": "handshakes that resumed a session",
}


@pytest.mark.parametrize(
    "name", ["tls_resumed", "tls_echo:open-1KiB", "connection_pool:pool", "udp_echo:64B", "tcp_echo:1KiB"]
)
def test_every_count_that_does_not_fit_fails_the_value(name: str, identity: Identity) -> None:
    case = case_of(name)
    with calling(task_of(case, "blocking", identity)) as caller:
        caller.prove(AT_A_TIME)
        right = caller.server
        for what in LISTED if case.tls is not None else LISTED[:3]:
            # The first question comes before the value.
            caller.server = cast("Handle", Doctored(right, {what: 1}, first=1))
            with pytest.raises(FactsError, match=rf"{WORDS[what]}: \d+ instead of \d+"):
                caller.time(UNITS)
        caller.server = right
        assert caller.time(UNITS).wall > 0


@pytest.mark.parametrize("what", LISTED[:3])
def test_a_lookup_calls_no_server(what: str) -> None:
    with calling(task_of(case_of("getaddrinfo:literal-ipv4"))) as caller:
        caller.server = cast("Handle", Doctored(caller.server, {what: 1}, first=1))
        with pytest.raises(FactsError, match=f"{WORDS[what]}: 1 instead of 0"):
            caller.time(UNITS)


# The examples of the documentation


def documented() -> Iterator[tuple[Conversation, Talk]]:
    page = (ROOT / "docs/add-a-benchmark.md").read_text(encoding="utf-8")
    for code in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        defined: dict[str, Any] = {}
        exec(code, defined)
        for name, benchmark in defined["benchmarks"].items():
            assert name == benchmark.name
            for conversation in benchmark.conversations.values():
                yield from ((conversation, talk) for talk in conversation.talks)


def test_the_examples_of_the_documentation_fit_themselves() -> None:
    found = list(documented())
    assert len(found) == 3
    for conversation, talk in found:
        assert_they_fit(conversation, talk, [list(talk.parts)] * rounds_of(conversation))
