"""A profile's pure parts: names, waiting taken out, py-spy's words and graphs, what is run, and what is printed."""

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.campaigns import BOTH, CLIENT, SERVER

from loopmark import callstats, pyspy
from loopmark.callstats import HANDSHAKE, Function, Profiler, Stats, between, named, shortened, without_waiting
from loopmark.case import Case, Cores
from loopmark.errors import DamagedError, UsageError
from loopmark.profiling import How, Profile, Subject, Wish, check_output, profile
from loopmark.registry import registry
from loopmark.report.profile import ROWS, profile_report
from loopmark.task import Order, Task

# Names


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("<method 'do_handshake' of '_ssl._SSLSocket' objects>", HANDSHAKE),
        ("<method 'poll' of 'select.epoll' objects>", "select.epoll.poll"),
        ("<built-in method time.sleep>", "time.sleep"),
        ("<built-in method __new__ of type object at 0x7f0d5b7f2a5a>", "__new__ of type object"),
        ("<function socket.close at 0x7f0d5b7f2a5a>", "socket.close"),
        ("<weakref at 0x7f0d5b7f2a5a; to 'set'>", "<weakref; to 'set'>"),
    ],
)
def test_a_function_of_compiled_code_is_named_without_brackets_and_addresses(told: str, name: str) -> None:
    assert named(told, {}) == name


def test_a_python_function_is_named_with_its_class_and_its_place_in_the_package() -> None:
    code = json.JSONDecoder.decode.__code__
    modules = {code.co_filename: "json/decoder.py"}
    assert named(code, modules) == f"JSONDecoder.decode (json/decoder.py:{code.co_firstlineno})"


@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1), min_size=2))
def test_a_file_of_no_module_is_named_without_its_directory(parts: list[str]) -> None:
    assert "/" not in shortened("/" + "/".join(parts), {})


# What cProfile counts


def work() -> int:
    return sum(map(len, [[1]] * 100))


def snapshots(do: Callable[[], object], *, cpu_clock: bool = False) -> Stats:
    """Profile in this process, between two snapshots that went through JSON as they do between processes."""
    profiler = Profiler(cpu_clock=cpu_clock)
    profiler.start()
    try:
        before = json.loads(json.dumps(profiler.snapshot()))
        do()
        after = json.loads(json.dumps(profiler.snapshot()))
    finally:
        profiler.stop()
    return between(before, after, cpu_clock=cpu_clock)


@pytest.mark.parametrize("cpu_clock", [False, True])
def test_calls_between_two_snapshots_are_counted_and_no_others(cpu_clock: bool) -> None:
    work()

    def thrice() -> None:
        for _ in range(3):
            work()

    stats = snapshots(thrice, cpu_clock=cpu_clock)
    (found,) = [each for each in stats.functions if each.name.startswith("work (")]
    assert found.calls == 3
    assert 0 < found.own <= found.cumulative
    assert stats.threads == 0


def test_sleeping_is_not_counted_as_work() -> None:
    def doze() -> None:
        work()
        # Nobody sets it: waiting is what must not be counted.
        Event().wait(0.05)

    stats = snapshots(doze)
    assert sum(each.own for each in stats.functions) + stats.unseen == pytest.approx(stats.cpu, rel=0.01)
    (dozing,) = [each for each in stats.functions if each.name.endswith(".doze") or ".doze (" in each.name]
    assert dozing.cumulative < 0.05


def test_threads_that_start_meanwhile_are_counted() -> None:
    def twice() -> None:
        for _ in range(2):
            thread = Thread(target=work)
            thread.start()
            thread.join()

    assert snapshots(twice).threads == 2


def test_no_name_of_this_process_has_a_directory_of_this_machine() -> None:
    stats = snapshots(lambda: replace(SERVER, concurrency=7))
    home = str(Path(__file__).parents[1])
    assert stats.functions
    assert not [each.name for each in stats.functions if home in each.name or sys.prefix in each.name]


def seconds(smallest: float = 0.0) -> st.SearchStrategy[float]:
    return st.floats(smallest, 1000.0)


names = st.sampled_from(["a (x.py:1)", "b (x.py:2)", "select.epoll.poll", "time.sleep", "zippy.Loop.run_forever"])
owned = st.dictionaries(names, seconds())


@given(owned, seconds(), seconds(), seconds())
def test_without_waiting_the_own_times_add_up_to_the_cpu_time(
    own: dict[str, float], unseen: float, cpu: float, preempted: float
) -> None:
    elapsed = sum(own.values()) + unseen
    cpu = min(cpu, elapsed)
    functions = [Function(name=name, calls=1, own=each, cumulative=each) for name, each in own.items()]
    stats = without_waiting(functions, elapsed, cpu, preempted=preempted, above={})
    assert sum(each.own for each in stats.functions) + stats.unseen == pytest.approx(cpu, abs=1e-6)
    assert all(each.own >= 0 and each.cumulative >= 0 for each in stats.functions)


def waited(*functions: tuple[str, float, float], elapsed: float, cpu: float, preempted: float = 0.0) -> Stats:
    made = [Function(name=name, calls=1, own=own, cumulative=cumulative) for name, own, cumulative in functions]
    above = {"select.epoll.poll": ["once"], "loop.run_forever": ["once"]}
    return without_waiting(made, elapsed, cpu, preempted=preempted, above=above)


def test_waiting_is_taken_from_what_waits_and_from_what_called_it() -> None:
    stats = waited(("once", 1.0, 10.0), ("select.epoll.poll", 6.0, 6.0), ("work", 3.0, 3.0), elapsed=10.0, cpu=5.0)
    assert [(each.name, each.own, each.cumulative) for each in stats.functions] == [
        ("work", 3.0, 3.0),
        ("once", 1.0, 5.0),
        ("select.epoll.poll", 1.0, 1.0),
    ]


def test_a_loop_in_compiled_code_waits_where_nobody_sees_it() -> None:
    stats = waited(("once", 1.0, 10.0), ("loop.run_forever", 6.0, 9.0), ("work", 3.0, 3.0), elapsed=10.0, cpu=5.0)
    assert stats.unseen == 1.0
    assert [(each.name, each.cumulative) for each in stats.functions] == [("work", 3.0), ("once", 5.0)]


@pytest.mark.parametrize("preempted", [0.0, 4.0])
def test_time_of_which_nobody_knows_better_is_taken_from_all_in_proportion(preempted: float) -> None:
    stats = waited(("once", 6.0, 8.0), ("work", 2.0, 2.0), elapsed=8.0, cpu=4.0, preempted=preempted)
    assert [(each.own, each.cumulative) for each in stats.functions] == [(3.0, 4.0), (1.0, 1.0)]


def test_time_in_which_others_had_the_core_is_not_taken_for_waiting() -> None:
    stats = waited(("work", 6.0, 6.0), ("loop.run_forever", 2.0, 8.0), elapsed=8.0, cpu=4.0, preempted=4.0)
    assert ([each.own for each in stats.functions], stats.unseen) == ([3.0], 1.0)


@pytest.mark.parametrize(("switches", "preempted"), [([10, 0], 0.0), ([0, 10], 0.5), ([6, 4], 0.2), ([0, 0], 0.0)])
def test_time_without_a_core_is_divided_by_how_the_core_was_lost(switches: list[int], preempted: float) -> None:
    functions = {"work": [1, 1.0, 1.0], "loop.run_forever": [1, 1.0, 2.0]}
    stats = between(
        BEFORE, after(functions=functions, cpu=2.0, wall=7.0, delay=0.5, switches=switches), cpu_clock=False
    )
    # Of two seconds one was CPU time. What is not preempted is waiting, in the loop.
    assert stats.functions[0].own == pytest.approx(1 / (1 + preempted))


def test_a_share_is_of_the_cpu_time() -> None:
    functions = [Function(name=name, calls=1, own=1.0, cumulative=1.0) for name in (HANDSHAKE, "_ssl.other", "work")]
    stats = without_waiting(functions, 4.0, 4.0, preempted=0.0, above={})
    assert stats.share(HANDSHAKE) == 0.25
    assert stats.share(callstats.OPENSSL) == 0.5


# py-spy


def svg(*boxes: tuple[str, int], total: int = 200) -> str:
    parts = [f"<g><title>{name} ({samples} samples, 1.00%)</title></g>" for name, samples in boxes]
    return f"<svg>{''.join(parts)}<title>all ({total} samples, 100%)</title></svg>"


def test_a_flame_graph_is_counted_with_every_place_of_the_handshake() -> None:
    found = pyspy.counted(
        svg(
            ("SSLObject.do_handshake (ssl.py:949)", 70),
            ("&lt;module&gt; (busy.py:7)", 200),
            ("do_handshake (ssl.py)", 7),
            ("_ssl__SSLSocket_do_handshake (_ssl.c:1025)", 70),
            ("SSLStream._do_handshake (trio/_ssl.py:647)", 90),
        )
    )
    assert (found.samples, found.handshake) == (200, 77)


def test_samples_of_the_thread_that_answers_us_are_none_of_the_contenders() -> None:
    assert pyspy.counted(svg(("_Answers.run (loopmark/peer.py:138)", 42))).samples == 158


def test_samples_by_the_thousand_are_read() -> None:
    assert pyspy.counted("<title>all (12,345 samples, 100%)</title>").samples == 12345


@given(st.text())
def test_what_is_no_flame_graph_is_refused(text: str) -> None:
    with pytest.raises(DamagedError):
        pyspy.counted(text)


@pytest.mark.parametrize(
    "words",
    [
        "Error: Permission Denied: Try running again with elevated permissions by going 'sudo env ...'",
        "Error: Operation not permitted (os error 1)",
        "Error: This program requires root on OSX.",
    ],
)
def test_a_lack_of_permission_says_what_to_do(words: str) -> None:
    assert pyspy.is_refused(words)
    assert re.search("SYS_PTRACE|sudo", pyspy.refusal(words))


def test_another_failure_of_py_spy_is_told_in_its_first_line() -> None:
    words = "\nError: Unsupported version of Python: 3.99.0\n\nStack backtrace:\n  0: anyhow\n"
    assert pyspy.refusal(words) == "py-spy failed: Unsupported version of Python: 3.99.0"
    assert not pyspy.is_refused(words)


def test_without_py_spy_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert pyspy.find() is None


@pytest.mark.parametrize(("text", "native"), [("  -n, --native  Collect", True), ("  -g, --gil", False)])
def test_py_spy_beside_the_interpreter_is_found_and_what_it_can_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, native: bool
) -> None:
    fake = tmp_path / "py-spy"
    fake.write_text(f"#!/bin/sh\necho '{text}'\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert pyspy.find() == pyspy.Tool(path=str(fake), is_native=native)


# What is run, with a runner that starts no process

KNOWN = registry()
TOOL = pyspy.Tool(path="py-spy", is_native=True)
PLAIN: dict[str, Any] = {
    "units": 900,
    "wall": [5e-4] * 3,
    "cpu": [4e-4, 3e-4, 2e-4],
    "kernel": 0.2,
    "floor": [2e-4, 1.5e-4, 1e-4],
}
BEFORE = {"cpu": 1.0, "wall": 5.0, "delay": 0.0, "switches": [0, 0], "threads": 1, "functions": {}, "above": {}}


def after(**changes: Any) -> dict[str, Any]:
    functions = {HANDSHAKE: [900, 0.3, 0.3], "work (asyncio/streams.py:7)": [1800, 0.2, 0.5]}
    return {**BEFORE, "cpu": 1.5, "wall": 5.5, "functions": functions, **changes}


class FakeRunner:
    """Answers at once; `samples` are the answers under py-spy, which may write a graph."""

    def __init__(
        self, plain: dict[str, Any] | None = None, *, threads: int = 0, samples: Sequence[tuple[int, str]] = ()
    ) -> None:
        self.asked: list[tuple[Order, Wish]] = []
        self._plain = plain or PLAIN
        self._threads = threads
        self._samples = iter(samples)

    def run(self, order: Order, wish: Wish) -> dict[str, Any]:
        self.asked.append((order, Wish.read(wish.to_json())))
        if wish.how is How.PLAIN:
            return self._plain
        if wish.how is How.FUNCTIONS:
            return {"units": 900, "before": BEFORE, "after": after(threads=1 + self._threads)}
        status, words = next(self._samples, (0, svg(("SSLObject.do_handshake (ssl.py:949)", 80))))
        if status == 0:
            Path(wish.sampler[wish.sampler.index("--output") + 1]).write_text(words)
        return {"units": 100, "status": status, "words": words}


def subject(case: Case = SERVER, *, side: str = "server", contender: str = "trio", floor: bool = True) -> Subject:
    task = Task(
        contender=KNOWN.contender(contender), benchmark=KNOWN.benchmarks[case.benchmark], case=case, identity=None
    )
    return Subject(
        contender=contender, side=side, case=case, unit="connection", server=task, client=task, has_floor=floor
    )


def profiled(
    runner: FakeRunner | None = None,
    what: Subject | None = None,
    *,
    tool: pyspy.Tool | None = None,
    output: Path = Path("graph.svg"),
    tell: Callable[[str], None] = lambda _: None,
) -> Profile:
    return profile(what or subject(), runner or FakeRunner(), seconds=3.0, tool=tool, output=output, tell=tell)


def test_every_run_is_told_before_it_begins(tmp_path: Path) -> None:
    runner, told = FakeRunner(), list[int]()
    profiled(runner, tool=TOOL, output=tmp_path / "graph.svg", tell=lambda _: told.append(len(runner.asked)))
    assert told == [0, 1, 2]
    assert [wish.how for _, wish in runner.asked] == [How.PLAIN, How.FUNCTIONS, How.SAMPLES]


def test_figures_without_a_profiler_are_medians() -> None:
    assert profiled().plain.cpu == 3e-4


def test_the_floor_is_compared_with_what_was_measured_beside_it() -> None:
    floors = [0.2 * each for each in PLAIN["cpu"]]
    assert profiled(FakeRunner({**PLAIN, "floor": floors})).plain.floor == pytest.approx(0.2 * 3e-4)


@pytest.mark.parametrize(
    ("case", "cpu_clock"),
    [
        (SERVER, False),
        (replace(SERVER, cores=Cores.ANY), False),
        (replace(SERVER, cores=Cores.SHARED), True),
        (replace(CLIENT, concurrency=1), True),
    ],
)
def test_the_cpu_clock_is_for_sides_that_take_turns(case: Case, cpu_clock: bool) -> None:
    runner = FakeRunner()
    profiled(runner, subject(case))
    assert [wish.cpu_clock for _, wish in runner.asked if wish.how is How.FUNCTIONS] == [cpu_clock]


@pytest.mark.parametrize("floor", [True, False])
def test_the_floor_is_measured_where_the_case_has_one(floor: bool) -> None:
    runner = FakeRunner()
    profiled(runner, subject(floor=floor))
    assert [wish.floor for _, wish in runner.asked if wish.how is How.PLAIN] == [floor]


def test_functions_of_threads_have_no_table_but_a_reason() -> None:
    found = profiled(FakeRunner(threads=900), subject(contender="blocking"))
    assert isinstance(found.functions, str)
    assert "blocking starts threads (900" in found.functions


def test_a_flame_graph_becomes_a_new_file(tmp_path: Path) -> None:
    found = profiled(tool=TOOL, output=tmp_path / "graph.svg").samples
    assert not isinstance(found, str)
    assert (found.samples, found.handshake, found.is_native) == (200, 80, True)
    assert found.path.read_text().startswith("<svg>")


def test_a_file_that_exists_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "graph.svg"
    path.write_text("mine")
    with pytest.raises(UsageError, match="give another name with --output FILE"):
        check_output(path)
    with pytest.raises(UsageError, match="exists"):
        profiled(tool=TOOL, output=path)
    assert path.read_text() == "mine"


def test_a_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no directory"):
        check_output(tmp_path / "nowhere" / "graph.svg")


def test_where_compiled_frames_cannot_be_read_there_is_a_graph_without_them(tmp_path: Path) -> None:
    runner = FakeRunner(samples=[(1, "Error: Failed to unwind"), (0, svg())])
    found = profiled(runner, tool=TOOL, output=tmp_path / "graph.svg").samples
    assert not isinstance(found, str)
    assert not found.is_native
    assert ["--native" in wish.sampler for _, wish in runner.asked[2:]] == [True, False]


def test_a_py_spy_that_had_to_be_ended_is_told(tmp_path: Path) -> None:
    runner = FakeRunner(samples=[(-9, "py-spy> Sampling process 100 times a second")] * 2)
    found = profiled(runner, tool=TOOL, output=tmp_path / "graph.svg").samples
    assert found == "No flame graph: py-spy failed: it did not end within 105 s."


def test_without_permission_nothing_is_tried_again(tmp_path: Path) -> None:
    runner = FakeRunner(samples=[(1, "Error: Permission Denied")])
    found = profiled(runner, tool=TOOL, output=tmp_path / "graph.svg").samples
    assert isinstance(found, str)
    assert "(ptrace)" in found or "sudo" in found
    assert len(runner.asked) == 3


def test_without_py_spy_one_sentence_says_what_to_install() -> None:
    assert profiled().samples == "No flame graph: py-spy is not installed; type: pip install py-spy."


def test_something_else_than_a_graph_is_no_flame_graph(tmp_path: Path) -> None:
    found = profiled(FakeRunner(samples=[(0, "nonsense")]), tool=TOOL, output=tmp_path / "graph.svg").samples
    assert found == "No flame graph: py-spy has not written a flame graph."


# What is printed


def printed(*arguments: Any, **options: Any) -> str:
    return " ".join(profile_report(profiled(*arguments, **options)).split())


def test_the_share_of_the_handshake_has_a_line_of_its_own() -> None:
    lines = profile_report(profiled()).splitlines()
    assert "* handshake and messages in OpenSSL (floor): 150 us of 300 us per connection, 50 %" in lines


def test_how_far_the_share_of_the_handshake_wandered_is_told() -> None:
    text = printed(FakeRunner({**PLAIN, "floor": [1.6e-4, 1.5e-4, 1.1e-4]}))
    assert "150 us of 300 us per connection, 50 % (40 to 55 % in 3 values)" in text


def test_floor_kernel_and_rest_add_up() -> None:
    text = printed()
    assert "network stack: 60.0 us of 300 us per connection, 20 %" in text
    assert "the rest, trio's own code and Python: 90.0 us of 300 us per connection, 30 %" in text


def test_without_floor_and_kernel_all_is_the_rest() -> None:
    text = printed(FakeRunner({**PLAIN, "floor": [], "kernel": None}), subject(floor=False))
    assert "all, trio's own code and Python: 300 us of 300 us per connection, 100 %" in text
    assert "There is no floor" in text


def test_a_rest_below_nothing_is_called_noise() -> None:
    text = printed(FakeRunner({**PLAIN, "kernel": 0.6}))
    assert "the rest, trio's own code and Python: nothing that these figures could tell from noise" in text


def test_plain_tcp_says_nothing_of_floors() -> None:
    case = replace(SERVER, benchmark="tcp_pingpong", tls=None)
    assert "floor" not in printed(FakeRunner({**PLAIN, "floor": []}), subject(case, floor=False)).lower()


def test_the_table_has_calls_own_and_cumulative_times_of_one_unit() -> None:
    text = printed()
    assert f"{HANDSHAKE} 1.00 333.3 60.0 333.3 60.0" in text
    assert "work (asyncio/streams.py:7) 2.00 222.2 40.0 555.6 100.0" in text
    assert "do_handshake: 60 % of the CPU time under cProfile" in text


def test_what_cprofile_does_to_python_is_told_with_its_size() -> None:
    assert "inflates Python against C: under it the server took 556 us per connection, 1.85 times" in printed()


def test_a_long_table_ends_with_one_row_for_the_rest() -> None:
    functions = {f"f{number} (x.py:{number})": [9, 0.01, 0.01] for number in range(ROWS + 5)}

    class Many(FakeRunner):
        def run(self, order: Order, wish: Wish) -> dict[str, Any]:
            answer = super().run(order, wish)
            return {**answer, "after": after(functions=functions)} if wish.how is How.FUNCTIONS else answer

    text = printed(Many())
    assert text.count("(x.py:") == ROWS
    assert "5 other functions" in text


def test_a_busy_machine_is_told() -> None:
    class Busy(FakeRunner):
        def run(self, order: Order, wish: Wish) -> dict[str, Any]:
            answer = super().run(order, wish)
            return {**answer, "after": after(delay=0.4)} if wish.how is How.FUNCTIONS else answer

    assert "The machine was busy" in printed(Busy())
    assert "The machine was busy" not in printed()


def test_the_flame_graph_is_told_with_its_share_of_the_handshake(tmp_path: Path) -> None:
    text = printed(tool=TOOL, output=tmp_path / "graph.svg")
    assert "graph.svg: 200 samples by py-spy with the frames of compiled code" in text
    assert "In do_handshake: 80 of 200 samples, 40 %." in text


def test_one_at_a_time_says_which_clock_it_used() -> None:
    case = replace(SERVER, concurrency=1, cores=Cores.SHARED)
    assert "Times are CPU time, since both sides share one core" in printed(None, subject(case))
    assert BOTH.cores is Cores.SHARED
