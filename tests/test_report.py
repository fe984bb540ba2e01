import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.campaigns import BOTH, CLIENT, SERVER, TWIN, fake_campaign

from loopmark import store
from loopmark.case import Case, Cores, Metric, Role
from loopmark.errors import UsageError
from loopmark.record import Block, Campaign, Outcome, Side
from loopmark.report import FORMATS, comparison, description
from loopmark.report.figures import CaseFigures, figures
from loopmark.stats import ratio_interval


def lines(text: str, start: str) -> list[str]:
    """Return the lines that start with some text, without indents."""
    return [line.strip() for line in text.splitlines() if line.strip().startswith(start)]


def cells(campaign: Campaign, contender: str, table: int = 0) -> list[str]:
    """Return one row of the nth table."""
    found = lines(comparison(campaign, "github"), f"| {contender} |".replace(" |", " ", 1))
    exact = [row for row in found if row.strip("|").split("|")[0].strip() == contender]
    return [cell.strip() for cell in exact[table].strip("|").split("|")]


def row_order(campaign: Campaign) -> list[str]:
    """Return the first column of the first table."""
    names = []
    for line in comparison(campaign, "github").splitlines():
        if line.startswith("| ") and not line.startswith("| contender"):
            names.append(line.split("|")[1].strip())
        elif names and not line:
            break
    return names


# Every number in it can be computed by hand: two blocks in which the machine runs at 1 and at 2 of its speed.
def small_campaign() -> Campaign:
    campaign = fake_campaign(blocks=2, values=1, effects={"uvloop": 0.5}, noise=0.0)
    campaign.traces[SERVER.name]["uvloop"] = replace(campaign.traces[SERVER.name]["uvloop"], bytes_to_client=1001)
    for block in campaign.blocks:
        speed = block.index + 1
        for label, each in block.measurements.items():
            effect = 0.5 if label == "uvloop" else 1.0
            server = 100e-6 * speed * (1.0 if block.case == CLIENT.name else effect)
            client = 200e-6 * speed * (1.0 if block.case == SERVER.name else effect)
            wall = client + server if block.case == BOTH.name else max(client, server)
            changed = replace(each, wall=(wall,), client_cpu=(client,), server_cpu=(server,), loops=300, warmups=())
            block.measurements[label] = changed
    campaign.machine = {}
    return campaign


def test_a_small_table_is_exactly_this() -> None:
    # Of 100 and 200 us: the median 150, of half of that 75.
    assert cells(small_campaign(), "uvloop") == [
        "uvloop",
        "75.0 (50.0-100.0)",
        "0.500 too few blocks",
        "150 (100-200)",
        "0.500 too few blocks",
        "25/100 client",
        "100/100 both",
        "0.2, 0.5",
        "689, 1001",
    ]
    assert cells(small_campaign(), "asyncio") == [
        *("asyncio", "150 (100-200)", "1", "300 (200-400)", "1"),
        *("50/100 client", "50/100 client", "0.2, 0.5", "689, 1003"),
    ]
    assert cells(small_campaign(), "asyncio (A/A twin)")[2] == "1.000 too few blocks"
    # Wall 150 and 300 us: the median 225, 4444 a second; client CPU 100 and 200.
    assert cells(small_campaign(), "uvloop", table=1) == [
        *("uvloop", "225 (150-300)", "0.500 too few blocks", "150 (100-200)", "75.0 (50.0-100.0)"),
        *("4444", "6667", "1024, 1024"),
    ]


@pytest.mark.parametrize(("chosen", "file"), [("text", "comparison.txt"), ("github", "comparison.md")])
def test_the_whole_text_of_a_small_comparison_is_exactly_this(chosen: str, file: str) -> None:
    expected = Path(__file__).with_name("snapshots") / file
    assert comparison(small_campaign(), chosen) == expected.read_text(encoding="utf-8")


@pytest.mark.parametrize("chosen", FORMATS)
def test_every_format_is_the_same_each_time_and_after_disk(chosen: str, tmp_path: Path) -> None:
    campaign = fake_campaign(field_blocks=2)
    store.write(tmp_path, campaign)
    rendered = comparison(campaign, chosen)
    assert rendered.endswith("\n")
    assert not rendered.endswith("\n\n")
    assert comparison(store.load(tmp_path), chosen) == rendered == comparison(fake_campaign(field_blocks=2), chosen)


def test_an_unknown_format_says_what_there_is() -> None:
    with pytest.raises(UsageError, match="text, github, rst, csv, json"):
        comparison(fake_campaign(blocks=1), "html")


def test_server_and_client_cases_share_one_table_and_self_paired_ones_have_their_own() -> None:
    titles = lines(comparison(fake_campaign(), "github"), "### ")
    both = "servers under one fixed client, clients against one fixed server"
    assert titles == [
        f"### tls_pingpong, 100 at a time, separate cores: {both}",
        "### tls_pingpong, 1 at a time, one shared core: both sides are the same contender; never ranks servers",
        "### About these numbers",
    ]


@pytest.mark.parametrize(
    ("cases", "titles"),
    [
        ([SERVER], ["100 at a time, separate cores: servers under one fixed client"]),
        ([CLIENT], ["100 at a time, separate cores: clients against one fixed server"]),
        (
            [SERVER, replace(SERVER, concurrency=10)],
            [
                "100 at a time, separate cores: servers under one fixed client",
                "10 at a time, separate cores: servers under one fixed client",
            ],
        ),
        ([SERVER, replace(SERVER, peer="trio")], ["100 at a time, separate cores: servers under one fixed client"] * 2),
        (
            [replace(SERVER, burst=True, cores=Cores.ANY), replace(SERVER, role=Role.BOTH, peer=None, cores=Cores.ANY)],
            [
                "a burst of 100, not pinned: servers under one fixed client",
                "100 at a time, not pinned: both sides are the same contender; never ranks servers",
            ],
        ),
    ],
)
def test_titles_tell_load_placement_and_roles(cases: Sequence[Case], titles: list[str]) -> None:
    found = lines(comparison(fake_campaign(blocks=1, cases=cases), "github"), "### ")[:-1]
    assert found == [f"### tls_pingpong, {title}" for title in titles]


def test_a_client_case_before_its_server_case_gives_the_same_table() -> None:
    titles = [
        lines(comparison(fake_campaign(blocks=1, cases=cases), "github"), "### ")[0]
        for cases in ([CLIENT, SERVER], [SERVER, CLIENT])
    ]
    assert titles[0] == titles[1]


def test_rows_are_sorted_by_the_primary_ratio_and_the_twin_is_last() -> None:
    campaign = fake_campaign(effects={"trio": 1.3, "uvloop": 0.7, "anyio+uvloop": 0.9})
    assert row_order(campaign) == ["uvloop", "anyio+uvloop", "asyncio", "trio", "asyncio (A/A twin)"]


def test_hidden_arms_are_in_no_output() -> None:
    campaign = fake_campaign(effects={"uvloop": 0.9, "by hand": 0.8}, hidden=["by hand"], field_blocks=1)
    campaign.outcomes.append(Outcome(arm="by hand", case=SERVER.name, status="retired", reason="fell over"))
    for chosen in FORMATS:
        assert "by hand" not in comparison(campaign, chosen)
    assert "by hand" not in description(campaign)


def test_the_ratio_and_its_interval_are_those_of_the_blocks() -> None:
    campaign = fake_campaign(seed=5, blocks=9, field_blocks=4, field_effects={"uvloop": 3.0}, effects={"uvloop": 0.8})
    blocks = [block for block in campaign.blocks if block.case == SERVER.name and not block.field]
    ours, theirs = ([block.measurements[arm].server_cpu for block in blocks] for arm in ("uvloop", "asyncio"))
    truth = ratio_interval(ours, theirs)
    assert truth.low is not None
    assert cells(campaign, "uvloop")[2] == f"{truth.ratio:.3f} [{truth.low:.3f}, {truth.high:.3f}]"


def test_too_few_blocks_show_the_ratio_without_an_interval() -> None:
    assert cells(fake_campaign(blocks=5, effects={"uvloop": 0.5}, noise=0.0), "uvloop")[2] == "0.500 too few blocks"
    assert "[" in cells(fake_campaign(blocks=6, effects={"uvloop": 0.5}, noise=0.0), "uvloop")[2]


def utilised(client: float, server: float) -> CaseFigures:
    campaign = fake_campaign(blocks=3, values=1, cases=[SERVER], effects={})
    for block in campaign.blocks:
        for label, each in block.measurements.items():
            block.measurements[label] = replace(each, wall=(1.0,), client_cpu=(client,), server_cpu=(server,))
    return figures(campaign, campaign.cases[0])


@pytest.mark.parametrize(
    ("client", "server", "word"),
    [
        (0.95, 0.94, "client"),
        (0.94, 0.95, "server"),
        (0.99, 0.96, "both"),
        (0.94, 0.94, "neither"),
        (1.7, 0.5, "client"),
    ],
)
def test_the_side_that_is_95_percent_busy_bounds_the_row(client: float, server: float, word: str) -> None:
    assert utilised(client, server).bound_by("asyncio") == word


def test_what_bounds_the_row_is_told_for_serving_and_for_calling() -> None:
    found = cells(small_campaign(), "uvloop")
    assert (found[5], found[6]) == ("25/100 client", "100/100 both")


def test_a_missing_arm_has_its_reason_once_for_all_cases_of_a_table() -> None:
    campaign = fake_campaign(effects={"uvloop": 0.9})
    for case in (SERVER, CLIENT):
        campaign.outcomes.append(Outcome(arm="trio", case=case.name, status="skipped", reason="not installed"))
    found = lines(comparison(campaign), "* trio")
    assert found == ["* trio has no number (skipped): not installed."]


@pytest.mark.parametrize("case", ["*", "tls_pingpong"])
def test_an_outcome_of_all_cases_or_of_a_benchmark_is_told_under_every_table(case: str) -> None:
    campaign = fake_campaign(effects={})
    campaign.outcomes += [
        Outcome(arm="trio", case=case, status="skipped", reason="not installed."),
        Outcome(arm="anyio", case="tcp_pingpong", status="skipped", reason="of another benchmark"),
    ]
    assert "another benchmark" not in comparison(campaign)
    assert len(lines(comparison(campaign), "* trio has no number (skipped): not installed.")) == 2


def test_an_arm_that_was_retired_in_one_role_keeps_the_number_of_the_other() -> None:
    campaign = fake_campaign(effects={"uvloop": 0.9})
    campaign.outcomes.append(Outcome(arm="uvloop", case=SERVER.name, status="retired", reason="it failed twice"))
    found = cells(campaign, "uvloop")
    assert found[1:3] == ["-", "-"]
    assert found[3] != "-"
    assert found[5] == "-"
    assert "* uvloop has no number (retired as server): it failed twice." in comparison(campaign)


def test_not_comparable_means_no_number_at_all() -> None:
    campaign = fake_campaign(effects={"uvloop": 0.9}, cases=[BOTH])
    campaign.outcomes.append(
        Outcome(arm="uvloop", case=BOTH.name, status="not comparable", reason="TLS 1.2 instead of 1.3")
    )
    assert row_order(campaign) == ["asyncio", "asyncio (A/A twin)"]
    assert "uvloop has no number (not comparable): TLS 1.2 instead of 1.3." in comparison(campaign)


def test_without_a_complete_block_there_is_no_table_but_the_rest() -> None:
    campaign = fake_campaign(blocks=0)
    campaign.ended = "interrupted"
    rendered = comparison(campaign)
    assert "contender  " not in rendered
    assert "interrupted after 20 s" in rendered
    assert comparison(campaign, "csv").count("\n") == 1


def test_field_ratios_stand_beside_and_findings_are_told_with_their_faults() -> None:
    campaign = fake_campaign(
        field_blocks=3, effects={"uvloop": 0.8, "trio": 1.2}, field_effects={"uvloop": 0.9, "trio": 1.21}, noise=0.0
    )
    assert cells(campaign, "uvloop")[-1] == "0.90, 0.90"
    assert cells(campaign, "asyncio")[-1] == "1, 1"
    (finding,) = lines(comparison(campaign, "github"), "* More than 2 % off in the field, as server")
    assert "uvloop 0.90 against 0.80 (minor faults/conn: server 34.0 against 0.2, client 4.0 against 0.5)" in finding
    assert "trio" not in finding


def test_few_field_blocks_are_called_no_finding() -> None:
    rendered = comparison(
        fake_campaign(field_blocks=2, effects={"uvloop": 0.8}, field_effects={"uvloop": 0.9}), "github"
    )
    assert "So few field blocks tell no difference from noise" in rendered
    assert "off in the field" not in rendered


def test_without_a_field_block_a_line_says_so() -> None:
    rendered = comparison(fake_campaign())
    assert "No field block ran" in rendered
    assert "field\n" not in rendered


def test_captions_tell_what_the_table_does_not() -> None:
    rendered = " ".join(comparison(fake_campaign()).split())
    for part in (
        "What does a new TLS connection cost",
        "have one core each",
        "share one core",
        "called by the same uvloop client",
        "calls the same uvloop server",
        "TLS 1.3, key p256, group X25519; tickets off",
        "Close (both-notify)",
        "as server, 8 blocks of 5 values of 300 connections",
        "on this machine and this build only",
        "plain 95 % intervals",
        "receiver's kernel path is charged to the sender",
        "A/A twin, asyncio against itself: server CPU ",
    ):
        assert part in rendered, part


def test_a_plain_case_speaks_of_no_tls() -> None:
    plain = replace(SERVER, benchmark="tcp_pingpong", tls=None)
    campaign = fake_campaign(blocks=1, cases=[plain])
    campaign.cases[0].close = None
    rendered = comparison(campaign, "github")
    assert "Plain TCP. Close (fin)" in rendered
    assert "TLS bytes" not in rendered
    assert "bytes/conn to s, c" in rendered


def test_a_fast_run_says_that_it_gives_no_verdict() -> None:
    assert "This is a fast run" in comparison(fake_campaign(blocks=1, mode="fast"))
    assert "This is a fast run" not in comparison(fake_campaign(blocks=1))


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        ("time cap", "stopped at its time cap"),
        ("interrupted", "was interrupted"),
        ("running", "is still running, or was killed"),
        ("the baseline was retired", "ended early: the baseline was retired."),
    ],
)
def test_an_early_end_is_told(ended: str, told: str) -> None:
    campaign = fake_campaign(blocks=1)
    campaign.ended = ended
    assert told in comparison(campaign)
    assert told in description(campaign)


def test_dropped_blocks_are_counted_in_the_comparison_and_listed_in_the_description() -> None:
    campaign = fake_campaign(blocks=1)
    assert "dropped" not in comparison(campaign)
    campaign.dropped.append("block 3 of the server case: trio lost its peer")
    assert "1 block was dropped" in comparison(campaign)
    assert "trio lost its peer" in description(campaign)


def test_notes_are_shown() -> None:
    campaign = fake_campaign(blocks=1)
    campaign.notes.append("CPU affinity is not to be had on this system.")
    assert "CPU affinity is not to be had" in comparison(campaign)
    assert "CPU affinity is not to be had" in description(campaign)


def test_what_could_not_be_read_is_a_dash() -> None:
    campaign = fake_campaign(blocks=1, effects={})
    unknown = Side(
        minor_faults=None,
        voluntary_switches=None,
        involuntary_switches=None,
        run_delay=None,
        collections=None,
        private_kib=None,
    )
    for block in campaign.blocks:
        for label, each in block.measurements.items():
            block.measurements[label] = replace(each, client=unknown, server=unknown)
    campaign.traces.clear()
    campaign.machine = {}
    assert cells(campaign, "asyncio")[7:] == ["-, -", "-, -"]
    assert cells(campaign, "asyncio", table=1)[-1] == "-, -"
    assert "Machine: unknown." in comparison(campaign)


def test_a_clock_that_saw_nothing_gives_no_ratio_and_no_crash() -> None:
    campaign = fake_campaign(blocks=6, effects={"uvloop": 0.5})
    for block in campaign.blocks:
        for label, each in block.measurements.items():
            block.measurements[label] = replace(each, server_cpu=(0.0,) * 5, client_cpu=(0.0,) * 5)
    assert cells(campaign, "uvloop")[1:3] == ["0.00 (0.00-0.00)", "-"]
    assert cells(campaign, "uvloop", table=1)[6] == "-"
    for chosen in FORMATS:
        assert comparison(campaign, chosen)


def test_a_stored_file_cannot_steer_the_terminal_or_the_markup() -> None:
    campaign = fake_campaign(blocks=1, effects={"a|b": 1.0})
    campaign.notes.append("\x1b[31mred\nand *bold* MALLOC_TRIM_THRESHOLD_")
    assert "\x1b" not in comparison(campaign)
    assert "\x1b" not in description(campaign)
    github = comparison(campaign, "github")
    assert r"a\|b" in github
    assert r"[31mred and \*bold\* MALLOC_TRIM_THRESHOLD_" in github
    assert r"\*bold\* MALLOC_TRIM_THRESHOLD\_" in comparison(campaign, "rst")


def test_reading_formats_hold_the_same_cells() -> None:
    campaign = fake_campaign(field_blocks=1)
    for cell in cells(campaign, "uvloop"):
        assert cell in comparison(campaign, "text")
        assert cell in comparison(campaign, "rst")


def parsed(campaign: Campaign) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(comparison(campaign, "json"))["rows"]
    return found


def test_json_has_one_row_per_case_arm_and_metric_in_full_precision() -> None:
    campaign = fake_campaign(seed=2, blocks=7, field_blocks=2, effects={"uvloop": 0.8})
    found = parsed(campaign)
    keys = [(row["case"], row["arm"], row["metric"]) for row in found]
    assert len(set(keys)) == len(keys)
    (row,) = (each for each in found if (each["case"], each["arm"], each["metric"]) == (BOTH.name, "uvloop", "wall"))
    case = figures(campaign, campaign.cases[2])
    truth = case.ratio("uvloop", Metric.WALL)
    absolute = case.absolute("uvloop", Metric.WALL)
    assert truth is not None
    assert absolute is not None
    assert (row["ratio"], row["low"], row["high"], row["level"]) == (truth.ratio, truth.low, truth.high, 0.95)
    assert (row["median"], row["lowest"], row["highest"]) == (absolute.median, absolute.lowest, absolute.highest)
    assert (row["primary"], row["blocks"], row["field_blocks"], row["status"]) == (True, 7, 2, "measured")
    assert row["unit"] == "second/connection"


def test_the_twin_is_marked_for_programs() -> None:
    assert {row["arm"] for row in parsed(fake_campaign(blocks=1)) if row["twin"]} == {TWIN}


def test_a_missing_number_is_one_row_with_its_reason() -> None:
    campaign = fake_campaign(blocks=1, effects={}, cases=[BOTH])
    campaign.outcomes.append(Outcome(arm="trio", case=BOTH.name, status="skipped", reason="not installed"))
    (row,) = (each for each in parsed(campaign) if each["arm"] == "trio")
    assert (row["status"], row["reason"], row["metric"], row["median"]) == ("skipped", "not installed", None, None)


def test_csv_has_the_rows_of_json() -> None:
    campaign = fake_campaign(blocks=6, effects={"uvloop": 0.8}, cases=[SERVER])
    campaign.outcomes.append(Outcome(arm="trio", case="*", status="skipped", reason='a, "b"\nc'))
    found = list(csv.DictReader(io.StringIO(comparison(campaign, "csv"))))
    expected = [{key: "" if value is None else str(value) for key, value in row.items()} for row in parsed(campaign)]
    assert found == expected


def test_the_description_tells_what_ran_where_and_how_much_of_the_time_was_measured() -> None:
    campaign = fake_campaign(field_blocks=1)
    campaign.seconds, campaign.measured_seconds, campaign.proof_seconds = 200.0, 150.0, 20.0
    told = " ".join(description(campaign).split())
    for part in (
        "command: loopmark run",
        "seed: 1",
        "mode: default",
        "label: amd-epyc-2-cores",
        "started: 2026-11-20T09:15:00Z",
        "ended: done, after 200 s",
        "75 % timed values and warm-up, 10 % untimed proof on live connections, 15 % scheduling and start-up",
        "AMD EPYC, 2 cores, virtual machine, Linux 6.18.0, CPython 3.13.0 (no PGO, no LTO), OpenSSL 3.0.19,",
        "versions: loopmark 0.1.0, trio 0.35.0, uvloop 0.23.0",
        f"{SERVER.name}: 8 blocks and 1 in the field, 300 connections a value",
    ):
        assert part in told, part


def test_facts_that_all_share_are_told_once_and_differences_by_arm() -> None:
    told = " ".join(description(fake_campaign(blocks=2, effects={"uvloop": 0.9})).split())
    assert told.count("equal.tls_version: TLSv1.3") == 1
    assert "client.loop: asyncio.Loop (asyncio, asyncio (A/A twin)); uvloop.Loop (uvloop)" in told


def test_facts_that_differ_between_cases_name_their_case() -> None:
    campaign = fake_campaign(blocks=1, effects={}, cases=[SERVER, BOTH])
    for block in campaign.blocks:
        for label, each in block.measurements.items():
            loop = "fixed" if block.case == SERVER.name else "own"
            block.measurements[label] = replace(each, facts={"client": {"loop": loop}, "server": {"loop": "own"}})
    told = description(campaign).split("Facts")[1].replace("\n  ", " ")
    assert f"{SERVER.name}: equal for all: client.loop: fixed, server.loop: own" in told
    assert f"{BOTH.name}: equal for all: client.loop: own, server.loop: own" in told


def test_wire_traces_that_differ_are_told_apart() -> None:
    campaign = fake_campaign(blocks=1, effects={"uvloop": 0.9, "trio": 1.1}, cases=[BOTH])
    traces = campaign.traces[BOTH.name]
    traces["uvloop"] = replace(traces["uvloop"], bytes_to_client=1001)
    traces["trio"] = replace(traces["trio"], first_fin="client", records=("> handshake 1",))
    told = description(campaign).split("On the wire")[1].replace("\n  ", " ")
    assert "asyncio, asyncio (A/A twin), uvloop: 689 bytes to the server, 1001-1003 to the client" in told
    assert ", trio: 689 bytes to the server, 1003 to the client; group X25519; first close_notify: server; " in told
    assert "first FIN: client; 1 records: > handshake 1" in told


def test_the_description_gives_the_reason_for_what_is_missing() -> None:
    campaign = fake_campaign(blocks=1)
    campaign.outcomes += [
        Outcome(arm="zippy", case="*", status="skipped", reason="not installed: pip install zippy"),
        Outcome(arm="trio", case=BOTH.name, status="retired", reason="it failed twice"),
    ]
    told = " ".join(description(campaign).split())
    assert "zippy: skipped: not installed: pip install zippy" in told
    assert f"trio: retired in {BOTH.name}: it failed twice" in told


def test_a_campaign_that_never_measured_can_be_described() -> None:
    empty = Campaign(
        started="2026-11-20T09:15:00Z", label="", command=(), seed=0, mode="default", baseline="asyncio", twin="t"
    )
    assert "is still running, or was killed" in description(empty)
    assert "### About these numbers" in comparison(empty, "github")


def test_a_lost_baseline_leaves_absolute_figures_without_ratios() -> None:
    campaign = fake_campaign(blocks=2, effects={"uvloop": 0.9}, cases=[BOTH])
    campaign.blocks[:] = [_without(block, "asyncio") for block in campaign.blocks]
    assert cells(campaign, "uvloop")[2] == "-"
    assert cells(campaign, "uvloop")[1] != "-"


def _without(block: Block, label: str) -> Block:
    return replace(block, measurements={arm: each for arm, each in block.measurements.items() if arm != label})
