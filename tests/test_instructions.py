"""Instructions instead of time: callgrind's files, who is counted how often, the table, the gate, a real count."""

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.campaigns import BOTH, SERVER, TWIN, fake_campaign

from loopmark import callgrind, peer, store
from loopmark.callgrind import CallgrindError, Part, between_marks, part_of
from loopmark.case import Case, Cores, Role
from loopmark.cli.inspection import compare, show
from loopmark.cli.measuring import run
from loopmark.counts import Count, Counts, change
from loopmark.errors import DamagedError, UnavailableError, UsageError
from loopmark.instructions import LAYOUTS, Conductor, Job, Valgrind, connections_of, counting
from loopmark.record import Arm, Kind, Outcome
from loopmark.registry import registry
from loopmark.report.instructions import change_report, instructions_report
from loopmark.task import Order, Task

KNOWN = registry()
TCP = replace(BOTH, benchmark="tcp_pingpong", tls=None)
PER_CONNECTION = {"asyncio": 400_000.0, "uvloop": 110_000.0, "trio": 640_000.0}
FACTS = {"equal": {"nodelay": True, "cipher": None}, "client": {}, "server": {}}


# What callgrind writes


def written(part: int, total: int, *, at_mark: bool = True, events: str = "Ir") -> str:
    trigger = f"--dump-before={callgrind.MARK}" if at_mark else "Program termination"
    head = f"# callgrind format\nversion: 1\ncreator: callgrind-3.19.0\npid: 7\ncmd: python\npart: {part}\n\n"
    body = f"desc: I1 cache: \ndesc: Trigger: {trigger}\n\npositions: line\nevents: {events}\nsummary: {total}\n\n"
    return f"{head}{body}fn=(1) main\n12 {total}\n\ntotals: {total}\n"


@given(st.integers(1, 10**6), st.integers(0, 10**18), st.booleans())
def test_a_part_is_read_with_its_number_its_total_and_what_ended_it(part: int, total: int, at_mark: bool) -> None:
    found = part_of(written(part, total, at_mark=at_mark))
    assert found == Part(number=part, instructions=total, is_at_mark=at_mark)


@given(st.integers(0, len(written(2, 493084926)) - len("totals: 493084926\n")))
def test_a_part_that_was_cut_before_its_total_is_refused(length: int) -> None:
    with pytest.raises(CallgrindError):
        part_of(written(2, 493084926)[:length])


@given(st.text())
def test_what_callgrind_has_not_written_is_refused_and_never_crashes(text: str) -> None:
    with pytest.raises(CallgrindError):
        part_of(text)


@pytest.mark.parametrize("events", ["Ir Dr Dw", "Dr", ""])
def test_a_count_of_something_else_is_refused(events: str) -> None:
    with pytest.raises(CallgrindError, match="instead of Ir"):
        part_of(written(1, 5, events=events))


def test_only_what_lies_between_two_marks_is_counted(tmp_path: Path) -> None:
    for number, total in ((1, 500_000), (2, 70), (10, 1), (3, 210)):
        if number < 10:
            (tmp_path / f"server.{number}").write_text(written(number, total))
    # The end of the program, without a number in its name, and another process.
    (tmp_path / "server").write_text(written(4, 999, at_mark=False))
    (tmp_path / "client.1").write_text(written(1, 888))
    assert between_marks(tmp_path / "server") == [70, 210]


def test_a_part_that_is_missing_is_told(tmp_path: Path) -> None:
    for number in (1, 3):
        (tmp_path / f"server.{number}").write_text(written(number, 5))
    with pytest.raises(CallgrindError, match="not complete"):
        between_marks(tmp_path / "server")


def test_a_mark_is_the_function_that_callgrind_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(f"os.{callgrind.MARK}", lambda: called.append(True))
    peer.mark()
    assert called == [True]
    assert f"--dump-before={callgrind.MARK}" in callgrind.command(Path("out"))


# Where it can be used


def test_without_valgrind_the_cure_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="apt install valgrind"):
        callgrind.version()


def test_off_linux_it_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UnavailableError, match="needs Linux"):
        callgrind.version()


def test_a_valgrind_that_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "valgrind").write_text("#!/bin/sh\necho no tool for this machine >&2\nexit 1\n")
    (tmp_path / "valgrind").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="no tool for this machine"):
        callgrind.version()


# How much is counted


@given(st.integers(1, 20_000), st.booleans())
def test_connections_are_whole_rounds_and_three_at_least(concurrency: int, secure: bool) -> None:
    case = replace(BOTH if secure else TCP, concurrency=concurrency)
    connections = connections_of(case)
    assert connections % concurrency == 0
    assert connections >= 3 * concurrency
    assert connections >= 100


# Who is counted, with a counter that starts no process


class FakeCounter:
    """Answers at once; `answers` says what instead, by arm and side, one after another."""

    def __init__(self, answers: dict[tuple[str, str], Sequence[dict[str, Any]]] | None = None) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.orders: list[Order] = []
        self.ended = False
        self._answers = {place: iter(each) for place, each in (answers or {}).items()}

    def count(self, order: Order, side: str, layout: int) -> dict[str, Any]:
        self.asked.append((order.arm, side, layout))
        self.orders.append(order)
        least = PER_CONNECTION[order.arm.partition(".")[0]]
        usual = {"facts": FACTS, "judgement": None, "instructions": least + 100.0 * layout}
        return next(self._answers.get((order.arm, side), iter(())), usual)

    def end(self) -> None:
        self.ended = True


def to_count(*cases: Case) -> Counts:
    campaign = fake_campaign(blocks=0, effects={"uvloop": 1, "trio": 1}, cases=cases or [TCP])
    campaign.machine = deepcopy(campaign.machine)
    campaign.machine["distributions"] = {"uvloop": ["uvloop"], "trio": ["trio"]}
    return counting(campaign, "3.19.0")


def assign(case: Case, arm: Arm) -> tuple[Task, Task, bool]:
    task = Task(
        contender=KNOWN.contender(arm.contender), benchmark=KNOWN.benchmarks[case.benchmark], case=case, identity=None
    )
    return task, task, False


def conduct(
    counts: Counts, counter: FakeCounter, save: Callable[[Counts], None] = lambda _: None, cores: Sequence[int] = (0,)
) -> Counts:
    def tell(job: Job, done: int, of: int) -> None:
        assert 1 <= done <= of

    Conductor(counts=counts, assign=assign, counter=counter, cores=cores, save=save, tell=tell).conduct()
    return counts


def test_only_contenders_and_twins_are_counted_both_processes_on_one_core() -> None:
    counts = to_count(SERVER)
    (plan,) = counts.campaign.cases
    assert {arm.kind for arm in plan.arms} == {Kind.CONTENDER, Kind.TWIN}
    assert plan.case.cores is Cores.SHARED
    assert counts.campaign.label.endswith("-instructions")


@pytest.mark.parametrize(
    ("role", "sides"), [("server", {"server"}), ("client", {"client"}), ("both", {"server", "client"})]
)
def test_the_sides_that_a_contender_plays_are_counted(role: str, sides: set[str]) -> None:
    case = replace(TCP, role=Role(role), peer=None if role == "both" else "uvloop")
    counts = conduct(to_count(case), counter := FakeCounter())
    assert {side for _, side, _ in counter.asked} == sides
    assert {each.side for each in counts.counts} == sides


LOOKUP = replace(TCP, benchmark="getaddrinfo", variant="literal-ipv4")


def of_unit(unit: str, case: Case) -> Counts:
    counts = to_count(case)
    counts.campaign.cases[0].unit = unit
    return conduct(counts, FakeCounter())


def test_where_names_are_looked_up_there_is_only_one_side_to_count(tmp_path: Path) -> None:
    counts = of_unit("lookup", LOOKUP)
    assert {each.side for each in counts.counts} == {"client"}
    store.write_counts(tmp_path, counts)
    assert store.load_counts(tmp_path) == counts
    text = " ".join(instructions_report(counts).split())
    assert text.startswith("getaddrinfo, literal-ipv4, 1 at a time: instructions per lookup")
    assert "contender thousands/lookup ratio" in text
    assert "No server is called" in text
    assert "side" not in text.partition("About these numbers")[0]


def test_messages_are_counted_in_their_unit() -> None:
    text = " ".join(instructions_report(of_unit("round trip", replace(TCP, benchmark="tcp_echo", variant="a"))).split())
    assert text.startswith("tcp_echo, a, 1 at a time: instructions per round trip")
    assert "thousands/trip" in text
    assert "conn" not in text.partition("About these numbers")[0].replace(
        "What does a new TLS connection cost: conn", ""
    )


def test_a_case_with_a_baseline_of_its_own_is_compared_with_that() -> None:
    counts = to_count(TCP)
    counts.campaign.cases[0].baseline = "trio"
    conduct(counts, FakeCounter())
    assert counts.ratio(counts.campaign.cases[0].case.name, "asyncio", "server") == pytest.approx(400 / 640)
    assert "Ratios are to trio; below 1" in instructions_report(counts)


def test_every_arm_is_counted_in_several_layouts_and_the_least_stands_for_it() -> None:
    counts = conduct(to_count(), FakeCounter())
    count = counts.of(counts.campaign.cases[0].case.name, "trio", "server")
    assert count
    assert list(count.layouts) == [640_000, 640_100, 640_200]
    assert count.instructions == 640_000
    assert counts.ratio(count.case, "trio", "server") == pytest.approx(1.6)


def test_the_twin_has_other_layouts_than_the_baseline() -> None:
    conduct(to_count(), counter := FakeCounter())
    layouts = {arm: {layout for label, _, layout in counter.asked if label == arm} for arm in ("asyncio", TWIN)}
    assert not layouts["asyncio"] & layouts[TWIN]


def test_deadlines_are_scaled_to_what_counting_costs() -> None:
    conduct(to_count(), counter := FakeCounter())
    usual = Task(contender=None, benchmark=None, case=TCP, identity=None).options  # type: ignore[arg-type]  # not used
    for order in counter.orders:
        assert order.deadline > order.loops * 0.02 * callgrind.SLOWDOWN
        for task in (order.server, order.client):
            assert task.options.handshake_timeout == callgrind.SLOWDOWN * usual.handshake_timeout
            assert task.cpu == 0


def test_a_failure_is_tried_once_more() -> None:
    counter = FakeCounter({("trio", "server"): [{"error": "the accept queue overflowed"}]})
    counts = conduct(to_count(), counter)
    assert sum(arm == "trio" and side == "server" for arm, side, _ in counter.asked) == LAYOUTS + 1
    assert counts.campaign.outcomes == []


def test_a_second_failure_leaves_the_side_without_a_number_and_the_others_with_theirs() -> None:
    counts = conduct(to_count(), FakeCounter({("trio", "server"): [{"error": "no"}] * 2}))
    (outcome,) = counts.campaign.outcomes
    assert (outcome.arm, outcome.status, outcome.reason) == ("trio", "retired", "as server under callgrind: no")
    name = counts.campaign.cases[0].case.name
    assert counts.of(name, "trio", "server") is None
    assert counts.of(name, "trio", "client")
    assert counts.of(name, "uvloop", "server")


def test_a_contradicted_fact_is_not_tried_again() -> None:
    counter = FakeCounter({("trio", "client"): [{"error": "no", "facts": True}]})
    conduct(to_count(), counter)
    assert sum(arm == "trio" and side == "client" for arm, side, _ in counter.asked) == LAYOUTS


def test_who_breaks_the_close_policy_is_not_comparable() -> None:
    answer = {"facts": FACTS, "judgement": "no close_notify", "instructions": 5.0}
    counts = conduct(to_count(), FakeCounter({("uvloop", "client"): [answer]}))
    (outcome,) = counts.campaign.outcomes
    assert (outcome.arm, outcome.status) == ("uvloop", "not comparable")
    assert "no close_notify" in outcome.reason


def test_an_interrupt_ends_everything_and_is_told() -> None:
    counts, counter = to_count(), FakeCounter()

    def interrupt(_: Counts) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conduct(counts, counter, interrupt)
    assert counter.ended
    assert counts.campaign.ended == "interrupted"


def test_no_core_has_two_arms_at_a_time() -> None:
    conduct(to_count(), counter := FakeCounter(), cores=(3, 5))
    assert {order.server.cpu for order in counter.orders} <= {3, 5}
    assert all(order.server.cpu == order.client.cpu for order in counter.orders)


# On disk


def test_counts_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    counts = conduct(to_count(TCP, SERVER), FakeCounter())
    store.write_counts(tmp_path, counts)
    assert store.has_counts(tmp_path)
    assert store.load_counts(tmp_path) == counts
    assert store.load_counts(tmp_path / store.COUNTS_FILE) == counts


def test_a_path_in_facts_or_reasons_is_not_stored(tmp_path: Path) -> None:
    counts = conduct(to_count(), FakeCounter({("trio", "server"): [{"error": "no /home/somebody/x.py"}] * 2}))
    counts.counts[0] = replace(counts.counts[0], facts={"server": {"loop": "/home/somebody/loop.py"}})
    store.write_counts(tmp_path, counts)
    assert "somebody" not in (tmp_path / store.COUNTS_FILE).read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("counts"),
        lambda data: data.update(schema=99),
        lambda data: data["counts"][0].update(layouts=[]),
        lambda data: data["counts"][0].update(layouts=[0.0]),
        lambda data: data["counts"][0].update(arm="nobody"),
        lambda data: data["counts"][0].update(side="middle"),
        lambda data: data["cases"].clear(),
    ],
)
def test_damaged_counts_are_refused_in_one_line(tmp_path: Path, damage: Callable[[dict[str, Any]], object]) -> None:
    store.write_counts(tmp_path, conduct(to_count(), FakeCounter()))
    file = tmp_path / store.COUNTS_FILE
    data = json.loads(file.read_text())
    damage(data)
    file.write_text(json.dumps(data))
    with pytest.raises(DamagedError) as error:
        store.load_counts(tmp_path)
    assert len(str(error.value).splitlines()) == 1


# The table


def test_the_table_has_counts_ratios_repeatability_and_what_is_not_seen() -> None:
    text = " ".join(instructions_report(conduct(to_count(), FakeCounter())).split())
    assert "trio 640.00 1.6000 640.00 1.6000" in text
    assert "differs from its first by: server 0.075 %" in text or "differs from its first by: server 0.08 %" in text
    assert "no system call's work in the kernel" in text
    assert "valgrind 3.19.0" in text


def test_who_has_no_number_has_a_reason_in_the_table() -> None:
    counts = conduct(to_count(), FakeCounter({("trio", "server"): [{"error": "it burnt"}] * 2}))
    assert "trio has no number (retired): as server under callgrind: it burnt." in " ".join(
        instructions_report(counts).split()
    )


def test_the_flat_formats_have_a_row_for_every_side_of_every_arm() -> None:
    counts = conduct(to_count(), FakeCounter())
    rows = list(csv.DictReader(io.StringIO(instructions_report(counts, "csv"))))
    document = json.loads(instructions_report(counts, "json"))
    assert len(rows) == len(document["rows"]) == 8
    assert {row["instructions"] for row in document["rows"] if row["arm"] == "trio"} == {640_000.0}


# The gate


def counted(changes: dict[str, float] | None = None, *, started: str = "2026-11-20T09:15:00Z") -> Counts:
    counts = conduct(to_count(), FakeCounter())
    counts.campaign.started = started
    counts.counts = [_times(each, (changes or {}).get(each.arm, 1.0)) for each in counts.counts]
    return counts


def _times(count: Count, factor: float) -> Count:
    return replace(count, layouts=tuple(factor * each for each in count.layouts))


def later(changes: dict[str, float] | None = None) -> Counts:
    return counted(changes, started="2026-11-21T09:15:00Z")


def test_equal_counts_pass() -> None:
    found = change(counted(), later(), 0.005)
    assert found.refusals == ()
    assert found.slower == ()
    assert "Passed" in change_report(found)


def test_more_instructions_than_allowed_fail_and_the_row_is_named() -> None:
    found = change(counted(), later({"trio": 1.006}), 0.005)
    assert {(row.arm, row.side) for row in found.slower} == {("trio", "server"), ("trio", "client")}
    assert "FAILED: more than 0.5 % more instructions: trio (server) +0.60 %" in " ".join(change_report(found).split())


def test_the_baseline_is_judged_like_everybody_else() -> None:
    assert {row.arm for row in change(counted(), later({"asyncio": 1.02, TWIN: 1.02}), 0.005).slower} == {"asyncio"}


@given(st.floats(0.5, 2.0), st.floats(0.001, 0.5))
def test_a_row_fails_exactly_beyond_the_threshold(factor: float, threshold: float) -> None:
    old, new = counted_once()
    scaled = replace(new, counts=[_times(each, factor if each.arm == "trio" else 1.0) for each in new.counts])
    assert bool(change(old, scaled, threshold).slower) is (640_000 * factor > 640_000 * (1 + threshold))


@cache
def counted_once() -> tuple[Counts, Counts]:
    return counted(), later()


def refused(old: Counts, new: Counts, threshold: float = 0.005) -> str:
    found = change(old, new, threshold)
    assert found.refusals
    return "\n".join(found.refusals)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        (("python", "version"), "the interpreter's version"),
        (("openssl",), "OpenSSL"),
        (("libc",), "the C library"),
        (("versions", "loopmark"), "the version of loopmark"),
        (("valgrind",), "valgrind"),
    ],
)
def test_other_software_is_refused(path: tuple[str, ...], word: str) -> None:
    new = later()
    place = new.campaign.machine
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "another one"
    assert word in refused(counted(), new)


def test_another_processor_is_told_and_not_refused() -> None:
    new = later()
    new.campaign.machine["cpu"]["model"] = "Another"
    found = change(counted(), new, 0.005)
    assert found.refusals == ()
    assert "NEW on Another" in " ".join(change_report(found).split())


def test_other_facts_are_refused() -> None:
    new = later()
    new.counts[0] = replace(new.counts[0], facts={"equal": {"nodelay": False, "cipher": None}})
    assert "nodelay of asyncio's connections is True in OLD and False in NEW" in refused(counted(), new)


def test_a_baseline_that_varies_more_than_the_threshold_is_refused() -> None:
    assert "cannot be told from that" in refused(counted(), later({TWIN: 1.02}))


def test_who_could_be_counted_and_cannot_any_more_is_refused() -> None:
    new = later()
    new.counts = [each for each in new.counts if each.arm != "trio"]
    new.campaign.outcomes.append(Outcome(arm="trio", case="*", status="skipped", reason="not installed"))
    assert "trio was counted in OLD and not in NEW" in refused(counted(), new)


def test_the_same_counts_twice_are_refused() -> None:
    assert "the same campaign" in refused(counted(), counted())


# The commands


def invoked(command: click.Command, *arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(command, [*map(str, arguments)], standalone_mode=False)
    if isinstance(result.exception, Exception):
        raise result.exception
    return int(result.return_value or 0), result.output


def stored(directory: Path, counts: Counts) -> Path:
    directory.mkdir()
    store.write_counts(directory, counts)
    return directory


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_memory_is_nothing_that_could_be_counted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--instructions counts work, and tls_idle is about memory: leave it out"):
        invoked(run, "--instructions", "-w", "tls_idle", "-b", "asyncio", "--certs", tmp_path, "--results", tmp_path)


def test_counts_are_printed_again_from_disk(tmp_path: Path) -> None:
    status, text = invoked(compare, stored(tmp_path / "a", counted()))
    assert status == 0
    assert text == instructions_report(counted())


@pytest.mark.parametrize(("factor", "status"), [(1.0, 0), (1.01, 1)])
def test_the_gate_has_the_status_of_what_it_finds(tmp_path: Path, factor: float, status: int) -> None:
    old, new = stored(tmp_path / "a", counted()), stored(tmp_path / "b", later({"trio": factor}))
    assert invoked(compare, old, new, "--fail-on", "slower:0.5%")[0] == status


def test_counts_that_cannot_be_compared_have_status_2_and_a_line_for_each_reason(tmp_path: Path) -> None:
    new = later()
    new.campaign.machine |= {"openssl": "OpenSSL 9", "valgrind": "9"}
    old = stored(tmp_path / "a", counted())
    status, text = invoked(compare, old, stored(tmp_path / "b", new), "--fail-on", "slower:0.5%")
    assert status == 2
    assert [line.startswith("loopmark: ") for line in text.splitlines()] == [True, True]


def test_counts_and_times_do_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "times").mkdir()
    store.write(tmp_path / "times", fake_campaign(blocks=1))
    with pytest.raises(UsageError, match="go with nothing else"):
        invoked(compare, stored(tmp_path / "a", counted()), tmp_path / "times")


def test_counts_are_shown(tmp_path: Path) -> None:
    assert "tcp_pingpong" in invoked(show, stored(tmp_path / "a", counted()))[1]


@pytest.mark.parametrize("option", [["--blocks", "3"], ["--fast"], ["--max-time", "5"], ["-n", "100"], ["--control"]])
def test_an_option_about_time_is_refused_beside_instructions(option: list[str]) -> None:
    with pytest.raises(UsageError, match="leave out --"):
        invoked(run, "--instructions", *option)


def test_run_without_valgrind_is_refused_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="apt install valgrind"):
        invoked(run, "--instructions", "--results", tmp_path / "results")
    assert list(tmp_path.iterdir()) == []


# Real processes


def tcp_order(loops: int, deadline: float) -> Order:
    server, client, _ = assign(TCP, Arm(label="asyncio", contender="asyncio"))
    return Order(
        arm="asyncio", server=server, client=client, loops=loops, warmups=1, values=1, at_once=1, deadline=deadline
    )


def test_an_arm_that_does_not_end_is_ended_at_its_deadline() -> None:
    assert "did not end within 0.1 s" in Valgrind().count(tcp_order(1, 0.1), "server", 0)["error"]


def test_nothing_is_counted_any_more_after_the_end() -> None:
    counter = Valgrind()
    counter.end()
    assert "without a report" in counter.count(tcp_order(1, 60), "server", 0)["error"]


@pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind is not installed")
@pytest.mark.parametrize("side", ["server", "client"])
def test_a_real_connection_is_counted_where_valgrind_is_installed(side: str) -> None:
    answer = Valgrind().count(tcp_order(4, 100), side, 0)
    assert "error" not in answer
    assert answer["facts"]["equal"]["nodelay"] is True
    # One connection with asyncio's streams, and not a start of the interpreter, which takes half a billion.
    assert 100_000 < answer["instructions"] < 5_000_000
