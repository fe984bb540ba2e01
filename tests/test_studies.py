"""The scripts of the studies: pure analyses of simulated campaigns, and the collecting of results."""

import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyperf
import pytest
from scipy import stats
from tests.campaigns import BOTH, CLIENT, SERVER, TWIN, fake_campaign

import accuracy
import analyse
import by_hand
import collect
import false_alarms
import hardening
import known
import minute
import pause
import power
import precision
import shelf
import stock
from catalogue import CASES, STUDIES, Line
from loopmark import store
from loopmark.cell import METRICS
from loopmark.cli import cli, measuring
from loopmark.counts import MODE, Count, Counts
from loopmark.errors import UsageError
from loopmark.record import Campaign
from loopmark.registry import registry
from loopmark.verdicts import Verdict
from series import Series, joined, series_of, titled
from shares import bootstrapped_share, clustered_share

ROOT = Path(__file__).parents[1]


def eight_arms(seed: int = 1, *, blocks: int = 12, last: float = 1.0, noise: float = 0.01) -> Campaign:
    """Simulate asyncio and seven twins, the last of which may be no real one."""
    return fake_campaign(
        seed, blocks=blocks, values=1, twins=7, effects={"asyncio.twin7": last}, cases=(BOTH,), noise=noise
    )


def only(campaign: Campaign, *, field: bool = False) -> Series:
    (series,) = series_of(campaign, field=field)
    return series


# Shares.


def test_one_comparison_per_campaign_has_the_exact_binomial_interval() -> None:
    found = clustered_share([(1, 1)] * 30 + [(0, 1)] * 570)
    exact = stats.binomtest(30, 600).proportion_ci(0.95, method="exact")
    assert (found.hits, found.total) == (30, 600)
    assert found.design_effect == pytest.approx(1, abs=0.01)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=2e-4)


def test_campaigns_whose_comparisons_all_agree_count_as_one_comparison_each() -> None:
    found = clustered_share([(28, 28)] * 5 + [(0, 28)] * 95)
    alone = stats.binomtest(5, 100).proportion_ci(0.95, method="exact")
    assert found.design_effect == pytest.approx(28, rel=0.05)
    # A little wider: a hundred clusters do not know their variance exactly.
    assert found.high == pytest.approx(alone.high, rel=0.05)
    assert found.high > alone.high


def test_where_nothing_is_found_the_design_effect_is_the_given_one() -> None:
    assert clustered_share([(0, 28)] * 40, 2.0).high == pytest.approx(1 - 0.025 ** (2 / 1120))


def test_comparisons_never_count_for_more_than_there_are() -> None:
    assert clustered_share([(1, 20)] * 30).design_effect == 1


def test_the_interval_covers_the_true_share_of_dependent_comparisons() -> None:
    """Eight normal arms a campaign, all pairs: the case that it is made for."""
    drawn = np.random.default_rng(7)
    limit = float(stats.norm.ppf(0.975))

    def campaign() -> tuple[int, int]:
        arms = drawn.normal(size=8) / math.sqrt(2)
        return sum(abs(a - b) > limit for i, a in enumerate(arms) for b in arms[:i]), 28

    covered = sum(
        found.low <= 0.05 <= found.high
        for found in (clustered_share([campaign() for _ in range(60)]) for _ in range(300))
    )
    assert covered >= 0.92 * 300


def test_the_bootstrap_of_campaigns_agrees_when_there_are_many() -> None:
    drawn = random.Random(3)
    clusters = [(drawn.choice([0, 0, 0, 0, 7]), 28) for _ in range(300)]
    found, second = clustered_share(clusters), bootstrapped_share(clusters)
    assert second == pytest.approx((found.low, found.high), rel=0.1)


def test_one_campaign_has_no_bootstrap() -> None:
    assert bootstrapped_share([(1, 28)]) is None


# A/A.


def test_eight_arms_are_compared_in_all_28_pairs() -> None:
    counted = false_alarms.count([only(eight_arms())])
    assert sum(counted[each] for each in Verdict) == 28


def test_the_level_of_an_aa_verdict_is_that_of_seven_contenders() -> None:
    assert only(eight_arms()).level == pytest.approx(1 - 0.05 / 7)


def test_an_arm_that_is_slower_is_called_different_from_the_seven_others() -> None:
    counted = false_alarms.count([only(eight_arms(last=1.05))])
    assert counted[Verdict.FASTER] + counted[Verdict.SLOWER] == 7
    assert counted[false_alarms.MISSED] >= 7


def test_a_campaign_of_too_few_blocks_is_no_comparison() -> None:
    counted = false_alarms.count([only(eight_arms(blocks=8))])
    assert counted == {false_alarms.TOO_FEW: 28}
    good = Counter[str]({Verdict.EQUIVALENT: 28})
    assert "too few blocks for a verdict 28 pairs" in false_alarms.ours({"wall": [counted, good]})
    assert false_alarms.ours({"wall": [counted]}) == "No comparison yet."


def test_identical_arms_are_hardly_ever_called_different_and_plain_intervals_miss_one_time_in_twenty() -> None:
    counted = [false_alarms.count([only(eight_arms(seed, noise=0.02))]) for seed in range(40)]
    called, missed = (
        clustered_share([(sum(each[one] for one in what), 28) for each in counted])
        for what in ((Verdict.FASTER, Verdict.SLOWER), (false_alarms.MISSED,))
    )
    assert called.hits == 0
    assert missed.low < 0.05 < missed.high


def test_the_aa_table_says_what_was_not_reached() -> None:
    good = Counter[str]({Verdict.EQUIVALENT: 28})
    bad = Counter[str]({Verdict.SLOWER: 7, Verdict.EQUIVALENT: 21, false_alarms.MISSED: 7})
    assert "NOT" not in false_alarms.ours({"wall": [good] * 40})
    assert "different at most 1 %: NOT reached" in false_alarms.ours({"wall": [good] * 20 + [bad] * 20})
    assert "1,000 comparisons: NOT reached" in false_alarms.ours({"wall": [good] * 2})


# Stock pyperf.


def stock_file(values: Sequence[Sequence[float]]) -> pyperf.Benchmark:
    """Make a file's worth of processes that take two seconds each."""
    start = datetime(2026, 11, 20, tzinfo=UTC)
    runs = [
        pyperf.Run(
            each,
            metadata={"name": "x", "date": str(start + timedelta(seconds=2 * number)), "duration": 2.0},
            collect_metadata=False,
        )
        for number, each in enumerate(values)
    ]
    return pyperf.Benchmark(runs)


def drawn_file(seed: int, centre: float = 1.0, spread: float = 0.01) -> pyperf.Benchmark:
    drawn = random.Random(seed)
    return stock_file([[drawn.gauss(centre, spread) for _ in range(3)] for _ in range(20)])


@pytest.mark.parametrize("seed", range(8))
def test_pyperf_calls_significant_what_students_test_does(seed: int) -> None:
    pair = drawn_file(seed), drawn_file(seed + 100, 1.004)
    exact = stats.ttest_ind(pair[0].get_values(), pair[1].get_values()).pvalue < 0.05
    assert stock.compared(pair).significant == exact


def test_a_difference_has_the_same_size_either_way() -> None:
    slow, fast = drawn_file(1, 1.1, 1e-9), drawn_file(2, 1.0, 1e-9)
    assert stock.compared((slow, fast)).size == pytest.approx(0.1)
    assert stock.compared((fast, slow)).size == pytest.approx(0.1)


def test_the_half_width_of_stock_pyperf_is_that_of_the_t_interval() -> None:
    pair = drawn_file(1), drawn_file(2)
    first, second = (np.array(each.get_values()[:15]) for each in pair)
    pooled = math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)
    expected = stats.t.ppf(0.975, 28) * pooled * math.sqrt(2 / 15) / first.mean()
    assert stock.half_width(pair, 5) == pytest.approx(expected)


def test_more_processes_than_there_are_have_no_half_width() -> None:
    assert stock.half_width((drawn_file(1), drawn_file(2)), 21) is None
    assert stock.half_width((drawn_file(1), drawn_file(2)), 0) is None


def test_a_process_of_stock_pyperf_takes_its_share_of_the_file() -> None:
    assert stock.process_seconds((drawn_file(1), drawn_file(2))) == 2


# Series, precision.


def test_blocks_are_cut_by_the_time_that_they_took() -> None:
    series = replace(only(eight_arms(blocks=5)), seconds=(10.0, 10.0, 25.0, 10.0, 10.0))
    assert len(series.until(45).values) == 3
    assert len(series.until(44).values) == 2
    # The last two might have been followed by more.
    assert [each.seconds for each in series.spans(25)] == [(10.0, 10.0), (25.0,)]


def test_a_block_that_is_longer_than_a_span_is_a_span_by_itself() -> None:
    series = replace(only(eight_arms(blocks=3)), seconds=(90.0, 10.0, 90.0))
    assert [each.seconds for each in series.spans(60)] == [(90.0,), (10.0,)]


def test_field_blocks_are_apart() -> None:
    campaign = fake_campaign(blocks=8, field_blocks=3, cases=(BOTH,))
    assert len(only(campaign).values) == 8
    assert len(only(campaign, field=True).values) == 3


def test_the_faults_are_those_of_the_sides_that_a_contender_plays() -> None:
    faults = {series.case.role: accuracy.median_faults(series, "trio") for series in series_of(fake_campaign())}
    assert faults == {"server": 0.25, "client": 0.5, "both": 0.75}


def test_every_pair_of_arms_has_a_half_width_from_every_campaign() -> None:
    found = precision.half_widths([only(fake_campaign(seed, cases=(BOTH,))) for seed in range(3)])
    assert len(found) == 10
    assert {len(each) for each in found.values()} == {3}


def test_a_design_gets_narrower_with_time_and_has_no_point_before_six_blocks() -> None:
    all_series = [
        replace(only(fake_campaign(seed, blocks=40, cases=(BOTH,))), seconds=(5.0,) * 40) for seed in range(3)
    ]
    points = list(precision.curve("wall", "x", lambda seconds: [each.until(seconds) for each in all_series], 180))
    assert [each.seconds for each in points] == [30, 45, 60, 90, 120, 150, 180]
    assert points[-1].middle < 0.6 * points[0].middle
    assert all(each.middle <= each.widest for each in points)


def test_stock_pyperf_gets_a_fifth_of_the_time_for_each_file() -> None:
    pair = drawn_file(1), drawn_file(2)
    points = {each.seconds: each.middle for each in precision.stock_curve("wall", [pair], 240)}
    assert points[60] == stock.half_width(pair, 6)
    assert max(points) == 180  # 20 processes of 2 s in 200 s


def test_the_precision_table_judges_the_median_of_every_pair() -> None:
    narrow = [only(fake_campaign(seed, cases=(BOTH,), noise=0.002)) for seed in range(3)]
    wide = [only(fake_campaign(seed, cases=(BOTH,), noise=0.05)) for seed in range(3)]
    assert "0.5 %: reached" in precision.pairs_table([narrow])
    assert "0.5 %: NOT reached" in precision.pairs_table([wide])


# One minute.


def two_arms(blocks: int, **options: Any) -> Series:
    series = only(eight_arms(blocks=blocks, **options))
    return replace(series, arms=(series.arms[0], series.arms[-1]), seconds=(20.0,) * blocks)


def test_a_campaign_has_an_error_for_each_minute_that_is_over() -> None:
    # The seventh block is what shows that the second minute was over.
    assert len(list(minute.errors(two_arms(7)))) == 2


def test_an_error_is_a_distance_from_one() -> None:
    assert list(minute.errors(two_arms(4, last=0.9, noise=0.0))) == pytest.approx([1 / 0.9 - 1])


def test_the_minute_table_asks_for_a_hundred_minutes_within_bounds() -> None:
    assert ": reached" in minute.errors_table([0.001] * 100)
    assert "NOT reached" in minute.errors_table([0.001] * 99)
    assert "NOT reached" in minute.errors_table([0.001] * 99 + [0.011])
    assert "NOT reached" in minute.errors_table([0.001] * 80 + [0.006] * 20)


# Power.


def nulls(spread: float) -> list[list[float]]:
    drawn = random.Random(5)
    return [[drawn.gauss(0, spread) for _ in range(20)] for _ in range(4)]


def test_a_difference_far_above_the_noise_is_always_found() -> None:
    found = power.power(nulls(0.002), 0.02, 0.98, 0.01, 50)
    assert (found.resamples, found.called, found.excluded, found.wrong) == (200, 200, 200, 0)


def test_a_difference_far_below_the_noise_is_hardly_found() -> None:
    found = power.power(nulls(0.2), 0.02, 0.98, 0.01, 50)
    assert found.called <= 10
    assert found.excluded <= 30


def test_without_a_difference_the_plain_interval_errs_to_both_sides_one_time_in_twenty() -> None:
    found = power.power(nulls(0.01), 0.0, 0.98, 0.01, 500)
    assert 0.01 < found.wrong / found.resamples < 0.04
    assert 0.01 < found.excluded / found.resamples < 0.04


def test_what_a_campaign_found_between_identical_arms_does_not_count_as_a_difference() -> None:
    """A twin that came out 1 % slower by chance must not make a true 2 % into 3 %."""
    shifted = [[each + 0.01 for each in null] for null in nulls(0.001)]
    assert power.power(shifted, 0.0, 0.98, 0.005, 100).called == 0


def test_resampling_gives_the_same_again() -> None:
    assert power.power(nulls(0.01), 0.02, 0.98, 0.01, 20) == power.power(nulls(0.01), 0.02, 0.98, 0.01, 20)


def with_control(seed: int, control: float = 1.02) -> Campaign:
    return fake_campaign(seed, blocks=20, effects={}, control=control, cases=(BOTH,), noise=0.002)


def test_a_real_control_of_two_percent_is_in_the_table_as_found() -> None:
    table = power.controls_table([with_control(1)])
    assert re.search(r"\| slower +\| yes +\| passed", table)


def test_campaigns_with_a_control_are_resampled_like_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "RESAMPLES", 5)
    (line,) = shelf.lines("control")
    put(tmp_path / "control" / line.name, with_control(1))
    arms = len(series_of(with_control(1))[0].arms)
    assert re.search(rf"wall, 1 at a time, {arms} arms +\| 1 +\| 2 % +\| 5 ", power.rendered(tmp_path))


def test_a_control_of_five_percent_is_not_what_was_added() -> None:
    assert re.search(r"\| slower +\| no +\| INVALID", power.controls_table([with_control(1, 1.05)]))


def test_a_control_in_too_few_blocks_is_told() -> None:
    campaign = fake_campaign(1, blocks=3, effects={}, control=1.02, cases=(BOTH,))
    assert "too few blocks" in power.controls_table([campaign])


# Accuracy.


def test_a_ratio_that_changes_is_found_and_the_others_are_not() -> None:
    old = only(fake_campaign(1, blocks=20, cases=(SERVER,), noise=0.002))
    new = only(
        fake_campaign(
            2,
            blocks=20,
            cases=(SERVER,),
            effects={"uvloop": 0.85, "trio": 1.15 * 1.05, "anyio+uvloop": 0.95},
            noise=0.002,
        )
    )
    trio, uvloop = accuracy.changed(old, new, "trio"), accuracy.changed(old, new, "uvloop")
    assert trio.ratio == pytest.approx(1.05, abs=0.005)
    assert uvloop.ratio == pytest.approx(1, abs=0.005)
    assert "within 1 %: NOT reached (largest" in accuracy.agreement_table([(old, new)], "old", "new")
    assert "within 1 %: reached (largest" in accuracy.agreement_table([(old, old)], "old", "old")


def test_faults_that_differ_by_more_than_one_are_told() -> None:
    forked = only(fake_campaign(1, cases=(CLIENT,)))
    fresh = replace(forked, faults=tuple(dict.fromkeys(row, 3.0) for row in forked.faults))
    assert "within 1: NOT reached (largest 2.50)" in accuracy.agreement_table([(forked, fresh)], "forked", "fresh")


def campaigns_of_trio(effects: Sequence[float]) -> list[Series]:
    return [
        only(fake_campaign(seed, blocks=10, cases=(SERVER,), noise=0.002, effects={"trio": effect}))
        for seed, effect in enumerate(effects)
    ]


def test_campaigns_that_lie_further_apart_than_their_blocks_tell_are_seen() -> None:
    between, explained = accuracy.spread_between(campaigns_of_trio([1.0, 1.03, 1.06]), "trio")
    assert between == pytest.approx(0.029, abs=0.002)
    assert explained < 0.002
    between, explained = accuracy.spread_between(campaigns_of_trio([1.2] * 12), "trio")
    assert between == pytest.approx(explained, rel=0.5)


def test_repeated_campaigns_have_a_row_and_their_twin_has_cells_of_its_own() -> None:
    apart = campaigns_of_trio([1.0, 1.03, 1.06])
    table = accuracy.repeats_table({("sliced", "server-100"): apart, ("fresh", "server-100"): apart[:1]})
    (row,) = (line for line in table.splitlines() if "slices" in line)
    assert "fresh" not in table
    *_, contenders, _, twin, _, _ = (cell.strip() for cell in row.split("|"))
    assert float(contenders.removesuffix(" %")) > 2
    assert float(twin.removesuffix(" %")) < 0.5


def test_circumstances_are_compared_with_the_usual_campaigns_of_the_same_case() -> None:
    usual = {"server-100": only(fake_campaign(1, cases=(SERVER,)))}
    table = accuracy.circumstances_table(usual, {"no-gc": {"server-100": only(fake_campaign(2, cases=(SERVER,)))}})
    (row,) = (line for line in table.splitlines() if "no-gc" in line)
    assert row.count("%") == 4  # the twin and three contenders


# Collecting.

RUNS = [pytest.param(line, id=f"{name} {line.name}") for name, study in STUDIES.items() for line in study.lines]


@pytest.mark.parametrize("line", RUNS)
def test_what_a_study_types_is_understood(line: Line, tmp_path: Path) -> None:
    for command in collect.commands(line, "python", tmp_path):
        words = command[command.index("-m") + 1 :]
        if line.stock:
            options = dict(zip(line.arguments[::2], line.arguments[1::2], strict=True))
            assert words[0] == "loopmark.cell"
            assert options["--metric"] in METRICS
        else:
            assert words[:2] == ["loopmark", "run"]
            assert cli.commands["run"] is measuring.run
            measuring.run.make_context("run", words[2:])


def test_no_two_lines_of_a_study_share_a_directory() -> None:
    for study in STUDIES.values():
        names = [line.name for line in study.lines]
        assert len(set(names)) == len(names)


def test_the_line_that_is_furthest_behind_is_next() -> None:
    first, second = (Line(case=case, wanted=1, seconds=1) for case in ("both-1", "server-100"))
    wanted = {"both-1": 4, "server-100": 2}
    assert collect.following([first, second], wanted, {"both-1": 2, "server-100": 1}) is first
    assert collect.following([first, second], wanted, {"both-1": 3, "server-100": 1}) is second
    assert collect.following([first, second], wanted, {"both-1": 4, "server-100": 2}) is None


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Let campaigns be ready at once, and end as the list says, one after the other."""
    ends: list[str] = []

    def commands(line: Line, python: str, directory: Path) -> list[list[str]]:
        campaign = fake_campaign(cases=(BOTH,), blocks=1)
        campaign.ended = ends.pop(0)
        store.write(store.create(tmp_path / "made", campaign), campaign)
        move = "import shutil, sys; shutil.move(sys.argv[1], sys.argv[2])"
        (made,) = (tmp_path / "made").iterdir()
        target = directory / f"{made.name}-{len(ends)}"
        return [[sys.executable, "-c", move, str(made), str(target)]]

    monkeypatch.setattr(collect, "commands", commands)
    return ends


def test_a_study_is_complete_when_each_line_has_its_results(ended: list[str], tmp_path: Path) -> None:
    ended += ["done", "time cap", "time cap"]
    collect.collect("control", tmp_path, campaigns=2)
    assert len(shelf.campaigns(tmp_path, "control", "both-1")) == 2
    collect.collect("control", tmp_path, campaigns=2)
    assert ended == ["time cap"]
    collect.collect("control", tmp_path, campaigns=3)
    assert len(shelf.complete(tmp_path, "control", "both-1")) == 3


def test_a_campaign_that_ended_early_is_not_counted_and_run_again(
    ended: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended += ["the block's interpreter died", "done"]
    collect.collect("control", tmp_path, campaigns=1)
    assert ended == []
    assert len(shelf.complete(tmp_path, "control", "both-1")) == 1
    assert "it ended early (the block's interpreter died)" in capsys.readouterr().err


def test_an_interrupt_ends_the_command_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command interrupts whoever started it, and would then go on for longer than the test may."""
    code = "import os, signal; os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
    monkeypatch.setattr(collect, "commands", lambda *_: [[sys.executable, "-c", code]])
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert collect.main(["control", "--results", str(tmp_path)]) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list((tmp_path / "control" / "both-1").iterdir()) == []


def test_a_command_that_always_fails_ends_the_collecting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(collect, "commands", lambda *_: [[sys.executable, "-c", "raise SystemExit(2)"]])
    with pytest.raises(collect.CollectError, match="status 2"):
        collect.collect("control", tmp_path, campaigns=1)
    assert list((tmp_path / "control" / "both-1").iterdir()) == []


def test_one_failed_file_of_stock_pyperf_is_no_pair(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fail = [sys.executable, "-c", "raise SystemExit(1)"]
    asked = collect.commands
    monkeypatch.setattr(collect, "commands", lambda *how: [[*fail, *each] for each in asked(*how)])
    with pytest.raises(collect.CollectError, match="status 1"):
        collect.collect("aa", tmp_path, campaigns=1, only=["stock-both-1"])
    assert shelf.complete(tmp_path, "aa", "stock-both-1") == []


def test_a_line_that_a_study_does_not_have_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        collect.main(["aa", "--only", "both-2"])
    assert "aa has no line both-2: give any of both-1, server-100" in capsys.readouterr().err


# Rendering.


def put(directory: Path, result: Campaign | Counts) -> None:
    """Put a campaign, timed or counted, among a line's results, as collecting does."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as elsewhere:
        if isinstance(result, Counts):
            made = store.create(Path(elsewhere), result.campaign)
            store.write_counts(made, result)
        else:
            made = store.create(Path(elsewhere), result)
            store.write(made, result)
        shelf.pack(made, directory)


def filled(results: Path) -> None:
    """Put one or two simulated results of every line onto the shelf."""
    for name, study in STUDIES.items():
        for line in study.lines:
            if line.stock:
                for number in range(2):
                    directory = results / name / line.name / str(number)
                    directory.mkdir(parents=True)
                    for seed, file in enumerate(shelf.STOCK_FILES):
                        drawn_file(10 * number + seed).dump(str(directory / file))
                continue
            for seed in range(2 if name in ("aa", "precision") else 1):
                case = {"both-1": BOTH, "server-100": SERVER, "client-100": CLIENT}.get(line.case, BOTH)
                match name:
                    case "hardening-instructions":
                        put(results / name / line.name, counted_beside_before(0.001))
                        continue
                    case "by-hand":
                        campaign = beside_hand(seed)
                    case "hardening":
                        campaign = beside_before(seed)
                    case "control":
                        campaign = with_control(seed)
                    case "aa":
                        campaign = fake_campaign(seed, twins=7, effects={}, blocks=10, cases=(case,), values=1)
                    case "known":
                        campaign = fake_campaign(seed, effects={known.LABEL: 1.05}, blocks=10, cases=(case,))
                    case "minute":
                        campaign = fake_campaign(seed, effects={}, blocks=100, cases=(case,), values=1)
                    case _:
                        campaign = fake_campaign(seed, blocks=20, field_blocks=8, cases=(case,), values=2)
                put(results / name / line.name, campaign)


def test_every_section_can_be_written_into_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "RESAMPLES", 5)
    monkeypatch.setattr(analyse, "_drawn", lambda *_: "![chart](half-width.svg)")
    filled(tmp_path / "results")
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs/studies.md").read_text(encoding="utf-8"), encoding="utf-8")
    assert analyse.main(["--results", str(tmp_path / "results"), "--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    sections = dict(re.findall(r"<!-- study: (\S+) -->\n(.*?)<!-- /study -->", text, re.DOTALL))
    assert all(" | " in section for section in sections.values())
    assert "yet" not in "".join(sections.values())
    assert "stock pyperf's" in sections["width"]
    assert "field blocks" in sections["width"]


def test_the_page_has_a_place_for_every_section() -> None:
    page = (ROOT / "docs/studies.md").read_text(encoding="utf-8")
    assert re.findall(r"<!-- study: (\S+) -->", page) == list(analyse.SECTIONS)


def test_the_page_tells_the_time_that_studies_take_today() -> None:
    page = (ROOT / "docs/studies.md").read_text(encoding="utf-8")
    assert analyse.replaced(page, "times", analyse.times()) == page


@pytest.mark.parametrize("name", analyse.SECTIONS)
def test_the_page_shows_what_is_recorded(name: str) -> None:
    page = (ROOT / "docs/studies.md").read_text(encoding="utf-8")
    # The chart, which is drawn with what the tests do not need, comes behind.
    assert f"<!-- study: {name} -->\n\n{analyse.SECTIONS[name](shelf.RESULTS)}\n" in page


def test_the_readme_tells_of_false_and_true_alarms_what_the_page_shows() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    told = re.findall(r"(\d+) of ([\d,]+) comparisons called it different", readme)
    page = (ROOT / "docs/studies.md").read_text(encoding="utf-8")
    counted = re.findall(r"^\| all +\| \d+ +\| ([\d,]+) +\|[^|]+\| (\d+) \(", page, re.MULTILINE)
    assert told == [(called, made) for made, called in counted]
    controls = re.findall(r"^\| \d+ +\| \d+ +\| [\d.]+ \[.*?\| (\w+) +\|", page, re.MULTILINE)
    (found,) = re.findall(r"called slower in (\d+) of (\d+) campaigns", readme)
    assert found == (str(controls.count("slower")), str(len(controls)))


def test_a_page_without_a_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 places for <!-- study: aa -->"):
        analyse.replaced("nothing here", "aa", "text")


@pytest.mark.parametrize("name", analyse.SECTIONS)
def test_a_section_of_which_nothing_was_measured_says_so_or_is_a_table(name: str, tmp_path: Path) -> None:
    text = analyse.SECTIONS[name](tmp_path)
    assert " yet." in text or name == "times"


def test_the_chart_has_a_line_for_every_design(tmp_path: Path) -> None:
    pytest.importorskip("altair", reason="the chart needs the dependency group studies")
    import chart

    points = [
        precision.Point(case="wall", design=design, seconds=seconds, middle=0.1 / seconds, widest=0.2 / seconds)
        for design in ("loopmark", "fresh processes")
        for seconds in (30, 60, 90)
    ]
    chart.draw(points, tmp_path / "chart.svg")
    svg = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    assert "fresh processes" in svg
    assert svg.count('aria-roledescription="line mark"') == 2


def test_joined_series_have_the_blocks_of_all() -> None:
    parts = [only(fake_campaign(seed, cases=(BOTH,))) for seed in range(3)]
    assert len(joined(parts).differences("trio", TWIN)) == 24


def test_a_case_is_named_by_its_primary_metric() -> None:
    assert [titled(case) for case in (BOTH, SERVER, CLIENT)] == [
        "wall, 1 at a time",
        "server CPU, 100 at a time",
        "client CPU, 100 at a time",
    ]
    assert len(CASES) == 3


# By hand


def beside_hand(seed: int, *, ratio: float = 1.0, blocks: int = 10, noise: float = 0.001) -> Campaign:
    """Simulate asyncio beside hand-written code that is faster by this ratio."""
    effects = {"hand-asyncio": 1 / ratio}
    return fake_campaign(seed, effects=effects, hidden=["hand-asyncio"], cases=(BOTH,), noise=noise, blocks=blocks)


def test_blocks_of_several_campaigns_are_compared_with_hand_written_code_together() -> None:
    found = by_hand.compared([beside_hand(seed, ratio=1.05) for seed in range(3)])
    (estimate,) = found.values()
    assert list(found) == [("asyncio", BOTH)]
    assert estimate.blocks == 30
    assert estimate.low is not None
    assert estimate.high is not None
    assert 1.04 < estimate.low < 1.05 < estimate.high < 1.06


@pytest.mark.parametrize(
    ("ratio", "blocks", "said"),
    [
        (1.0, 10, "1 of 1, reached. Wholly above 1.02: 0; wholly above 1: 0."),
        (1.01, 10, "1 of 1, reached. Wholly above 1.02: 0; wholly above 1: 1."),
        (1.05, 10, "0 of 1, NOT reached. Wholly above 1.02: 1; wholly above 1: 1."),
        (1.0, 5, "0 of 1, NOT reached. Wholly above 1.02: 0; wholly above 1: 0."),
    ],
)
def test_the_limit_is_for_the_upper_end(ratio: float, blocks: int, said: str) -> None:
    campaign = beside_hand(1, ratio=ratio, blocks=blocks, noise=0.0005)
    assert by_hand.ratios_table(by_hand.compared([campaign])).endswith(said)


def beside_before(seed: int, *, ratio: float = 1.0, blocks: int = 20, noise: float = 0.001) -> Campaign:
    """Simulate asyncio beside itself as it was, faster by this ratio."""
    effects = {"before-asyncio": 1 / ratio}
    return fake_campaign(seed, effects=effects, hidden=["before-asyncio"], cases=(BOTH,), noise=noise, blocks=blocks)


@pytest.mark.parametrize(
    ("ratio", "noise", "said"),
    [
        (1.0, 0.0005, "1 of 1, reached. Slower: 0; faster: 0; no slower: 1; holds 1: 1"),
        (1.02, 0.0005, "0 of 1, NOT reached. Slower: 1; faster: 0; no slower: 0; holds 1: 0"),
        (0.98, 0.0005, "0 of 1, NOT reached. Slower: 0; faster: 1; no slower: 1; holds 1: 0"),
        (1.0, 0.1, "0 of 1, NOT reached. Slower: 0; faster: 0; no slower: 0; holds 1: 1"),
    ],
)
def test_what_hardening_costs_is_judged_by_half_a_percent(ratio: float, noise: float, said: str) -> None:
    found = by_hand.compared([beside_before(1, ratio=ratio, noise=noise)], "before-")
    shortened = (
        hardening.verdicts_table(found)
        .replace("Slower by more than that", "Slower")
        .replace("not slower by more than that, whatever else", "no slower")
        .replace("with an interval that holds 1", "holds 1")
    )
    assert shortened.endswith(f"{said}.")


def counted_beside_before(share: float, *, twin: float = 0.0) -> Counts:
    """Simulate what asyncio's server executes, so much more than it did before; counted again, its twin differs."""
    campaign = fake_campaign(1, effects={"before-asyncio": 1}, cases=(SERVER,), blocks=0)
    campaign.mode = MODE
    executed = {"asyncio": 1000 * (1 + share), "before-asyncio": 1000, TWIN: 1000 * (1 + share) * (1 + twin)}
    counts = [
        Count(case=SERVER.name, arm=arm, side="server", layouts=(2 * count, count), connections=100, facts={})
        for arm, count in executed.items()
    ]
    return Counts(campaign=campaign, counts=counts)


@pytest.mark.parametrize(
    ("share", "cell", "said"),
    [
        (0.004, "+0.40 %", "1 of 1, reached. The same contender counted twice differs by up to 0.10 %."),
        (0.006, "+0.60 %", "0 of 1, NOT reached. The same contender counted twice differs by up to 0.10 %."),
        (-0.2, "-20.00 %", "1 of 1, reached. The same contender counted twice differs by up to 0.10 %."),
    ],
)
def test_what_is_executed_more_since_hardening_is_told(share: float, cell: str, said: str) -> None:
    text = hardening.growth_table(hardening.growths([counted_beside_before(share, twin=0.001)]))
    assert f"1,000 to {1000 * (1 + share):,.0f}, {cell}" in text
    assert text.endswith(said)


def test_counts_come_back_from_the_shelf_as_they_were(tmp_path: Path) -> None:
    put(tmp_path / "hardening-instructions" / "trio-tls_pingpong", counted_beside_before(0.1))
    assert shelf.counts(tmp_path, "hardening-instructions", "trio-tls_pingpong") == [counted_beside_before(0.1)]


def test_contenders_as_they_were_ask_for_their_old_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPMARK_BEFORE", str(tmp_path))
    with pytest.raises(UsageError, match="name that in LOOPMARK_BEFORE"):
        registry(ROOT / "studies" / "before.py")


def test_a_campaign_comes_back_from_the_shelf_as_it_was(tmp_path: Path) -> None:
    put(tmp_path / "aa" / "both-1", eight_arms())
    (path,) = shelf.complete(tmp_path, "aa", "both-1")
    assert path.name.endswith(".json.xz")
    assert shelf.campaigns(tmp_path, "aa", "both-1") == [eight_arms()]


# A known difference


def test_what_a_busy_client_needs_more_is_found_in_seconds_of_client_cpu() -> None:
    found = known.added(fake_campaign(1, effects={known.LABEL: 1.1}, cases=(BOTH,), noise=1e-9, blocks=6))
    usual = [
        median(block.measurements["asyncio"].client_cpu)
        for block in fake_campaign(1, effects={known.LABEL: 1.1}, cases=(BOTH,), noise=1e-9, blocks=6).blocks
    ]
    assert found == pytest.approx([0.1 * each for each in usual], rel=1e-4)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin processes")
def test_a_pause_is_as_long_as_it_was_to_be_by_its_own_clock() -> None:
    command = [sys.executable, str(Path(pause.__file__)), "--seconds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    rows = [[float(cell) for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    assert len(rows) == len(pause.SPINS)
    for (count, loop, after, both), spin in zip(rows, pause.SPINS, strict=True):
        assert count == 1
        assert loop >= round(1e6 * spin)
        assert after > 0
        assert both == pytest.approx(loop + after, abs=2)


def test_a_campaign_that_finds_another_size_says_so(tmp_path: Path) -> None:
    campaign = fake_campaign(1, effects={known.LABEL: 1.5}, cases=(BOTH,), noise=0.001, blocks=10)
    put(tmp_path / "known" / "both-1", campaign)
    assert known.rendered(tmp_path).split("|")[-2].strip() == "no"
