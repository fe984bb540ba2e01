import csv
import gzip
import io
import json
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyperf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.campaigns import BOTH, CLIENT, SERVER, TWIN, fake_campaign

from loopmark import store
from loopmark.alongside import Benchmark, Comparison, compare
from loopmark.case import Case, Cores, Metric, Role, stored_name
from loopmark.errors import DamagedError, UsageError
from loopmark.foreign import case_of, read
from loopmark.judgement import Gate, judge
from loopmark.record import Campaign, Kind
from loopmark.report import FORMATS, comparison_of_files
from loopmark.spi import TLSProfile
from loopmark.verdicts import Verdict

NAME = stored_name(BOTH.name, Metric.WALL)
ARMS = ("asyncio", TWIN, "uvloop", "trio")


def campaign_of(**options: Any) -> Campaign:
    """A precise campaign of one case, unless told otherwise."""
    given = {"blocks": 12, "noise": 0.002, "cases": [BOTH], "effects": {"uvloop": 0.85, "trio": 1.15}}
    return fake_campaign(**{**given, **options})


def written(path: Path, campaign: Campaign) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    store.write(path, campaign)
    return path


def compared(path: Path, *arms: str) -> Comparison:
    return compare(read([path / f"{arm}.json" for arm in arms]))


def benchmark_of(comparison: Comparison, name: str = NAME) -> Benchmark:
    (found,) = (each for each in comparison.benchmarks if each.name == name)
    return found


def stock(path: Path, name: str = "work", values: tuple[float, ...] = (1.0, 1.1, 1.2), **metadata: Any) -> Path:
    """Make a file as stock pyperf does: three processes, one after the other, with all its metadata."""
    runs = [
        pyperf.Run([value * each for each in values], metadata={"name": name, "unit": "second", **metadata})
        for value in (1.0, 1.01, 0.99)
    ]
    pyperf.BenchmarkSuite([pyperf.Benchmark(runs)]).dump(str(path))
    return path


def edited(path: Path, change: Callable[[dict[str, Any], int], None], target: Path | None = None) -> Path:
    """Write a file anew, with the metadata of its runs changed; each run then holds all of its own."""
    suite = pyperf.BenchmarkSuite.load(str(path))
    benchmarks = []
    for benchmark in suite.get_benchmarks():
        runs = []
        for index, run in enumerate(benchmark.get_runs()):
            metadata = run.get_metadata()
            change(metadata, index)
            runs.append(pyperf.Run(run.values, metadata=metadata, collect_metadata=False))
        benchmarks.append(pyperf.Benchmark(runs))
    pyperf.BenchmarkSuite(benchmarks).dump(str(target or path), replace=True)
    return target or path


def refused(benchmark: Benchmark, *words: str) -> None:
    """Only ratios of medians, and one sentence that has all the words."""
    assert benchmark.judgement is None
    assert not any(row.interval or row.verdict for row in benchmark.rows)
    (reason,) = benchmark.reasons
    for word in words:
        assert word in reason
    first, *others = benchmark.rows
    assert first.ratio is None
    for row in others:
        assert row.ratio == pytest.approx(row.absolute.median / first.absolute.median)


# Files of one campaign


def test_the_files_of_a_campaign_get_the_campaigns_own_verdicts(tmp_path: Path) -> None:
    campaign = campaign_of(cases=[SERVER, CLIENT, BOTH])
    found = compared(written(tmp_path, campaign), *ARMS)
    for plan in campaign.cases:
        blocks = [block for block in campaign.blocks if block.case == plan.case.name]
        expected = judge(plan, "asyncio", blocks, campaign.margin)
        benchmark = benchmark_of(found, stored_name(plan.case.name, plan.case.primary))
        assert benchmark.judgement is not None
        assert benchmark.judgement.gate is expected.gate is Gate.PASSED
        assert benchmark.judgement.position == expected.position
        assert {row.file: row.interval for row in benchmark.rows[1:]} == expected.estimates
        assert {row.file: row.verdict for row in benchmark.rows if row.verdict} == expected.verdicts
        assert expected.verdicts == {"uvloop": Verdict.FASTER, "trio": Verdict.SLOWER}
        assert {row.file: row.letters for row in benchmark.rows if row.letters} == expected.letters
        assert benchmark.reasons == ()


def test_a_choice_among_a_campaigns_files_makes_no_interval_narrower(tmp_path: Path) -> None:
    few, all_of_them = (compared(written(tmp_path, campaign_of()), *arms) for arms in (ARMS[:3], ARMS))
    chosen, whole = (benchmark_of(each).rows for each in (few, all_of_them))
    assert [row.interval for row in chosen] == [row.interval for row in whole[:3]]
    assert [row.verdict for row in chosen] == [row.verdict for row in whole[:3]]


def test_files_that_do_not_tell_how_many_contenders_there_were_get_no_verdicts(tmp_path: Path) -> None:
    def forget(metadata: dict[str, Any], index: int) -> None:
        del metadata["contenders"]

    path = written(tmp_path, campaign_of())
    for arm in ARMS[:3]:
        edited(path / f"{arm}.json", forget)
    found = benchmark_of(compared(path, *ARMS[:3]))
    (reason,) = found.reasons
    assert "do not tell how many contenders their campaign had" in reason
    assert [row.verdict for row in found.rows] == [None] * 3
    assert {row.interval.level for row in found.rows if row.interval} == {0.95}


def test_only_the_primary_metric_of_a_case_gets_verdicts(tmp_path: Path) -> None:
    found = compared(written(tmp_path, campaign_of(cases=[SERVER, CLIENT, BOTH])), *ARMS)
    primary = {stored_name(case.name, case.primary) for case in (SERVER, CLIENT, BOTH)}
    assert len(found.benchmarks) == 9
    for benchmark in found.benchmarks:
        assert any(row.verdict for row in benchmark.rows) == (benchmark.name in primary)
        assert bool(benchmark.reasons) != (benchmark.name in primary)
        for row in benchmark.rows[1:]:
            assert row.interval is not None
            assert row.interval.low is not None
            if benchmark.name not in primary:
                assert row.interval.level == 0.95


def test_idle_connections_are_judged_by_their_memory(tmp_path: Path) -> None:
    case = replace(SERVER, benchmark="tls_idle", held=25)
    campaign = campaign_of(cases=[case], floor=False)
    for block in campaign.blocks:
        for label, each in block.measurements.items():
            # As precise as the times are; who needs less of them needs less memory here.
            block.measurements[label] = replace(
                each,
                client_memory=tuple(1e8 * value for value in each.client_cpu),
                server_memory=tuple(1e8 * value for value in each.server_cpu),
            )
    found = compared(written(tmp_path, campaign), *ARMS)
    judged = [each for each in found.benchmarks if each.judgement is not None]
    assert [each.name for each in judged] == [stored_name(case.name, Metric.SERVER_MEMORY)]
    assert {row.file: row.verdict for row in judged[0].rows if row.verdict} == {
        "uvloop": Verdict.FASTER,
        "trio": Verdict.SLOWER,
    }
    assert all(row.peer_busy is None for row in judged[0].rows)


def test_without_the_twin_there_are_intervals_and_no_verdict(tmp_path: Path) -> None:
    benchmark = benchmark_of(compared(written(tmp_path, campaign_of()), "asyncio", "uvloop"))
    (reason,) = benchmark.reasons
    assert "none of the files is the A/A twin of asyncio" in reason
    assert "asyncio.twin.json" in reason
    row = benchmark.rows[1]
    assert row.interval is not None
    assert row.interval.low is not None
    assert (row.verdict, row.letters) == (None, "")


def test_the_twin_of_another_baseline_is_none_here(tmp_path: Path) -> None:
    benchmark = benchmark_of(compared(written(tmp_path, campaign_of()), "uvloop", "asyncio", TWIN))
    (reason,) = benchmark.reasons
    assert "the A/A twin of uvloop" in reason
    assert "asyncio.json first" in reason
    assert benchmark.twins == ()
    assert not any(row.verdict for row in benchmark.rows)


def test_the_margin_is_the_one_that_the_campaign_declared(tmp_path: Path) -> None:
    campaign = campaign_of(effects={"uvloop": 1.03})
    campaign.margin = 0.05
    benchmark = benchmark_of(compared(written(tmp_path, campaign), "asyncio", TWIN, "uvloop"))
    assert benchmark.rows[2].verdict is Verdict.EQUIVALENT


def test_a_fast_campaign_gets_no_verdict(tmp_path: Path) -> None:
    benchmark = benchmark_of(compared(written(tmp_path, campaign_of(mode="fast")), *ARMS))
    assert benchmark.reasons == ("a fast campaign gets none",)
    assert not any(row.verdict for row in benchmark.rows)
    assert {row.interval.level for row in benchmark.rows if row.interval} == {0.95}


def test_with_too_few_blocks_there_is_no_verdict_and_the_number_that_it_takes(tmp_path: Path) -> None:
    benchmark = benchmark_of(compared(written(tmp_path, campaign_of(blocks=5)), *ARMS))
    assert benchmark.reasons == ("intervals that hold together need 7 blocks, and there are 5",)
    assert not any(row.verdict for row in benchmark.rows)


def test_a_twin_beyond_the_margin_takes_all_verdicts(tmp_path: Path) -> None:
    campaign = campaign_of(effects={"uvloop": 0.85, TWIN: 1.05})
    benchmark = benchmark_of(compared(written(tmp_path, campaign), "asyncio", TWIN, "uvloop"))
    assert benchmark.is_invalid
    assert not any(row.verdict or row.letters for row in benchmark.rows)
    assert any(TWIN in reason for reason in benchmark.reasons)


def test_the_positive_control_has_an_interval_and_is_no_contender(tmp_path: Path) -> None:
    path = written(tmp_path, campaign_of(control=1.02))
    benchmark = benchmark_of(compared(path, *ARMS, "asyncio.control"))
    row = benchmark.rows[-1]
    assert (row.kind, row.verdict) == (Kind.CONTROL, None)
    assert row.interval is not None
    assert row.interval.low is not None
    assert told_by(benchmark) == {**told_by(benchmark_of(compared(path, *ARMS))), "asyncio.control": None}
    assert "asyncio.control (+2 % control)" in comparison_of_files(compared(path, *ARMS, "asyncio.control"))


def test_a_row_tells_how_busy_the_fixed_peer_was(tmp_path: Path) -> None:
    found = compared(written(tmp_path, campaign_of(cases=[SERVER, BOTH])), "asyncio", TWIN)
    served = benchmark_of(found, stored_name(SERVER.name, Metric.SERVER_CPU))
    assert [row.peer_busy for row in served.rows] == pytest.approx([1 / 1.001] * 2)
    assert "1*" in comparison_of_files(found, "text")
    assert [row.peer_busy for row in benchmark_of(found).rows] == [None, None]


# Files that only look as if


def test_a_mislabelled_twin_is_refused(tmp_path: Path) -> None:
    campaign = campaign_of()
    plan = campaign.cases[0]
    plan.arms = tuple(replace(arm, contender="uvloop") if arm.label == TWIN else arm for arm in plan.arms)
    refused(benchmark_of(compared(written(tmp_path, campaign), *ARMS)), TWIN, "twin of asyncio", "ran uvloop")


def test_a_file_that_is_passed_off_as_the_twin_is_refused_as_the_copy_that_it_is(tmp_path: Path) -> None:
    path = written(tmp_path, campaign_of())

    def pass_off(metadata: dict[str, Any], index: int) -> None:
        metadata.update(arm=TWIN, kind="twin", position=99, rounds=" ".join(["99"] * 6))

    edited(path / "asyncio.json", pass_off, path / f"{TWIN}.json")
    refused(benchmark_of(compared(path, *ARMS)), "copy", "asyncio", TWIN)


def test_another_contender_that_is_passed_off_as_the_twin_shows_in_the_gate(tmp_path: Path) -> None:
    path = written(tmp_path, campaign_of())
    edited(
        path / "trio.json",
        lambda metadata, index: metadata.update(arm=TWIN, kind="twin", contender="asyncio"),
        path / f"{TWIN}.json",
    )
    assert benchmark_of(compared(path, "asyncio", TWIN, "uvloop")).is_invalid


def test_one_arm_twice_is_no_comparison(tmp_path: Path) -> None:
    path = written(tmp_path, campaign_of())
    found = compared(path, "asyncio", "asyncio")
    assert len(set(found.files)) == 2
    refused(benchmark_of(found), "both asyncio")


def test_files_of_different_campaigns_are_refused(tmp_path: Path) -> None:
    for seed in (1, 2):
        written(tmp_path / str(seed), campaign_of(seed=seed))
    found = compare(read([tmp_path / "1/asyncio.json", tmp_path / f"1/{TWIN}.json", tmp_path / "2/uvloop.json"]))
    refused(benchmark_of(found), "seed 1", "seed 2", "one after the other")


def test_the_same_seed_makes_no_campaign(tmp_path: Path) -> None:
    for hour in (9, 10):
        campaign = campaign_of()
        campaign.started = f"2026-11-20T{hour:02}:15:00Z"
        written(tmp_path / str(hour), campaign)
    found = compare(read([tmp_path / "9/asyncio.json", tmp_path / "10/uvloop.json"]))
    refused(benchmark_of(found), "different campaigns")


@pytest.mark.parametrize("wanted", [("asyncio", TWIN, "uvloop"), ("uvloop", "asyncio")])
def test_unequal_numbers_of_blocks_are_refused(tmp_path: Path, wanted: tuple[str, ...]) -> None:
    path = written(tmp_path, campaign_of())
    suite = pyperf.BenchmarkSuite.load(str(path / "uvloop.json"))
    fewer = [pyperf.Benchmark(each.get_runs()[:-1]) for each in suite.get_benchmarks()]
    pyperf.BenchmarkSuite(fewer).dump(str(path / "uvloop.json"), replace=True)
    refused(benchmark_of(compared(path, *wanted)), "12", "11", "unequal counts")


def test_a_block_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, campaign_of())
    for arm in ("asyncio", "uvloop"):
        edited(path / f"{arm}.json", lambda metadata, index: metadata.update(block=min(metadata["block"], 10)))
    refused(benchmark_of(compared(path, "asyncio", "uvloop")), "twice")


def test_unequal_numbers_of_values_are_refused(tmp_path: Path) -> None:
    campaign = campaign_of()
    each = campaign.blocks[3].measurements["uvloop"]
    campaign.blocks[3].measurements["uvloop"] = replace(
        each, wall=each.wall[:-1], client_cpu=each.client_cpu[:-1], server_cpu=each.server_cpu[:-1]
    )
    refused(benchmark_of(compared(written(tmp_path, campaign), *ARMS)), "block 3", "unequal counts")


def test_unequal_loops_are_refused(tmp_path: Path) -> None:
    campaign = campaign_of()
    each = campaign.blocks[3].measurements["uvloop"]
    campaign.blocks[3].measurements["uvloop"] = replace(each, loops=each.loops + 1)
    refused(benchmark_of(compared(written(tmp_path, campaign), *ARMS)), "block 3", "unequal counts")


def test_an_order_that_never_changes_is_refused(tmp_path: Path) -> None:
    campaign = campaign_of()
    order = campaign.blocks[0].order
    campaign.blocks = [
        replace(block, order=order, rounds=tuple(order for _ in block.rounds)) for block in campaign.blocks
    ]
    refused(benchmark_of(compared(written(tmp_path, campaign), "asyncio", TWIN)), "same order")


def test_positions_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, campaign_of())
    for arm in ("asyncio", "uvloop"):
        edited(path / f"{arm}.json", lambda metadata, index: metadata.update(position=0))
    refused(benchmark_of(compared(path, "asyncio", "uvloop")), "contradict each other", "block 0")


def test_rounds_that_are_missing_in_some_files_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, campaign_of())
    edited(path / "uvloop.json", lambda metadata, index: metadata.update(rounds="1 2"))
    refused(benchmark_of(compared(path, "asyncio", "uvloop")), "order")


def test_blocks_whose_dates_say_one_after_the_other_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, campaign_of())
    for day, arm in enumerate(("asyncio", TWIN, "uvloop"), start=20):
        edited(
            path / f"{arm}.json",
            lambda metadata, index, day=day: metadata.update(date=f"2026-11-{day} 09:{15 + index}:00"),  # type: ignore[misc]  # a default binds the day
        )
    refused(benchmark_of(compared(path, "asyncio", TWIN, "uvloop")), "by their dates")


@pytest.mark.parametrize("key", ["campaign", "seed", "block", "position", "arm", "contender", "kind", "baseline"])
def test_without_any_part_of_the_block_metadata_there_is_no_verdict(tmp_path: Path, key: str) -> None:
    path = written(tmp_path, campaign_of())
    edited(path / "uvloop.json", lambda metadata, index: metadata.pop(key))
    refused(benchmark_of(compared(path, *ARMS)), "uvloop tells of no blocks", "one after the other")


def test_runs_of_several_arms_in_one_file_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, campaign_of())
    edited(path / "uvloop.json", lambda metadata, index: metadata.update(arm="trio" if index else "uvloop"))
    refused(benchmark_of(compared(path, "asyncio", "uvloop")), "uvloop has runs of several arms")


# Files of anybody


def test_stock_files_get_ratios_of_medians_and_the_reason_why_that_is_all(tmp_path: Path) -> None:
    files = [stock(tmp_path / "a.json"), stock(tmp_path / "b.json", values=(2.0, 2.2, 2.4))]
    benchmark = benchmark_of(compare(read(files)), "work")
    refused(benchmark, "a and b tell of no blocks", "one after the other", "drifts")
    assert benchmark.rows[1].ratio == pytest.approx(2.0)
    assert benchmark.rows[0].absolute.median == pytest.approx(1.1)
    assert benchmark.rows[0].absolute.blocks == 3


def test_any_number_of_stock_files_is_compared_with_the_first(tmp_path: Path) -> None:
    files = [stock(tmp_path / f"{factor}.json", values=(factor / 10,)) for factor in (10, 20, 5)]
    benchmark = benchmark_of(compare(read(files)), "work")
    assert [row.ratio for row in benchmark.rows[1:]] == pytest.approx([2.0, 0.5])


def test_a_stock_file_beside_a_campaigns_has_a_ratio_only(tmp_path: Path) -> None:
    path = written(tmp_path, campaign_of())
    stock(path / "mine.json", name=NAME, values=(1e-4, 1.1e-4))
    refused(benchmark_of(compared(path, "asyncio", TWIN, "mine")), "mine tells of no blocks")


def test_block_metadata_of_somebody_else_declare_nothing_to_be_judged(tmp_path: Path) -> None:
    path = written(tmp_path, campaign_of())
    for arm in ("asyncio", TWIN, "uvloop"):
        edited(path / f"{arm}.json", lambda metadata, index: metadata.update(name=metadata["name"].replace("tls", "")))
    (first, *_) = compared(path, "asyncio", TWIN, "uvloop").benchmarks
    refused(first, "no case of loopmark's")


def test_runs_that_only_calibrate_do_not_count(tmp_path: Path) -> None:
    metadata = {"name": "work", "unit": "second"}
    for name, value in (("a", 1.0), ("b", 3.0)):
        runs = [
            pyperf.Run([], warmups=[(1, 9.0)], metadata={**metadata, "calibrate_loops": 1}, collect_metadata=False),
            pyperf.Run([value], metadata=metadata, collect_metadata=False),
        ]
        pyperf.BenchmarkSuite([pyperf.Benchmark(runs)]).dump(str(tmp_path / f"{name}.json"))
    row = benchmark_of(compared(tmp_path, "a", "b"), "work").rows[1]
    assert (row.absolute.blocks, row.ratio) == (1, 3.0)


def test_different_units_have_no_ratio(tmp_path: Path) -> None:
    files = [stock(tmp_path / "a.json"), stock(tmp_path / "b.json", unit="byte")]
    benchmark = benchmark_of(compare(read(files)), "work")
    assert benchmark.reasons == ("the files have it in different units",)
    assert [row.ratio for row in benchmark.rows] == [None, None]
    assert "second or byte" in comparison_of_files(compare(read(files)), "json")


def test_what_not_all_files_have_is_listed(tmp_path: Path) -> None:
    path = written(tmp_path, campaign_of(cases=[BOTH]))
    suite = pyperf.BenchmarkSuite.load(str(path / "uvloop.json"))
    pyperf.BenchmarkSuite([suite.get_benchmark(NAME)]).dump(str(path / "uvloop.json"), replace=True)
    found = compared(path, "asyncio", "uvloop")
    assert [each.name for each in found.benchmarks] == [NAME]
    assert found.missing == {f"{NAME} [{metric}]": ("asyncio",) for metric in (Metric.CLIENT_CPU, Metric.SERVER_CPU)}
    assert f"not all files have it: {NAME} [client cpu] (asyncio)" in " ".join(comparison_of_files(found).split())


def test_files_without_a_common_name_are_one_clear_line(tmp_path: Path) -> None:
    files = [stock(tmp_path / "a.json", name="one"), stock(tmp_path / "b.json", name="two")]
    with pytest.raises(UsageError, match=r"no benchmark in common.*a has one, b has two"):
        compare(read(files))


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    paths = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        paths.append(stock(tmp_path / name / "work.json"))
    assert [file.label for file in read(paths)] == [str(path) for path in paths]
    assert [file.label for file in read([*paths, stock(tmp_path / "x.json")])][2] == "x"


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    stock(tmp_path / "a.json.gz")
    (file,) = read([tmp_path / "a.json.gz"])
    assert file.label == "a"
    assert file.series["work"].runs[0].values == (1.0, 1.1, 1.2)


# Files that are none


def benchmark_json(**run: Any) -> str:
    return json.dumps({"version": "1.0", "benchmarks": [{"runs": [{"metadata": {"name": "x"}, **run}]}]})


NONE = {
    "empty": "",
    "a list": "[]",
    "a number": "1",
    "text": '"x"',
    "nothing": "null",
    "an object": "{}",
    "without benchmarks": '{"version": "1.0", "benchmarks": []}',
    "no list of benchmarks": '{"version": "1.0", "benchmarks": 7}',
    "a version from tomorrow": '{"version": "2.0", "benchmarks": []}',
    "a version that is a list": '{"version": [], "benchmarks": []}',
    "no runs": '{"version": "1.0", "benchmarks": [{}]}',
    "metadata that are a list": '{"version": "1.0", "benchmarks": [{"runs": []}], "metadata": []}',
    "no name": '{"version": "1.0", "benchmarks": [{"runs": [{"values": [1.0]}]}]}',
    "nested without end": "[" * 100_000,
    "a negative value": benchmark_json(values=[-1.0]),
    "text for a value": benchmark_json(values=["1"]),
    "no number": benchmark_json(values=[float("nan")]),
    "infinity": benchmark_json(values=[float("inf")]),
    "beyond floats": benchmark_json(values=[10**400]),
    "beyond reason": benchmark_json(values=[1e300]),
    "cut": benchmark_json(values=[1.0])[:-5],
    "a campaign": '{"schema": 2, "started": "2026-11-20T09:15:00Z"}',
}


@pytest.mark.parametrize("kind", NONE)
def test_what_is_no_pyperf_file_is_one_clear_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(NONE[kind])
    with pytest.raises(DamagedError) as caught:
        read([path])
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    assert len(line) < 400
    assert "give files that pyperf has written" in line


def test_a_missing_file_and_one_that_is_no_archive_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="No such file"):
        read([tmp_path / "absent.json"])
    (tmp_path / "x.json.gz").write_bytes(b"no archive")
    with pytest.raises(DamagedError, match="cannot be read"):
        read([tmp_path / "x.json.gz"])
    whole = gzip.compress(random.Random(1).randbytes(1000))
    (tmp_path / "x.json.gz").write_bytes(whole[:-20])
    with pytest.raises(DamagedError, match=r"x\.json\.gz"):
        read([tmp_path / "x.json.gz"])
    (tmp_path / "x.json.gz").write_bytes(whole[:100] + bytes(100) + whole[200:])
    with pytest.raises(DamagedError, match=r"x\.json\.gz"):
        read([tmp_path / "x.json.gz"])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("small"), campaign_of(blocks=6, values=1, effects={}))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_file_with_any_byte_changed_is_compared_or_refused(small: Path, data: st.DataObject) -> None:
    content = bytearray((small / f"{TWIN}.json").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as directory:
        changed = Path(directory, "changed.json")
        changed.write_bytes(content)
        try:
            found = compare(read([small / "asyncio.json", changed]))
        except (DamagedError, UsageError):
            return
        for format_ in FORMATS:
            assert comparison_of_files(found, format_)


# Names


cases = st.builds(
    Case,
    benchmark=st.sampled_from(["tls_pingpong", "tcp_pingpong", "mine"]),
    concurrency=st.integers(1, 20_000),
    role=st.just(Role.BOTH),
    peer=st.none(),
    cores=st.sampled_from(Cores),
    tls=st.none()
    | st.builds(
        TLSProfile,
        version=st.sampled_from(["1.2", "1.3"]),
        key=st.sampled_from(["p256", "ed"]),
        cipher=st.none() | st.just("ECDHE-ECDSA-AES128-GCM-SHA256"),
        tickets=st.integers(0, 2),
        resumed=st.booleans(),
        client_key=st.none() | st.just("rsa2048"),
    ),
    burst=st.booleans(),
    connections=st.none() | st.integers(1, 20_000),
    variant=st.sampled_from(["", "nul", "open-1KiB"]),
    rtt=st.none() | st.sampled_from([0.5, 1.0, 20.0, 100.0]),
    held=st.none() | st.integers(0, 5000),
) | st.sampled_from([SERVER, CLIENT, replace(SERVER, peer="anyio+uvloop")])


@given(cases, st.sampled_from(Metric))
def test_the_name_of_a_case_and_metric_is_read_back(case: Case, metric: Metric) -> None:
    assert case_of(stored_name(case.name, metric)) == (case, metric)


@given(st.text(max_size=30) | st.from_regex(r"\w+\[(\w=\w+,?)*\]( \[client cpu\])?", fullmatch=True))
def test_any_other_name_is_no_case(name: str) -> None:
    assert case_of(name) is None


@pytest.mark.parametrize(
    "name",
    [f"{NAME} [wall]", f"{NAME}x", NAME.replace("c=1", "c=01"), NAME.replace("both", "server")],
)
def test_a_name_that_is_nearly_a_case_is_none(name: str) -> None:
    assert case_of(name) is None


# Formats


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_flat_formats_have_one_row_per_benchmark_and_file(tmp_path: Path) -> None:
    found = compared(written(tmp_path, campaign_of()), *ARMS)
    document = json.loads(comparison_of_files(found, "json"))
    rows = rows_of(comparison_of_files(found, "csv"))
    assert document["files"] == list(ARMS)
    assert (document["baseline"], document["not_in_all"]) == ("asyncio", {})
    assert len(rows) == len(document["rows"]) == 12
    by_key = {(row["benchmark"], row["file"]): row for row in document["rows"]}
    uvloop = by_key[NAME, "uvloop"]
    assert (uvloop["verdict"], uvloop["gate"], uvloop["kind"]) == ("faster", "passed", "contender")
    assert uvloop["low"] < uvloop["ratio"] < uvloop["high"] < 0.9
    assert uvloop["level"] == pytest.approx(0.975)
    assert by_key[f"{NAME} [client cpu]", "uvloop"]["verdict"] is None
    assert rows[2]["ratio"] == str(uvloop["ratio"])
    assert {len(row) for row in document["rows"]} == {len(rows[0])}


def test_an_inconclusive_row_tells_where_it_leans(tmp_path: Path) -> None:
    found = compared(written(tmp_path, campaign_of(effects={"uvloop": 0.987}, noise=0.02, seed=3)), *ARMS[:3])
    row = next(row for row in rows_of(comparison_of_files(found, "csv")) if row["file"] == "uvloop")
    assert (row["verdict"], row["leaning"]) == ("inconclusive", "faster")
    assert "inconclusive (faster?)" in comparison_of_files(found, "text")


def test_the_text_has_verdicts_and_the_gate(tmp_path: Path) -> None:
    text = " ".join(comparison_of_files(compared(written(tmp_path, campaign_of()), *ARMS)).split())
    assert "asyncio.twin (A/A twin)" in text
    assert "Gate: passed: the A/A twin, asyncio against itself, came out at" in text
    assert "client CPU, server CPU: no verdict, since" in text


def test_the_text_of_an_invalid_comparison_says_so(tmp_path: Path) -> None:
    campaign = campaign_of(effects={"uvloop": 0.85, TWIN: 1.05})
    text = comparison_of_files(compared(written(tmp_path, campaign), "asyncio", TWIN, "uvloop"))
    assert "INVALID" in text
    assert "faster" not in text


@pytest.mark.parametrize("format_", ["text", "github", "rst"])
def test_stock_files_are_shown_with_the_reason(tmp_path: Path, format_: str) -> None:
    files = [stock(tmp_path / "a.json", values=(2e-5,)), stock(tmp_path / "b.json", values=(4e-5,))]
    text = " ".join(comparison_of_files(compare(read(files)), format_).split())
    assert "no interval, no verdict" in text
    assert "20.0 us (19.8-20.2)" in text
    assert "2.000" in text
    assert "one after the other" in text


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        ("second", 2.5, "2.50 s ("),
        ("second", 0.0125, "12.5 ms ("),
        ("second", 2e-9, "2.00 ns ("),
        ("second", 2e-12, "0.00 ns ("),
        ("byte", 3 * 2**20, "3.00 MiB ("),
        ("byte", 100, "100 B ("),
        ("integer", 1234, "1234 ("),
    ],
)
def test_values_are_shown_in_their_unit(tmp_path: Path, unit: str, value: float, shown: str) -> None:
    files = [stock(tmp_path / f"{name}.json", values=(value,), unit=unit) for name in ("a", "b")]
    assert shown in comparison_of_files(compare(read(files)), "text")


def test_another_format_is_refused(tmp_path: Path) -> None:
    found = compare(read([stock(tmp_path / "a.json"), stock(tmp_path / "b.json")]))
    with pytest.raises(UsageError, match="xml"):
        comparison_of_files(found, "xml")


def test_what_a_file_says_does_not_steer_the_terminal(tmp_path: Path) -> None:
    files = [stock(tmp_path / f"{name}.json", name="red \x1b[31m") for name in ("a", "b")]
    assert "\x1b" not in comparison_of_files(compare(read(files)), "text")


def told_by(benchmark: Benchmark) -> Mapping[str, Verdict | None]:
    return {row.file: row.verdict for row in benchmark.rows}


def test_the_order_of_the_files_changes_no_verdict(tmp_path: Path) -> None:
    path = written(tmp_path, campaign_of())
    one = benchmark_of(compared(path, "asyncio", "trio", TWIN, "uvloop"))
    assert told_by(one) == told_by(benchmark_of(compared(path, *ARMS)))
