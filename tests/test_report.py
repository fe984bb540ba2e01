import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.campaigns import BOTH, CLIENT, CONTROL, FLOOR, SERVER, TWIN, fake_campaign

from loopmark import store
from loopmark.case import Case, Cores, Metric, Role
from loopmark.cli.conducting import status_of
from loopmark.errors import UsageError
from loopmark.record import UNKNOWN, Block, Campaign, Measurement, Outcome
from loopmark.report import FORMATS, comparison, description
from loopmark.report.figures import Bound, bottleneck, figures
from loopmark.stats import Estimate, ratio_interval

# The tables of the default cases, in this order.
SERVERS, CLIENTS, WHERE, TOGETHER, WHERE_TOGETHER = range(5)


def lines(text: str, start: str) -> list[str]:
    """Return the lines that start with some text, without indents."""
    return [line.strip() for line in text.splitlines() if line.strip().startswith(start)]


def cells(campaign: Campaign, contender: str, table: int = 0) -> list[str]:
    """Return one row of the nth table."""
    found = lines(comparison(campaign, "github"), f"| {contender} |".replace(" |", " ", 1))
    exact = [row for row in found if row.strip("|").split("|")[0].strip() == contender]
    return [cell.strip().replace("\\*", "*") for cell in exact[table].strip("|").split("|")]


def row_order(campaign: Campaign) -> list[str]:
    """Return the first column of the first table."""
    names = []
    for line in comparison(campaign, "github").splitlines():
        if line.startswith("| ") and not line.startswith("| contender"):
            names.append(line.split("|")[1].strip())
        elif names and not line:
            break
    return names


def changed(campaign: Campaign, change: Callable[[Block, Measurement], Measurement]) -> Campaign:
    """Replace every measurement by what is made of it."""
    for block in campaign.blocks:
        block.measurements.update({label: change(block, each) for label, each in block.measurements.items()})
    return campaign


def table_of(campaign: Campaign, title: str) -> list[list[str]]:
    """Return the rows of the first table with a title."""
    _, _, rest = comparison(campaign, "github").partition(f"**{title}**\n\n")
    rows, _, _ = rest.partition("\n\n")
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]


# Every number in it can be computed by hand: two blocks in which the machine runs at 1 and at 2 of its speed.
def small_campaign() -> Campaign:
    def by_hand(block: Block, each: Measurement) -> Measurement:
        speed = block.index + 1
        effect = 0.5 if each.arm == "uvloop" else 1.0
        server = 100e-6 * speed * (1.0 if block.case == CLIENT.name else effect)
        client = 300e-6 * speed * (1.0 if block.case == SERVER.name else effect)
        if each.arm == FLOOR:
            server, client = 40e-6 * speed, 80e-6 * speed
        wall = client + server if block.case == BOTH.name or each.arm == FLOOR else max(client, server)
        return replace(each, wall=(wall,), client_cpu=(client,), server_cpu=(server,), loops=300, warmups=())

    campaign = changed(fake_campaign(blocks=2, values=1, effects={"uvloop": 0.5}, noise=0.0), by_hand)
    campaign.traces[SERVER.name]["uvloop"] = replace(campaign.traces[SERVER.name]["uvloop"], bytes_to_client=1001)
    campaign.machine = {}
    return campaign


def test_small_tables_are_exactly_this() -> None:
    small = small_campaign()
    # Of 100 and 200 us: the median 150, of half of that 75.
    assert cells(small, "uvloop", SERVERS) == ["uvloop", "75.0 (50.0-100.0)", "0.500* too few blocks"]
    assert cells(small, "asyncio", SERVERS) == ["asyncio", "150 (100-200)", "1*"]
    assert cells(small, "asyncio (A/A twin)", SERVERS)[2] == "1.000* too few blocks"
    assert cells(small, "uvloop", CLIENTS) == ["uvloop", "225 (150-300)", "0.500 too few blocks"]
    # Of 40 and 80 us the median is 60; 50 less 40 and 100 less 80 have the median 15.
    assert cells(small, "uvloop", WHERE) == [
        *("uvloop", "60.0 + 15.0", "17/100", "client-bound", "120 + 105", "67/100", "TLS-bound"),
        *("0.2, 0.5", "689, 1001"),
    ]
    assert cells(small, "asyncio", WHERE) == [
        *("asyncio", "60 + 90", "33/100", "client-bound", "120 + 330", "33/100", "client-bound"),
        *("0.2, 0.5", "689, 1003"),
    ]
    # Wall 200 and 400 us: the median 300, 3333 a second; client CPU 150 and 300.
    assert cells(small, "uvloop", TOGETHER) == ["uvloop", "300 (200-400)", "0.500 too few blocks", "3333", "4444"]
    assert cells(small, "uvloop", WHERE_TOGETHER) == [
        *("uvloop", "75.0 (50.0-100.0)", "60.0 + 15.0", "225 (150-300)", "120 + 105"),
        *("25/75/0", "TLS-bound", "1024, 1024"),
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


def of_server(campaign: Campaign, contender: str, level: float = 0.95) -> Estimate:
    blocks = [block for block in campaign.blocks if block.case == SERVER.name and not block.field]
    ours, theirs = ([block.measurements[arm].server_cpu for block in blocks] for arm in (contender, "asyncio"))
    return ratio_interval(ours, theirs, level)


def shown(estimate: Estimate) -> str:
    assert estimate.low is not None
    return f"{estimate.ratio:.3f}* [{estimate.low:.3f}, {estimate.high:.3f}]"


def test_intervals_hold_together_for_all_contenders_of_a_table() -> None:
    effects = {"uvloop": 0.8, "trio": 1.2}
    campaign = fake_campaign(seed=5, blocks=9, field_blocks=4, field_effects={"uvloop": 3.0}, effects=effects)
    assert cells(campaign, "uvloop")[2] == shown(of_server(campaign, "uvloop", 0.975))
    assert cells(campaign, "contender")[2] == "ratio [simultaneous 95 %]"


def test_a_fast_campaign_has_plain_intervals_and_no_verdict_and_says_so() -> None:
    campaign = fake_campaign(blocks=9, effects={"uvloop": 0.8, "trio": 1.2}, mode="fast")
    assert cells(campaign, "uvloop")[2:] == [shown(of_server(campaign, "uvloop"))]
    assert cells(campaign, "contender")[2:] == ["ratio [plain 95 %]"]
    rendered = comparison(campaign)
    assert "This is a fast run" in rendered
    assert "Verdict:" not in rendered
    assert "be told from it" not in rendered
    assert "This is a fast run" not in comparison(fake_campaign(blocks=1))
    assert "A 95 % interval takes 6 blocks." in comparison(fake_campaign(blocks=5, mode="fast"))


@pytest.mark.parametrize(
    ("blocks", "interval", "told"),
    [
        (5, "too few blocks", "No verdict: with so many contenders it takes 7 blocks, and there are 5;"),
        (6, "[", "No verdict: with so many contenders it takes 7 blocks, and there are 6;"),
        (7, "[", "Gate as server: passed."),
    ],
)
def test_with_too_few_blocks_there_is_no_verdict_and_how_many_it_takes_is_told(
    blocks: int, interval: str, told: str
) -> None:
    campaign = fake_campaign(blocks=blocks, effects={"uvloop": 0.5, "trio": 2.0}, noise=0.0)
    assert interval in cells(campaign, "uvloop")[2]
    assert ("verdict" in cells(campaign, "contender")) is (blocks == 7)
    assert ("plain" in cells(campaign, "contender")[2]) is (blocks < 7)
    assert told in " ".join(comparison(campaign).split())


@pytest.mark.parametrize(
    ("effect", "noise", "verdict"),
    [
        (0.9, 0.002, "faster"),
        (1.1, 0.002, "slower"),
        (1.0, 0.002, "equivalent"),
        (0.95, 0.06, "inconclusive (faster?)"),
        (1.03, 0.06, "inconclusive (slower?)"),
        (1.0, 0.03, "inconclusive (equivalent?)"),
    ],
)
def test_a_verdict_is_told_and_an_inconclusive_one_leans(effect: float, noise: float, verdict: str) -> None:
    campaign = fake_campaign(seed=1, blocks=8, effects={"zippy": effect}, noise=noise)
    assert cells(campaign, "zippy")[3] == verdict


def test_the_baseline_has_letters_and_no_verdict_and_the_twin_has_neither() -> None:
    campaign = fake_campaign(seed=0, blocks=12, effects={"uvloop": 0.8, "trio": 1.0}, noise=0.002)
    assert cells(campaign, "uvloop")[3:] == ["faster", "a"]
    assert cells(campaign, "asyncio")[2:] == ["1*", "baseline", "b"]
    assert cells(campaign, "trio")[3:] == ["equivalent", "b"]
    assert cells(campaign, "asyncio (A/A twin)")[3:] == ["-", "-"]
    assert "A shared letter is not equality." in " ".join(comparison(campaign).split())


def told(campaign: Campaign, start: str) -> str:
    (line,) = lines(comparison(campaign, "github"), f"* {start}")
    return line


def test_a_twin_within_the_margin_passes_the_gate() -> None:
    line = told(fake_campaign(blocks=12, noise=0.002), "Gate as server")
    assert line.startswith("* Gate as server: passed. The A/A twin, asyncio against itself, came out at 1.00")
    assert "inside the margin of 1 %. A twin cannot see bias between libraries." in line


def test_a_twin_that_may_be_beyond_the_margin_means_that_precision_was_not_reached() -> None:
    campaign = fake_campaign(blocks=8, noise=0.05)
    line = told(campaign, "Gate as server")
    assert "precision not reached. The A/A twin, asyncio against itself, came out at" in line
    assert "not wholly inside the margin of 1 %" in line
    assert "INVALID" not in comparison(campaign)
    assert status_of(campaign) == 0


def test_a_twin_beyond_the_margin_makes_its_case_invalid_in_title_and_status() -> None:
    campaign = fake_campaign(blocks=8, effects={TWIN: 1.1, "uvloop": 0.8}, noise=0.002)
    changed(campaign, lambda block, each: each if block.case == SERVER.name else replace(each, wall=each.warmups * 5))
    rendered = comparison(campaign, "github")
    assert "### INVALID: tls_pingpong, 100 at a time" in rendered
    assert "Gate as server: INVALID: asyncio.twin is asyncio itself, and came out" in rendered
    assert cells(campaign, "contender")[2:] == ["ratio [simultaneous 95 %]"]
    assert status_of(campaign) == 1


def test_where_one_role_only_is_invalid_the_title_names_it() -> None:
    campaign = fake_campaign(blocks=8, effects={TWIN: 1.1}, noise=0.002, cases=[SERVER, CLIENT])
    baseline = {(block.case, block.index): block.measurements["asyncio"] for block in campaign.blocks}
    changed(
        campaign,
        lambda block, each: (
            replace(baseline[block.case, block.index], arm=TWIN)
            if (block.case, each.arm) == (CLIENT.name, TWIN)
            else each
        ),
    )
    assert lines(comparison(campaign, "github"), "### ")[0].startswith("### INVALID as server: tls_pingpong")


def test_blocks_that_cannot_be_compared_get_no_verdict_but_the_reason_and_status_1() -> None:
    campaign = fake_campaign(blocks=8, effects={"uvloop": 0.8}, noise=0.002)
    assert status_of(campaign) == 0
    (block, *_) = (block for block in campaign.blocks if block.case == SERVER.name)
    block.measurements["uvloop"] = replace(block.measurements["uvloop"], loops=7)
    assert "NO VERDICT: block 0" in comparison(campaign, "github")
    assert "unequal counts are not compared" in comparison(campaign, "github")
    assert cells(campaign, "contender")[2:] == ["ratio [plain 95 %]"]
    assert status_of(campaign) == 1


@pytest.mark.parametrize(
    ("truth", "blocks", "told_of_it"),
    [
        (1.02, 12, "found at 1.0"),
        (1.0, 12, "NOT found, at "),
        (1.02, 7, "too few blocks for its 99 % interval."),
    ],
)
def test_the_positive_control_is_told_with_whether_it_was_found(truth: float, blocks: int, told_of_it: str) -> None:
    campaign = fake_campaign(blocks=blocks, effects={"uvloop": 0.9}, noise=0.002, control=truth)
    line = told(campaign, "Gate as server")
    assert "Positive control, asyncio doing more than is counted, truly 1.02: " in line
    assert told_of_it in line
    assert "+2 % control" not in comparison(campaign)


def test_without_a_control_nothing_is_said_of_one() -> None:
    assert "ositive control" not in comparison(fake_campaign())


def placed(campaign: Campaign, effect: float) -> Campaign:
    """Let every place in a round cost that much more than the one before."""

    def at_its_place(block: Block, each: Measurement) -> Measurement:
        places = [1 + effect * one.index(each.arm) for one in block.rounds[-len(each.wall) :]]
        return replace(each, server_cpu=tuple(a * b for a, b in zip(each.server_cpu, places, strict=True)))

    return changed(campaign, at_its_place)


def test_the_effect_of_the_place_is_told_and_warned_of_beyond_the_margin() -> None:
    harmless = told(fake_campaign(blocks=12, noise=0.002), "Gate as server")
    assert "The last place in a round against the first: 1.00" in harmless
    assert "WARNING" not in harmless
    harmful = told(placed(fake_campaign(blocks=12, noise=0.002), 0.02), "Gate as server")
    assert "The last place in a round against the first: 1.0" in harmful
    assert "WARNING: that is more than the margin." in harmful


@pytest.mark.parametrize(
    ("ended", "target", "noise", "expected"),
    [
        (
            "time cap",
            0.01,
            0.05,
            r"Stopped at the time cap; the widest interval is \+-\d.* %, short of the target of \+-1 %\.",
        ),
        ("target", 0.02, 0.005, r"Stopped by itself; the widest interval is \+-\d.* %, within the target of \+-2 %\."),
        ("blocks", None, 0.01, r"Stopped at the number of blocks that was set; the widest interval is \+-\d\S* %\."),
        ("", None, 0.01, r"Ended early; the widest interval is \+-\d\S* %\."),
    ],
)
def test_what_ended_a_case_is_told_with_the_precision_it_had(
    ended: str, target: float | None, noise: float, expected: str
) -> None:
    campaign = fake_campaign(blocks=8, effects={"uvloop": 0.9}, noise=noise, target=target)
    campaign.cases[0].ended = ended
    assert re.search(expected, told(campaign, "Measured as server"))


def test_what_the_machine_allowed_is_one_plain_sentence() -> None:
    campaign = fake_campaign(blocks=9, effects={"uvloop": 0.9}, noise=0.01)
    found = re.search(
        r"In 9 blocks this machine let whoever differs from asyncio by more than about (\S+) % be told from it; "
        "smaller differences may stay inconclusive.",
        told(campaign, "Measured as server"),
    )
    widest = figures(campaign, campaign.cases[0]).widest
    assert found
    assert widest is not None
    assert float(found[1]) / 100 == pytest.approx((1 + widest) * 1.01 - 1, abs=0.001)


@pytest.mark.parametrize(
    ("server", "client", "floor", "cores", "word"),
    [
        (0.94, 0.95, {}, Cores.SEPARATE, Bound.CLIENT),
        (0.95, 0.94, {"client": 0.9}, Cores.SEPARATE, Bound.SERVER),
        (0.3, 1.0, {"server": 0.9, "client": 0.49}, Cores.SEPARATE, Bound.CLIENT),
        (0.3, 1.0, {"server": 0.1, "client": 0.5}, Cores.SEPARATE, Bound.TLS),
        (1.7, 0.5, {}, Cores.ANY, Bound.SERVER),
        (0.96, 0.99, {"server": 0.9, "client": 0.9}, Cores.SEPARATE, Bound.MIXED),
        (0.94, 0.94, {"server": 0.9, "client": 0.9}, Cores.SEPARATE, Bound.MIXED),
        (0.4, 0.6, {"server": 0.5, "client": 0.5}, Cores.SHARED, Bound.TLS),
        (0.3, 0.7, {"server": 0.4, "client": 0.4}, Cores.SHARED, Bound.CLIENT),
        (0.7, 0.3, {}, Cores.SHARED, Bound.SERVER),
        (0.35, 0.65, {"server": 0.4, "client": 0.4}, Cores.SHARED, Bound.MIXED),
    ],
)
def test_the_word_for_what_limits_a_row(
    server: float, client: float, floor: dict[str, float], cores: Cores, word: Bound
) -> None:
    assert bottleneck({"server": server, "client": client}, floor, cores) is word


def test_ratios_of_servers_are_marked_where_their_fixed_client_had_no_time_left() -> None:
    campaign = fake_campaign(blocks=7, effects={"uvloop": 0.9, "trio": 3.0}, cases=[SERVER])
    assert "*" in cells(campaign, "uvloop")[2]
    assert "*" not in cells(campaign, "trio")[2]
    assert cells(campaign, "trio", table=1)[3] == "server-bound"
    assert "Ratios with * are from rows whose fixed client was at least 95 % busy" in comparison(campaign)


def test_ratios_of_clients_are_marked_where_their_fixed_server_had_no_time_left() -> None:
    campaign = fake_campaign(blocks=7, effects={"uvloop": 0.5}, cases=[CLIENT])
    assert "*" in cells(campaign, "uvloop")[2]
    assert "*" not in cells(campaign, "asyncio")[2]
    assert "from rows whose fixed server was" in comparison(campaign)
    assert "Ratios with *" not in comparison(fake_campaign(blocks=7, cases=[BOTH]))


def test_the_floor_is_explained_and_has_no_row() -> None:
    campaign = fake_campaign(blocks=3)
    rendered = " ".join(comparison(campaign).split())
    assert "floor: CPU time of the same handshake and messages in memory" in rendered
    assert re.search(r"in the same blocks: server \d.*; client \d.* us/conn. own:", rendered)
    assert not lines(comparison(campaign, "github"), "| floor")


def test_plain_tcp_has_no_floor_and_nothing_is_said_of_tls() -> None:
    plain = replace(SERVER, benchmark="tcp_pingpong", tls=None)
    campaign = fake_campaign(blocks=1, cases=[plain])
    campaign.cases[0].close = None
    rendered = comparison(campaign, "github")
    assert "Plain TCP. Close (fin)" in rendered
    assert "floor" not in rendered
    assert "TLS-bound" not in rendered
    assert "TLS bytes" not in rendered
    assert "bytes/conn to s, c" in rendered


def test_a_tls_table_without_a_floor_says_so() -> None:
    rendered = comparison(fake_campaign(blocks=1, floor=False), "github")
    assert "No floor was measured" in rendered
    assert "floor + own" not in rendered
    assert "TLS-bound" not in rendered


def test_who_is_below_the_floor_is_reported_as_a_bug() -> None:
    campaign = fake_campaign(blocks=8, effects={"zippy": 0.2, "uvloop": 0.9}, cases=[SERVER, BOTH])
    found = lines(comparison(campaign, "github"), "* zippy as")
    assert [line.split(" is ")[0] for line in found] == ["* zippy as server", "* zippy as server", "* zippy as client"]
    assert found[0].endswith("which cannot be: a bug of the measurement or of the proof.")
    assert not lines(comparison(campaign, "github"), "* uvloop as")
    assert re.fullmatch(r"\d+\.\d - \d+\.\d", cells(campaign, "zippy", table=1)[1])


def test_the_row_without_a_loop_is_named_with_one_connection_at_a_time_only() -> None:
    campaign = fake_campaign(blocks=1, effects={"blocking": 0.8})
    assert len(lines(comparison(campaign), "* blocking is the row without a loop")) == 1
    assert not lines(comparison(fake_campaign(blocks=1)), "* blocking is the row without a loop")


def test_threads_on_several_cores_are_explained_where_they_are_seen() -> None:
    free = replace(SERVER, cores=Cores.ANY)
    assert "several threads" not in comparison(fake_campaign(blocks=1, cases=[free]), "github")
    busy = changed(
        fake_campaign(blocks=1, cases=[free]), lambda _, each: replace(each, wall=tuple(x / 2 for x in each.wall))
    )
    assert "above 100 with several threads" in comparison(busy, "github")


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
    found = next(row for row in table_of(campaign, "Where the time goes") if row[0] == "uvloop")
    assert found[1:4] == ["-", "-", "-"]
    assert "-" not in found[4:7]
    assert len(lines(comparison(campaign), "uvloop ")) == 4
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
    campaign.ended = "time cap"
    assert status_of(campaign) == 1


def test_an_interrupted_campaign_that_took_no_time_names_none() -> None:
    campaign = fake_campaign(blocks=1)
    campaign.ended, campaign.seconds = "interrupted", 0.0
    assert "The campaign was interrupted; all that was finished is in." in comparison(campaign)


def test_field_ratios_stand_beside_and_findings_are_told_with_their_faults() -> None:
    campaign = fake_campaign(
        field_blocks=3, effects={"uvloop": 0.8, "trio": 1.2}, field_effects={"uvloop": 0.9, "trio": 1.21}, noise=0.0
    )
    assert cells(campaign, "uvloop")[-1] == "0.90"
    assert cells(campaign, "asyncio")[-1] == "1"
    (finding,) = lines(comparison(campaign, "github"), "* More than 2 % off in the field as server, by server CPU:")
    assert "uvloop 0.90 against 0.80 (minor faults/conn: server 34.0 against 0.2, client 4.0 against 0.5)" in finding
    assert "trio" not in finding


def test_few_field_blocks_are_called_no_finding() -> None:
    rendered = comparison(
        fake_campaign(field_blocks=2, effects={"uvloop": 0.8}, field_effects={"uvloop": 0.9}), "github"
    )
    assert "So few field blocks tell no difference from noise" in rendered
    assert "off in the field" not in rendered


def test_a_single_field_block_has_one_digit_less() -> None:
    campaign = fake_campaign(field_blocks=1, field_effects={"uvloop": 0.9}, noise=0.0)
    assert cells(campaign, "uvloop")[-1] == "0.9"


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
        "Measured as server: 8 blocks of 5 values of 300 connections for each contender.",
        "Ratios are to asyncio in the same round",
        "within this campaign, on this machine and this build,",
        "receiver's kernel path is charged to the sender",
        "beyond the margin of 1 %",
        "bound, what limits the row: the side that alone is at least 95 % busy, TLS-bound where the floor is at least",
        "TLS-bound where both floors together are at least 50 % of the wall time",
    ):
        assert part in rendered, part


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
    campaign = changed(
        fake_campaign(blocks=1, effects={}), lambda _, each: replace(each, client=UNKNOWN, server=UNKNOWN)
    )
    campaign.traces.clear()
    campaign.machine = {}
    assert cells(campaign, "asyncio", WHERE)[-2:] == ["-, -", "-, -"]
    assert cells(campaign, "asyncio", WHERE_TOGETHER)[-1] == "-, -"
    assert "Machine: unknown." in comparison(campaign)


def test_a_clock_that_saw_nothing_gives_no_ratio_and_no_crash() -> None:
    campaign = fake_campaign(blocks=6, effects={"uvloop": 0.5})
    for block in campaign.blocks:
        for label, each in block.measurements.items():
            block.measurements[label] = replace(each, server_cpu=(0.0,) * 5, client_cpu=(0.0,) * 5)
    assert cells(campaign, "uvloop")[1:3] == ["0.00 (0.00-0.00)", "-"]
    assert cells(campaign, "uvloop", TOGETHER)[-1] == "-"
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
    for table in (SERVERS, WHERE, TOGETHER):
        for cell in cells(campaign, "uvloop", table):
            assert cell in comparison(campaign, "text")
            assert cell in comparison(campaign, "rst").replace("\\*", "*")


def test_tables_fit_into_130_columns() -> None:
    campaign = fake_campaign(
        seed=3, field_blocks=2, noise=0.05, effects={"uvloop-protocol": 0.85, "anyio+asyncio": 4.0}
    )
    assert max(map(len, comparison(campaign).splitlines())) <= 130


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


def row_of(campaign: Campaign, case: Case, arm: str, metric: Metric) -> dict[str, Any]:
    (row,) = (
        each
        for each in parsed(campaign)
        if (each["case"], each["arm"], each["metric"]) == (case.name, arm, metric.value)
    )
    return row


def test_what_is_judged_is_in_the_rows_of_the_primary_metric() -> None:
    campaign = fake_campaign(seed=0, blocks=9, effects={"uvloop": 0.8, "trio": 1.005}, noise=0.02, target=0.01)
    case = figures(campaign, campaign.cases[0])
    row = row_of(campaign, SERVER, "trio", Metric.SERVER_CPU)
    truth = of_server(campaign, "trio", 0.975)
    names = ("simultaneous_low", "simultaneous_high", "simultaneous_level")
    assert tuple(row[name] for name in names) == (truth.low, truth.high, 0.975)
    assert (row["low"], row["level"]) == (of_server(campaign, "trio").low, 0.95)
    assert (row["verdict"], row["leaning"], row["letters"]) == ("inconclusive", "equivalent", "b")
    assert (row["gate"], row["ended"], row["half_width"]) == ("precision not reached", "blocks", case.widest)
    assert row["bound"] == "client-bound"
    other = row_of(campaign, SERVER, "trio", Metric.WALL)
    assert [other[name] for name in (*names, "verdict", "leaning", "letters", "bound")] == [None] * 7
    assert other["low"] is not None


def test_no_verdict_of_a_fast_campaign_is_in_any_row() -> None:
    campaign = fake_campaign(blocks=9, effects={"uvloop": 0.8}, noise=0.001, mode="fast")
    for name in ("simultaneous_low", "verdict", "leaning", "letters"):
        assert {row[name] for row in parsed(campaign)} == {None}


def test_cpu_times_have_the_floor_and_what_comes_on_top_beside_them() -> None:
    small = small_campaign()
    row = row_of(small, SERVER, "uvloop", Metric.SERVER_CPU)
    assert (row["floor"], row["own_cost"]) == (pytest.approx(60e-6), pytest.approx(15e-6))
    assert row_of(small, SERVER, "uvloop", Metric.WALL)["floor"] is None
    assert row_of(small, SERVER, FLOOR, Metric.SERVER_CPU)["median"] == pytest.approx(60e-6)


def test_what_was_declared_beforehand_is_in_the_json_document() -> None:
    about = json.loads(comparison(fake_campaign(blocks=1, target=0.02), "json"))["campaign"]
    assert (about["margin"], about["target"]) == (0.01, 0.02)


def test_every_arm_has_its_kind_for_programs() -> None:
    found = {(row["arm"], row["kind"]) for row in parsed(fake_campaign(blocks=1, effects={"uvloop": 1}, control=1.02))}
    assert found == {
        *(("asyncio", "contender"), ("uvloop", "contender"), (TWIN, "twin"), (CONTROL, "control"), (FLOOR, "floor")),
    }


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
        "mode: default, seed: 1",
        "baseline: asyncio, margin: 1 %, target: none",
        "label: amd-epyc-2-cores",
        "started: 2026-11-20T09:15:00Z",
        "ended: done, after 200 s",
        "75 % timed values and warm-up, 10 % untimed proof on live connections, 15 % scheduling and start-up",
        "AMD EPYC, 2 cores, virtual machine, Linux 6.18.0, CPython 3.13.0 (no PGO, no LTO), OpenSSL 3.0.19,",
        "loopmark 0.1.0, trio 0.35.0, uvloop 0.23.0",
        "1 server 100 at a time server CPU 8 1 300 connections blocks precision not reached",
        f"case 1 is {SERVER.name}",
    ):
        assert part in told, part


def test_facts_that_all_share_are_told_once_and_differences_by_arm() -> None:
    told = " ".join(description(fake_campaign(blocks=2, effects={"uvloop": 0.9})).split())
    assert told.count("tls_version 1, 2, 3 TLSv1.3 all") == 1
    assert "client.loop 1, 2, 3 asyncio.Loop asyncio, asyncio (A/A twin) uvloop.Loop uvloop floor.Loop floor" in told


def test_a_fact_that_only_the_floor_lacks_is_one_of_all() -> None:
    campaign = changed(
        fake_campaign(blocks=1, cases=[BOTH]),
        lambda _, each: replace(each, facts={"equal": {} if each.arm == FLOOR else {"nodelay": True}}),
    )
    assert "nodelay 1 yes all" in " ".join(description(campaign).split())


def test_facts_that_differ_between_cases_name_their_case() -> None:
    campaign = fake_campaign(blocks=1, effects={}, cases=[SERVER, BOTH])
    for block in campaign.blocks:
        for label, each in block.measurements.items():
            loop = "fixed" if block.case == SERVER.name else "own"
            block.measurements[label] = replace(each, facts={"client": {"loop": loop}, "server": {"loop": "own"}})
    told = " ".join(description(campaign).split("Facts")[1].split())
    assert "client.loop 1 fixed all client.loop 2 own all server.loop 1, 2 own all" in told


def test_wire_traces_that_differ_are_told_apart() -> None:
    campaign = fake_campaign(blocks=1, effects={"uvloop": 0.9, "trio": 1.1}, cases=[BOTH])
    traces = campaign.traces[BOTH.name]
    traces["uvloop"] = replace(traces["uvloop"], bytes_to_client=1001)
    traces["trio"] = replace(traces["trio"], first_fin="client", records=("> handshake 1",))
    told = description(campaign).split("On the wire")[1].replace("\n  ", " ")
    assert "* asyncio, asyncio (A/A twin), uvloop in case 1: 689 bytes to the server, 1001-1003 to the client" in told
    assert "* trio in case 1: 689 bytes to the server, 1003 to the client; group X25519; first close_notify: " in told
    assert "first FIN: client; 1 record: > handshake 1" in told


def test_wire_traces_that_agree_are_one_line() -> None:
    told = description(fake_campaign(blocks=1)).split("On the wire")[1].replace("\n  ", " ")
    assert "* all: 689 bytes to the server, 1003 to the client" in told


def test_names_of_cases_are_told_once_and_numbers_after_that() -> None:
    campaign = fake_campaign(blocks=1)
    campaign.dropped.append(f"block 3 of {CLIENT.name}: trio lost its peer")
    campaign.notes.append(f"{BOTH.name}: some values took less than 50 ms.")
    told = description(campaign)
    assert "* block 3 of case 2: trio lost its peer" in told
    assert "* case 3: some values took less than 50 ms." in told
    assert all(told.count(case.name) == 1 for case in (SERVER, CLIENT, BOTH))


def test_the_description_gives_the_reason_for_what_is_missing() -> None:
    campaign = fake_campaign(blocks=1)
    campaign.outcomes += [
        Outcome(arm="zippy", case="*", status="skipped", reason="not installed: pip install zippy"),
        Outcome(arm="trio", case=BOTH.name, status="retired", reason="it failed twice"),
    ]
    told = " ".join(description(campaign).split())
    assert "zippy: skipped: not installed: pip install zippy" in told
    assert "trio: retired in case 3: it failed twice" in told


def test_the_description_tells_why_a_case_has_no_verdict() -> None:
    campaign = fake_campaign(blocks=8, effects={TWIN: 1.1}, noise=0.002, cases=[SERVER])
    told = " ".join(description(campaign).split())
    assert "no verdict: asyncio.twin is asyncio itself, and came out" in told
    assert "blocks INVALID" in told


def test_a_campaign_that_never_measured_can_be_described() -> None:
    empty = Campaign(
        started="2026-11-20T09:15:00Z",
        label="",
        command=(),
        seed=0,
        mode="default",
        baseline="asyncio",
        margin=0.01,
        target=None,
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
