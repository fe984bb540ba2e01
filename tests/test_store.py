import contextlib
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyperf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.campaigns import BOTH, SERVER, TWIN, fake_campaign

from loopmark import redact, store
from loopmark.case import Case, Cores, Metric, Role, stored_name
from loopmark.codec import MismatchError
from loopmark.errors import DamagedError, UsageError
from loopmark.record import Arm, Block, Campaign, CasePlan, Kind, Measurement, Outcome, Side, Trace
from loopmark.spi import TLSProfile

# A campaign as hypothesis makes it: consistent, but with any text, number and length in it. Slashes are left out of
# free texts, since paths are not stored, and lone surrogates, since what is not legible is made so.
texts = st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=8)
times = st.floats(min_value=1e-12, max_value=1e6)
figures = st.floats(allow_nan=False, allow_infinity=False)
spans = st.floats(min_value=0, max_value=1e9)
shares = st.floats(min_value=1e-9, max_value=0.999)
integers = st.integers(min_value=-(2**100), max_value=2**100)
maybe = st.none() | figures
json_data = st.recursive(
    st.none() | st.booleans() | integers | figures | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
sides = st.builds(
    Side,
    minor_faults=maybe,
    voluntary_switches=maybe,
    involuntary_switches=maybe,
    run_delay=maybe,
    collections=st.none() | integers,
    private_kib=maybe,
)
traces = st.builds(
    Trace,
    records=st.lists(texts, max_size=2).map(tuple),
    bytes_to_server=integers,
    bytes_to_client=integers,
    group=st.none() | texts,
    first_close_notify=st.none() | texts,
    first_fin=st.none() | texts,
)


@st.composite
def measurements(draw: st.DrawFn, label: str) -> Measurement:
    count = draw(st.integers(1, 3))
    series = st.lists(times, min_size=count, max_size=count).map(tuple)
    return Measurement(
        arm=label,
        loops=draw(st.integers(1, 10**9)),
        wall=draw(series),
        client_cpu=draw(series),
        server_cpu=draw(series),
        warmups=draw(st.lists(times, max_size=2).map(tuple)),
        client=draw(sides),
        server=draw(sides),
        peak=draw(integers),
        seconds=draw(figures),
        facts=draw(st.dictionaries(texts, st.dictionaries(texts, json_data, max_size=2), max_size=2)),
        metadata=draw(st.dictionaries(texts, texts | integers | figures, max_size=3)),
    )


@st.composite
def campaigns(draw: st.DrawFn) -> Campaign:
    labels = draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3, unique=True))
    arms = tuple(Arm(label=label, contender=draw(texts), kind=draw(st.sampled_from(Kind))) for label in labels)
    cases = draw(st.lists(st.sampled_from([SERVER, BOTH]), max_size=2, unique=True))
    blocks = []
    for case in cases:
        for index in range(draw(st.integers(0, 2))):
            ran = draw(st.lists(st.sampled_from(labels), unique=True))
            blocks.append(
                Block(
                    case=case.name,
                    index=index,
                    field=draw(st.booleans()),
                    order=tuple(ran),
                    rounds=tuple(tuple(draw(st.permutations(ran))) for _ in range(draw(st.integers(0, 2)))),
                    measurements={label: draw(measurements(label)) for label in ran},
                    seconds=draw(spans),
                )
            )
    outcome = st.builds(Outcome, arm=texts, case=texts, status=texts, reason=texts)
    return Campaign(
        started="2026-11-20T09:15:00Z",
        label=draw(texts),
        command=draw(st.lists(texts, max_size=2).map(tuple)),
        seed=draw(st.integers(0, 2**100)),
        mode=draw(texts),
        baseline=labels[0],
        margin=draw(shares),
        target=draw(st.none() | shares),
        blocks_wanted=draw(st.none() | st.integers(1, 100)),
        seconds_allowed=draw(spans),
        fresh=draw(st.booleans()),
        cases=[
            CasePlan(
                case=case,
                arms=arms,
                loops=draw(st.integers(1, 1000)),
                next_block=draw(st.integers(0, 100)),
                failed=tuple(draw(st.lists(st.sampled_from(labels), unique=True))),
            )
            for case in cases
        ],
        blocks=blocks,
        dropped=draw(st.lists(texts, max_size=2)),
        outcomes=draw(st.lists(outcome, max_size=2)),
        traces=draw(st.dictionaries(texts, st.dictionaries(texts, traces, max_size=2), max_size=2)),
        machine=draw(st.dictionaries(texts, json_data, max_size=3)),
        notes=draw(st.lists(texts, max_size=2)),
        ended=draw(texts),
        seconds=draw(spans),
        measured_seconds=draw(spans),
    )


def test_an_arm_of_a_contender_without_a_name_is_stored(tmp_path: Path) -> None:
    campaign = fake_campaign(blocks=1, cases=[BOTH])
    campaign.cases[0].arms = tuple(replace(arm, contender=" ") for arm in campaign.cases[0].arms)
    store.write(tmp_path, campaign)
    assert store.load(tmp_path) == campaign


@settings(max_examples=60, deadline=None)
@given(campaigns())
def test_what_was_written_is_what_is_loaded(campaign: Campaign) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store.write(Path(directory), campaign)
        assert store.load(Path(directory)) == campaign


@pytest.fixture
def written(tmp_path: Path) -> Path:
    campaign = fake_campaign(blocks=2, values=2, effects={"uvloop": 0.9})
    path = store.create(tmp_path / "results", campaign)
    store.write(path, campaign)
    return path


def test_a_directory_is_named_by_time_and_label(tmp_path: Path) -> None:
    assert store.create(tmp_path, fake_campaign(blocks=0)) == tmp_path / "20261120T091500Z-amd-epyc-2-cores"


@pytest.mark.parametrize(
    ("label", "name"),
    [("a b/c:ü", "a-b-c"), ("../../up", "up"), ("...", "campaign"), ("", "campaign"), ("x" * 300, "x" * 60)],
)
def test_a_label_cannot_lead_elsewhere(label: str, name: str, tmp_path: Path) -> None:
    campaign = fake_campaign(blocks=0)
    campaign.label = label
    assert store.create(tmp_path, campaign) == tmp_path / f"20261120T091500Z-{name}"


def test_another_time_zone_gives_the_stamp_in_utc(tmp_path: Path) -> None:
    campaign = fake_campaign(blocks=0)
    campaign.started = "2026-11-20T10:15:00+01:00"
    assert store.create(tmp_path, campaign).name.startswith("20261120T091500Z-")


def test_a_name_that_is_taken_is_never_used_again(tmp_path: Path) -> None:
    campaign = fake_campaign(blocks=0)
    names = [store.create(tmp_path, campaign).name for _ in range(3)]
    first = "20261120T091500Z-amd-epyc-2-cores"
    assert names == [first, f"{first}-2", f"{first}-3"]


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_a_file_in_the_place_of_results_is_one_clear_line(inside: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write results to .*--results DIR") as caught:
        store.create(tmp_path / "file" / inside, fake_campaign(blocks=0))
    assert "\n" not in str(caught.value)


def test_a_disk_that_refuses_keeps_the_old_file_and_leaves_no_other(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {each.name: each.read_bytes() for each in written.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        store.write(written, fake_campaign(blocks=3))
    assert {each.name: each.read_bytes() for each in written.iterdir()} == before


def test_a_campaign_gives_one_file_per_contender_and_one_for_the_rest(written: Path) -> None:
    assert {each.name for each in written.iterdir()} == {
        *("campaign.json", "asyncio.json", "asyncio.twin.json", "uvloop.json")
    }


def test_files_are_named_after_arms_and_hidden_arms_have_none(tmp_path: Path) -> None:
    campaign = fake_campaign(
        blocks=1, effects={"anyio+uvloop": 1, "a/b": 1, "A-B": 1, "campaign": 1, "by hand": 1}, hidden=["by hand"]
    )
    store.write(tmp_path, campaign)
    assert {each.name for each in tmp_path.iterdir()} == {
        *("campaign.json", "asyncio.json", "asyncio.twin.json", "anyio+uvloop.json"),
        *("a-b.json", "A-B-2.json", "campaign-2.json"),
    }
    assert "by hand" in store.load(tmp_path).blocks[0].measurements


def test_before_the_first_block_there_is_only_the_campaign(tmp_path: Path) -> None:
    store.write(tmp_path, fake_campaign(blocks=0))
    assert [each.name for each in tmp_path.iterdir()] == ["campaign.json"]


def test_pyperf_reads_the_values_back_under_the_cases_names(written: Path) -> None:
    campaign = store.load(written)
    suite = pyperf.BenchmarkSuite.load(str(written / "uvloop.json"))
    assert suite.get_benchmark_names() == [
        stored_name(plan.case.name, metric) for plan in campaign.cases for metric in plan.case.metrics
    ]
    first = campaign.blocks[0]
    benchmark = suite.get_benchmark(stored_name(first.case, Metric.SERVER_CPU))
    run = benchmark.get_runs()[0]
    assert run.values == first.measurements["uvloop"].server_cpu
    assert benchmark.get_unit() == "second"
    told = run.get_metadata()
    assert told["contender"] == "uvloop"
    assert told["loops"] == first.measurements["uvloop"].loops
    assert told["position"] == first.order.index("uvloop")
    assert (told["block"], told["seed"], told["layout"]) == (0, 1, "one per block, random")
    assert (told["arm"], told["kind"], told["baseline"]) == ("uvloop", "contender", "asyncio")
    assert (told["campaign"], told["mode"], told["margin"]) == (campaign.started, "default", 0.01)
    assert told["rounds"] == " ".join(str(one.index("uvloop")) for one in first.rounds)


def test_only_the_wall_clock_has_warm_up_values(written: Path) -> None:
    suite = pyperf.BenchmarkSuite.load(str(written / "uvloop.json"))
    warmups = [len(benchmark.get_runs()[0].warmups) for benchmark in suite.get_benchmarks()]
    assert warmups == [1, 0, 0] * 3


def test_field_blocks_never_reach_pyperfs_files(tmp_path: Path) -> None:
    store.write(tmp_path, fake_campaign(blocks=2, field_blocks=3))
    for benchmark in pyperf.BenchmarkSuite.load(str(tmp_path / "trio.json")).get_benchmarks():
        assert benchmark.get_nrun() == 2


def test_an_arm_that_misses_a_block_of_a_case_has_no_benchmark_of_it(tmp_path: Path) -> None:
    campaign = fake_campaign(blocks=3)
    store.write(tmp_path, campaign)
    last = campaign.blocks[-1]
    del last.measurements["trio"]
    store.write(tmp_path, campaign)
    names = pyperf.BenchmarkSuite.load(str(tmp_path / "trio.json")).get_benchmark_names()
    assert len(names) == 6
    assert not any(name.startswith(last.case) for name in names)


def test_a_file_whose_last_case_is_gone_is_removed(tmp_path: Path) -> None:
    campaign = fake_campaign(blocks=2, cases=[BOTH])
    store.write(tmp_path, campaign)
    del campaign.blocks[1].measurements["trio"]
    store.write(tmp_path, campaign)
    assert not (tmp_path / "trio.json").exists()
    assert (tmp_path / "uvloop.json").exists()


def test_a_metric_whose_clock_stood_still_is_left_out_for_all(tmp_path: Path) -> None:
    campaign = fake_campaign(blocks=2, cases=[BOTH])
    block = campaign.blocks[0]
    block.measurements["trio"] = replace(block.measurements["trio"], server_cpu=(0.0,) * 5)
    store.write(tmp_path, campaign)
    for name in ("trio.json", "asyncio.json"):
        assert pyperf.BenchmarkSuite.load(str(tmp_path / name)).get_benchmark_names() == [
            stored_name(BOTH.name, Metric.WALL),
            stored_name(BOTH.name, Metric.CLIENT_CPU),
        ]
    assert store.load(tmp_path) == campaign


def with_metadata(campaign: Campaign, change: Callable[[int], dict[str, str | int | float]]) -> Campaign:
    for index, block in enumerate(campaign.blocks):
        for label, each in block.measurements.items():
            block.measurements[label] = replace(each, metadata={**each.metadata, **change(index)})
    return campaign


def test_names_and_paths_are_not_stored(tmp_path: Path) -> None:
    campaign = with_metadata(
        fake_campaign(blocks=1),
        lambda index: {
            "hostname": "box-17",
            "python_executable": "/home/jane/bin/python",
            "python_config_args": "--prefix=/home/jane",
            "python_cflags": "-O3 -I/home/jane/include",
            "timer": "clock_gettime(CLOCK_MONOTONIC), resolution: 1.00 ns",
        },
    )
    campaign.command = ("loopmark", "run", "--results=/home/jane/my results/x", "--plugin", "/home/jane/zippy.py")
    campaign.notes.append("cannot read /proc/net/netstat")
    campaign.dropped.append("block 2: /home/jane/.venv/bin/python was killed")
    campaign.ended = "the interpreter /home/jane/bin/python died"
    campaign.machine = {"somewhere": ["/home/jane/x"]}
    campaign.blocks[0].measurements["trio"].facts["client"]["where"] = "/home/jane/y"
    campaign.outcomes.append(
        Outcome(arm="trio", case=SERVER.name, status="retired", reason="no such file: '/home/jane/.venv/lib/trio.py'")
    )
    store.write(tmp_path, campaign)
    for file in tmp_path.iterdir():
        assert "jane" not in file.read_text(), file.name
        assert "box-17" not in file.read_text(), file.name
    loaded = store.load(tmp_path)
    assert loaded.command == ("loopmark", "run", "--results=.../x", "--plugin", ".../zippy.py")
    assert loaded.outcomes[0].reason == "no such file: '.../trio.py'"
    assert loaded.notes == ["cannot read /proc/net/netstat"]
    told = pyperf.BenchmarkSuite.load(str(tmp_path / "asyncio.json")).get_metadata()
    assert told["timer"] == "clock_gettime(CLOCK_MONOTONIC), resolution: 1.00 ns"
    assert "python_cflags" not in told


def test_metadata_that_pyperf_would_refuse_is_left_out(tmp_path: Path) -> None:
    campaign = with_metadata(
        fake_campaign(blocks=2, cases=[BOTH]),
        lambda index: {
            "mem_max_rss": 0,
            "uptime": -1.0,
            "empty": " ",
            "lines": "one\ntwo",
            "date": "yesterday",
            "aslr": f"differs {index}",
            "inner_loops": 7,
        },
    )
    store.write(tmp_path, campaign)
    (wall, *_) = pyperf.BenchmarkSuite.load(str(tmp_path / "asyncio.json")).get_benchmarks()
    for run in wall.get_runs():
        told = run.get_metadata()
        assert told["lines"] == "one two"
        assert not {"mem_max_rss", "uptime", "empty", "date", "aslr", "inner_loops"} & told.keys()


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "asyncio.json"],
        ["stats", "asyncio.json"],
        ["check", "uvloop.json"],
        ["metadata", "asyncio.twin.json"],
        ["dump", "uvloop.json"],
        ["compare_to", "asyncio.json", "uvloop.json", "--table"],
        ["compare_to", "asyncio.json", "asyncio.twin.json", "uvloop.json", "--table", "--table-format=md"],
    ],
    ids=lambda arguments: "-".join(arguments[:2]),
)
def test_stock_pyperf_works_on_the_files(arguments: list[str], written: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyperf", *arguments],
        cwd=written,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "tls_pingpong[c=1,role=both,cores=shared,tls=1.3,key=p256,group=X25519]" in done.stdout


def test_a_campaign_file_alone_is_enough(written: Path, tmp_path: Path) -> None:
    alone = tmp_path / "renamed.json"
    shutil.copy(written / "campaign.json", alone)
    assert store.load(alone) == store.load(written) == fake_campaign(blocks=2, values=2, effects={"uvloop": 0.9})


def refused(path: Path) -> str:
    """Return the one line with which loading fails."""
    with pytest.raises(DamagedError) as caught:
        store.load(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    return line


def test_a_missing_campaign_says_what_to_give(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path)
    assert "no such file" in refused(tmp_path / "nowhere")


def test_a_pyperf_file_is_no_campaign(written: Path) -> None:
    assert "not a campaign" in refused(written / "asyncio.json")


def test_a_campaign_cut_anywhere_is_damaged(tmp_path: Path) -> None:
    campaign = fake_campaign(blocks=1, values=1, effects={}, cases=[BOTH])
    store.write(tmp_path, campaign)
    file = tmp_path / "campaign.json"
    whole = file.read_bytes()
    # Without its final newline it is still whole.
    for length in range(len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            store.load(file)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_campaign_with_any_byte_changed_loads_or_is_damaged(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store.write(Path(directory), fake_campaign(blocks=1, values=1, effects={}, cases=[BOTH]))
        file = Path(directory, "campaign.json")
        content = bytearray(file.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(content)
        with contextlib.suppress(DamagedError):
            store.load(file)


# Files of the version before

NEW_OF_A_PLAN = ("unit", "baseline")
NEW_OF_A_CASE = ("variant", "rtt", "held")
NEW_OF_TLS = ("cipher", "tickets", "resumed", "client_key")
NEW_OF_A_MEASUREMENT = ("client_memory", "server_memory")


def make_older(file: Path, schema: int = 2) -> None:
    """Take out what there was not in schema 2."""
    data = json.loads(file.read_text())
    data["schema"] = schema
    for planned in data["cases"]:
        for name in NEW_OF_A_PLAN:
            del planned[name]
        for name in NEW_OF_A_CASE:
            del planned["case"][name]
        for name in NEW_OF_TLS if planned["case"]["tls"] else ():
            del planned["case"]["tls"][name]
    for block in data["blocks"]:
        for measurement in block["measurements"].values():
            for name in NEW_OF_A_MEASUREMENT:
                del measurement[name]
    file.write_text(json.dumps(data))


PLAIN = replace(BOTH, benchmark="tcp_pingpong", tls=None)


def test_a_campaign_of_the_version_before_is_brought_up_to_date(tmp_path: Path) -> None:
    campaign = fake_campaign(blocks=2, field_blocks=1, cases=[SERVER, BOTH, PLAIN])
    store.write(tmp_path, campaign)
    make_older(tmp_path / "campaign.json")
    assert store.load(tmp_path) == campaign


def test_a_case_of_the_version_before_keeps_its_name(tmp_path: Path) -> None:
    store.write(tmp_path, fake_campaign(blocks=1, cases=[SERVER]))
    make_older(tmp_path / "campaign.json")
    campaign = store.load(tmp_path)
    assert [planned.case.name for planned in campaign.cases] == [campaign.blocks[0].case] == [SERVER.name]


@pytest.mark.parametrize("schema", [0, 1, 4, 99])
def test_any_other_version_is_refused_by_its_number(schema: int, tmp_path: Path) -> None:
    store.write(tmp_path, fake_campaign(blocks=1))
    make_older(tmp_path / "campaign.json", schema)
    assert (
        f"it has schema {schema}, this loopmark reads 3; read it with the version of loopmark that wrote it"
        in refused(tmp_path)
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("cases"),
        lambda data: data.update(cases=7),
        lambda data: data["cases"].append(None),
        lambda data: data["cases"][0].pop("case"),
        lambda data: data["cases"][0]["case"].update(tls=[]),
        lambda data: data.pop("blocks"),
        lambda data: data["blocks"].append({}),
        lambda data: data["blocks"][0].update(measurements=[]),
        lambda data: data["blocks"][0]["measurements"].update(x=1),
    ],
)
def test_a_damaged_campaign_of_the_version_before_is_one_clear_line(
    damage: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    store.write(tmp_path, fake_campaign(blocks=1))
    file = tmp_path / "campaign.json"
    make_older(file)
    data = json.loads(file.read_text())
    damage(data)
    file.write_text(json.dumps(data))
    assert "it is damaged" in refused(tmp_path)


COMMITTED = sorted(path.parent for path in (Path(__file__).parents[1] / "results").glob("*/campaign.json"))


def test_there_is_a_committed_campaign() -> None:
    assert COMMITTED


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_a_committed_campaign_of_any_version_can_be_read_and_written(path: Path, tmp_path: Path) -> None:
    campaign = store.load(path)
    store.write(tmp_path, campaign)
    assert store.load(tmp_path) == campaign


NUMBERS = "1" * 5000
DAMAGES: dict[str, Callable[[str], str]] = {
    "empty": lambda text: "",
    "a list": lambda text: "[]",
    "nested without end": lambda text: "[" * 100_000,
    "deep inside": lambda text: text.replace('"machine": {', '"machine": {"x": ' + "[" * 900 + "]" * 900 + ", ", 1),
    "no schema": lambda text: text.replace('"schema": 3,', "", 1),
    "another schema": lambda text: text.replace('"schema": 3', '"schema": 4', 1),
    "schema as truth": lambda text: text.replace('"schema": 3', '"schema": true', 1),
    "schema as text": lambda text: text.replace('"schema": 3', '"schema": "1\\n2"', 1),
    "an unknown key": lambda text: text.replace('"seed"', '"sead": 0, "seed"', 1),
    "a missing key": lambda text: text.replace('"seed": 1,', "", 1),
    "a key twice": lambda text: text.replace('"seed": 1,', '"seed": 1, "seed": 1,', 1),
    "text for a number": lambda text: text.replace('"seed": 1', '"seed": "1"', 1),
    "truth for a number": lambda text: text.replace('"seed": 1', '"seed": true', 1),
    "a fraction for an integer": lambda text: text.replace('"seed": 1', '"seed": 1.5', 1),
    "nothing for text": lambda text: text.replace('"mode": "default"', '"mode": null', 1),
    "NaN": lambda text: text.replace('"seconds": ', '"seconds": NaN, "x": ', 1),
    "infinity": lambda text: text.replace('"warmups": [', '"warmups": [Infinity, ', 1),
    "beyond floats": lambda text: text.replace('"warmups": [', '"warmups": [1e999, ', 1),
    "beyond all times": lambda text: text.replace('"warmups": [', '"warmups": [1e300, ', 1),
    "a negative time": lambda text: text.replace('"warmups": [', '"warmups": [-1.0, ', 1),
    "an integer of thousands of digits": lambda text: text.replace('"seed": 1', f'"seed": {NUMBERS}', 1),
    "an integer of hundreds of digits": lambda text: text.replace('"seed": 1', f'"seed": {NUMBERS[:400]}', 1),
    "a huge integer for a time": lambda text: text.replace('"warmups": [', f'"warmups": [{NUMBERS[:400]}, ', 1),
    "a huge integer in free data": lambda text: text.replace('"memory_mib": ', f'"memory_mib": {NUMBERS[:99]}', 1),
    "one value more": lambda text: text.replace('"wall": [', '"wall": [0.1, ', 1),
    "no such role": lambda text: text.replace('"role": "both"', '"role": "watcher"', 1),
    "a peer that talks to itself": lambda text: text.replace('"peer": null', '"peer": "uvloop"', 1),
    "a block of no case": lambda text: text.replace('{"case": "tls_pingpong[', '{"case": "x[', 1),
    "an arm from nowhere": lambda text: text.replace('"arm": "asyncio"', '"arm": "x"', 1),
    "no time": lambda text: text.replace("2026-11-20T09:15:00Z", "2026-11-20T09:15:00", 1),
    "no loops": lambda text: text.replace('"loops": 200', '"loops": 0', 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_campaign_is_one_clear_line(damage: str, tmp_path: Path) -> None:
    store.write(tmp_path, fake_campaign(blocks=1, values=1, effects={}, cases=[BOTH]))
    file = tmp_path / "campaign.json"
    text = file.read_text()
    changed = DAMAGES[damage](text)
    assert changed != text
    file.write_text(changed)
    line = refused(file)
    assert any(cure in line for cure in ("restore the file", "read it with", "give its directory"))
    assert len(line) < 450


def test_bytes_that_are_no_text_are_damage(tmp_path: Path) -> None:
    (tmp_path / "campaign.json").write_bytes(b"\xff\xfe{}")
    assert "not UTF-8" in refused(tmp_path)


def test_the_complaint_names_the_place(tmp_path: Path) -> None:
    store.write(tmp_path, fake_campaign(blocks=1, values=1, effects={}, cases=[BOTH]))
    file = tmp_path / "campaign.json"
    data = json.loads(file.read_text())
    data["blocks"][0]["measurements"][TWIN]["wall"][0] = "fast"
    file.write_text(json.dumps(data))
    assert f"blocks[0].measurements.{TWIN}.wall[0]: expected float, found text" in refused(file)


def change_first(campaign: Campaign, **changes: Any) -> Campaign:
    block = campaign.blocks[0]
    block.measurements["asyncio"] = replace(block.measurements["asyncio"], **changes)
    return campaign


@pytest.mark.parametrize(
    "changes",
    [
        {"seconds": math.nan},
        {"facts": {"client": {"x": math.inf}}},
        {"facts": {"client": {1j}}},
        {"facts": {1: "a key must be text"}},
        {"wall": ()},
        {"wall": [1.0]},
        {"arm": "trio"},
        {"loops": True},
        {"metadata": {"x": None}},
    ],
    ids=str,
)
def test_what_could_not_be_read_back_is_not_written(changes: dict[str, Any], tmp_path: Path) -> None:
    campaign = change_first(fake_campaign(blocks=1), **changes)
    with pytest.raises(MismatchError):
        store.write(tmp_path, campaign)
    assert list(tmp_path.iterdir()) == []


def test_a_block_is_one_line_of_the_file(written: Path) -> None:
    lines = (written / "campaign.json").read_text().splitlines()
    assert sum(line.startswith('{"case": "tls_pingpong[') for line in lines) == 6


@pytest.mark.parametrize(("text", "clean"), [("caf\udcc3\udca9", "caf\u00e9"), ("\udcff", "\ufffd"), ("\ud800", "?")])
def test_what_is_not_legible_is_made_so(text: str, clean: str) -> None:
    assert redact.text(text) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("no such file: '/srv/data/x.py'", "no such file: '.../x.py'"),
        ("-I/opt/python/include -L/opt/lib/", "-I.../include -L.../lib"),
        ("see https://docs.python.org/3/library/ssl.html", "see https://docs.python.org/3/library/ssl.html"),
        ("1/2 of tests/handwritten/a.py, us/conn, and/or", "1/2 of tests/handwritten/a.py, us/conn, and/or"),
        ("/proc/net/netstat and /sys/devices/system/cpu", "/proc/net/netstat and /sys/devices/system/cpu"),
        ("file:///srv/data/x.py", ".../x.py"),
        ("a:/srv/data", "a:.../data"),
        ("--prefix=/home/jane and /Users/jane/", "--prefix=... and ..."),
        (f"{Path.home()}/results", ".../results"),
    ],
)
def test_paths_lose_their_directories_and_nothing_else_changes(text: str, clean: str) -> None:
    assert redact.text(text) == clean


@pytest.mark.parametrize(
    ("argument", "clean"),
    [
        ("/srv/my data/out", ".../out"),
        ("--results=/srv/my data/out/", "--results=.../out"),
        ("results/here", "results/here"),
        ("-b", "-b"),
        ("~/x", ".../x"),
        ("--results=/home/jane", "--results=..."),
    ],
)
def test_an_argument_that_is_a_path_keeps_its_last_part(argument: str, clean: str) -> None:
    assert redact.argument(argument) == clean


def test_a_plain_case_has_no_tls_and_comes_back(tmp_path: Path) -> None:
    plain = Case(benchmark="tcp_pingpong", concurrency=1, role=Role.BOTH, peer=None, cores=Cores.ANY, tls=None)
    other = replace(plain, tls=TLSProfile(version="1.2"), benchmark="tls_pingpong")
    campaign = fake_campaign(blocks=1, cases=[plain, other])
    store.write(tmp_path, campaign)
    assert store.load(tmp_path) == campaign
