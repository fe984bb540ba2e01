import csv
import io
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from tests.campaigns import BOTH, CLIENT, MACHINE, SERVER, TWIN, fake_campaign

from loopmark.errors import UsageError
from loopmark.record import Campaign, Kind, Outcome
from loopmark.regression import Finding, Regression, Row, regression
from loopmark.report import regression_report
from loopmark.stats import change_interval, log_ratios

LATER = "2026-11-21T09:15:00Z"
EFFECTS = {"uvloop": 0.85, "trio": 1.15}


def old_campaign(**options: Any) -> Campaign:
    given = {"seed": 1, "blocks": 10, "noise": 0.005, "cases": [BOTH], "effects": EFFECTS}
    campaign = fake_campaign(**{**given, **options})
    campaign.machine = deepcopy(MACHINE)
    campaign.machine["distributions"] = {"uvloop": ["uvloop"], "trio": ["trio"]}
    return campaign


def new_campaign(**options: Any) -> Campaign:
    campaign = old_campaign(**{"seed": 2, **options})
    campaign.started = LATER
    return campaign


def gated(old: Campaign, new: Campaign, threshold: float = 0.03) -> Regression:
    found = regression(old, new, threshold)
    assert found.refusals == ()
    return found


def row_of(found: Regression, arm: str, case: str = BOTH.name) -> Row:
    (row,) = (row for row in found.rows if (row.arm, row.case) == (arm, case))
    return row


def text_of(found: Regression) -> str:
    return " ".join(regression_report(found).split())


# What it finds


def test_a_contender_that_became_slower_by_more_than_the_threshold_fails() -> None:
    found = gated(old_campaign(), new_campaign(effects={"uvloop": 0.85 * 1.06, "trio": 1.15}))
    assert [row.arm for row in found.slower] == ["uvloop"]
    assert row_of(found, "uvloop").change.ratio == pytest.approx(1.06, rel=0.005)
    assert "FAILED: slower by more than 3 %: uvloop 1.06" in text_of(found)


def test_what_stayed_as_it_was_passes() -> None:
    found = gated(old_campaign(), new_campaign())
    assert found.slower == found.untested == ()
    assert {row.finding for row in found.rows} == {Finding.PASSED}


def test_a_contender_that_became_faster_passes() -> None:
    found = gated(old_campaign(), new_campaign(effects={"uvloop": 0.6, "trio": 1.15}))
    assert found.slower == ()


def test_a_change_that_is_sure_but_smaller_than_the_threshold_passes() -> None:
    found = gated(old_campaign(noise=0.001), new_campaign(noise=0.001, effects={"uvloop": 0.867, "trio": 1.15}))
    row = row_of(found, "uvloop")
    assert row.change.low is not None
    assert 1.01 < row.change.low < row.change.ratio < 1.03
    assert row.finding is Finding.PASSED


def test_an_interval_that_reaches_across_the_threshold_does_not_fail() -> None:
    found = gated(old_campaign(), new_campaign(effects={"uvloop": 0.85 * 1.031, "trio": 1.15}))
    row = row_of(found, "uvloop")
    assert row.change.low is not None
    assert row.change.high is not None
    assert row.change.low < 1.03 < row.change.high
    assert found.slower == ()


def test_a_slower_machine_is_no_slower_contender() -> None:
    new = new_campaign()
    for block in new.blocks:
        for label, each in block.measurements.items():
            block.measurements[label] = replace(each, wall=tuple(2 * value for value in each.wall))
    assert gated(old_campaign(), new).slower == ()


def test_a_row_is_the_two_sample_estimate_of_the_blocks_log_ratios() -> None:
    old, new = old_campaign(), new_campaign(blocks=12)

    def differences(campaign: Campaign) -> list[float]:
        uvloop, asyncio = ([block.measurements[arm].wall for block in campaign.blocks] for arm in ("uvloop", "asyncio"))
        return log_ratios(uvloop, asyncio)

    row = row_of(gated(old, new), "uvloop")
    assert row.change == change_interval(differences(old), differences(new), 0.975)
    assert (row.old.blocks, row.new.blocks) == (10, 12)
    assert row.change.ratio == pytest.approx(row.new.ratio / row.old.ratio, rel=0.005)


def test_the_primary_metric_of_each_case_is_what_counts() -> None:
    cases = [SERVER, CLIENT, BOTH]
    found = gated(old_campaign(cases=cases), new_campaign(cases=cases, effects={"uvloop": 0.95, "trio": 1.15}))
    assert {(row.case, row.metric) for row in found.rows} == {(case.name, case.primary) for case in cases}
    assert len(found.slower) == 3


def test_field_blocks_do_not_count() -> None:
    options = {"field_blocks": 3, "field_effects": {"uvloop": 5.0, "trio": 5.0}}
    found = gated(old_campaign(), new_campaign(**options))
    assert row_of(found, "uvloop").new.blocks == 10
    assert found.slower == ()


def test_hidden_arms_controls_and_floors_have_no_row() -> None:
    options = {"effects": {**EFFECTS, "mine": 1.0}, "hidden": ["mine"], "control": 1.02}
    found = gated(old_campaign(**options), new_campaign(**options))
    assert [(row.arm, row.kind) for row in found.rows] == [
        ("uvloop", Kind.CONTENDER),
        ("trio", Kind.CONTENDER),
        (TWIN, Kind.TWIN),
    ]


# Intervals against the true change, both campaigns simulated anew each time.
def test_at_a_true_change_of_the_threshold_the_gate_fails_as_seldom_as_its_level_says() -> None:
    failed = 0
    for seed in range(400):
        old = old_campaign(seed=2 * seed, blocks=8, values=1, effects={"uvloop": 0.85}, floor=False)
        new = new_campaign(seed=2 * seed + 1, blocks=8, values=1, effects={"uvloop": 0.85 * 1.03}, floor=False)
        failed += bool(regression(old, new, 0.03).slower)
    # 10 are expected at most; more than 19 have a probability below one in 200.
    assert failed <= 19


# What it could have seen


def test_noise_that_hides_the_threshold_is_named() -> None:
    found = gated(old_campaign(noise=0.12, seed=3), new_campaign(noise=0.12))
    assert found.slower == ()
    assert {row.arm for row in found.untested} == {"uvloop", "trio"}
    assert "Not tested well enough" in text_of(found)
    assert "uvloop" in text_of(found).partition("Not tested well enough")[2]


def test_a_wide_interval_that_lies_beyond_the_threshold_fails_all_the_same() -> None:
    found = gated(old_campaign(noise=0.12, seed=3), new_campaign(noise=0.12, effects={"uvloop": 2.0, "trio": 1.15}))
    assert [row.arm for row in found.slower] == ["uvloop"]
    assert [row.arm for row in found.untested] == ["trio"]


def test_the_largest_half_width_is_told_with_what_it_takes_to_fail() -> None:
    found = gated(old_campaign(), new_campaign())
    widths = [row.change.half_width for row in found.rows if row.kind is Kind.CONTENDER]
    assert found.widest == max(width for width in widths if width)
    text = text_of(found)
    assert f"The widest one is +-{100 * found.widest:.2f}"[:-1] in text
    assert f"A true one of {100 * (1.03 * (1 + found.widest) - 1):.1f} % fails this gate every other time" in text


# What it refuses

Change = Callable[[Campaign], object]


def refused(old: Campaign, new: Campaign, *words: str) -> tuple[str, ...]:
    found = regression(old, new, 0.03)
    text = "\n".join(found.refusals)
    assert found.refusals
    assert all("\n" not in refusal for refusal in found.refusals)
    for word in words:
        assert word in text
    return found.refusals


def set_in(*path: str, to: Any) -> Change:
    def change(campaign: Campaign) -> None:
        found = campaign.machine
        for step in path[:-1]:
            found = found[step]
        found[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_in("python", "version", to="3.14.0"), ["the interpreter's version is 3.13.0 in OLD and 3.14.0 in NEW"]),
        (set_in("python", "implementation", to="PyPy"), ["the interpreter is CPython in OLD and PyPy in NEW"]),
        (set_in("python", "pgo", to=True), ["profile-guided optimisation is off in OLD and on in NEW"]),
        (set_in("python", "lto", to=None), ["link-time optimisation is off in OLD and unknown in NEW"]),
        (set_in("openssl", to="OpenSSL 3.5.0"), ["OpenSSL 3.0.19", "OpenSSL 3.5.0"]),
        (set_in("libc", to="musl 1.2"), ["the C library is glibc 2.36 in OLD and musl 1.2 in NEW"]),
        (set_in("malloc", to={}), ["malloc", "MALLOC_TRIM_THRESHOLD_=67108864", "the default"]),
        (set_in("cpu", "model", to="Intel"), ["the CPU is AMD EPYC in OLD and Intel in NEW"]),
        (set_in("cpu", "physical_cores", to=4), ["physical cores is 2 in OLD and 4 in NEW"]),
        (set_in("cpu", "model", to=None), ["the CPU is AMD EPYC in OLD and unknown in NEW"]),
        (set_in("versions", "loopmark", to="0.2.0"), ["the version of loopmark is 0.1.0 in OLD and 0.2.0 in NEW"]),
    ],
)
def test_another_machine_interpreter_or_suite_is_refused(change: Change, words: list[str]) -> None:
    new = new_campaign()
    change(new)
    assert len(refused(old_campaign(), new, *words)) == 1


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (("python", "gil"), "the interpreter's lock"),
        (("python", "debug"), "the interpreter's debug mode"),
        (("python", "compiler"), "the interpreter's compiler"),
        (("cpu", "usable_cores"), "the number of usable cores"),
        (("cpu", "logical_cores"), "the number of logical cores"),
        (("architecture",), "the architecture"),
    ],
)
def test_each_fact_of_the_machine_counts(path: tuple[str, ...], told: str) -> None:
    old, new = old_campaign(), new_campaign()
    set_in(*path, to="one")(old)
    set_in(*path, to="other")(new)
    refused(old, new, f"{told} is one in OLD and other in NEW")


def test_every_difference_has_its_sentence() -> None:
    new = new_campaign()
    set_in("cpu", "model", to="Intel")(new)
    set_in("python", "version", to="3.14.0")(new)
    assert len(refused(old_campaign(), new, "Intel", "3.14.0")) == 2


@pytest.mark.parametrize("path", [("system",), ("memory_mib",), ("source", "revision"), ("sysctls",)])
def test_what_acts_on_all_alike_or_is_under_test_is_not_refused(path: tuple[str, ...]) -> None:
    new = new_campaign()
    set_in(*path, to=None)(new)
    gated(old_campaign(), new)


def test_another_version_of_a_contender_is_what_a_gate_is_for() -> None:
    new = new_campaign()
    set_in("versions", "uvloop", to="0.24.0")(new)
    gated(old_campaign(), new)


def test_another_version_of_the_baseline_is_refused() -> None:
    old, new = old_campaign(), new_campaign()
    for campaign in (old, new):
        campaign.baseline = "trio"
        plan = campaign.cases[0]
        plan.arms = tuple(replace(arm, contender="trio") if arm.kind is Kind.TWIN else arm for arm in plan.arms)
    set_in("versions", "trio", to="0.36.0")(new)
    refused(old, new, "the version of trio is 0.35.0 in OLD and 0.36.0 in NEW")


def test_another_version_of_the_fixed_peer_is_refused() -> None:
    new = new_campaign(cases=[SERVER])
    set_in("versions", "uvloop", to="0.24.0")(new)
    refused(old_campaign(cases=[SERVER]), new, "the version of uvloop is 0.23.0 in OLD and 0.24.0 in NEW")


def test_when_it_is_not_told_whose_the_versions_are_all_of_them_count() -> None:
    old, new = old_campaign(), new_campaign()
    del old.machine["distributions"]
    set_in("versions", "trio", to="0.36.0")(new)
    refused(old, new, "the version of trio")


def with_fact(campaign: Campaign, side: str, name: str, value: object, case: str = BOTH.name) -> Campaign:
    for block in campaign.blocks:
        if block.case == case:
            # The A/A twin is the baseline, and has its facts.
            for label in ("asyncio", TWIN):
                each = block.measurements[label]
                facts = {**each.facts, side: {**each.facts[side], name: value}}
                block.measurements[label] = replace(each, facts=facts)
    return campaign


@pytest.mark.parametrize(
    ("side", "name", "told"),
    [
        ("equal", "tls_version", "tls_version of the baseline's connections is TLSv1.3 in OLD and other in NEW"),
        ("equal", "cipher", "cipher of the baseline's"),
        ("client", "loop", "client.loop of the baseline's connections is asyncio.Loop in OLD and other in NEW"),
        ("server", "transport", "server.transport of the baseline's connections is unknown in OLD and other in NEW"),
    ],
)
def test_other_facts_of_the_baseline_are_refused(side: str, name: str, told: str) -> None:
    new = with_fact(new_campaign(), side, name, "other")
    (sentence,) = refused(old_campaign(), new, told)
    assert "[" not in sentence  # what holds in all cases does not name them


def test_facts_that_differ_in_one_case_only_name_it() -> None:
    cases = [SERVER, BOTH]
    new = with_fact(new_campaign(cases=cases), "equal", "cipher", "other")
    (sentence,) = refused(old_campaign(cases=cases), new)
    assert sentence.startswith(f"in {BOTH.name}, cipher")


def test_other_facts_of_a_contender_are_its_own_affair() -> None:
    new = new_campaign()
    for block in new.blocks:
        each = block.measurements["uvloop"]
        block.measurements["uvloop"] = replace(each, facts={**each.facts, "client": {"loop": "winloop.Loop"}})
    gated(old_campaign(), new)


def test_other_cases_are_refused() -> None:
    found = refused(old_campaign(cases=[SERVER, BOTH]), new_campaign(cases=[CLIENT, BOTH]))
    assert found == (f"the case {SERVER.name} is in OLD only", f"the case {CLIENT.name} is in NEW only")


def test_another_baseline_is_refused() -> None:
    new = new_campaign()
    new.baseline = "uvloop"
    refused(old_campaign(), new, "the baseline is asyncio in OLD and uvloop in NEW")


def test_a_fast_campaign_is_compared_with_a_fast_one_only() -> None:
    refused(old_campaign(mode="fast"), new_campaign(), "the mode is fast in OLD and default in NEW")
    gated(old_campaign(mode="fast"), new_campaign(mode="fast"))
    gated(old_campaign(), new_campaign(mode="rigorous"))


def test_one_seed_twice_is_not_the_same_campaign() -> None:
    assert gated(old_campaign(seed=1), new_campaign(seed=1)).rows


def test_facts_in_the_field_do_not_count() -> None:
    new = new_campaign(field_blocks=1)
    measurements = new.blocks[-1].measurements
    own = measurements["asyncio"]
    measurements["asyncio"] = replace(own, facts={**own.facts, "client": {"loop": "another"}})
    assert gated(old_campaign(), new).rows


def test_a_campaign_is_not_compared_with_itself() -> None:
    refused(old_campaign(), old_campaign(), "the same campaign")


@pytest.mark.parametrize("which", ["OLD", "NEW"])
def test_a_campaign_that_its_own_twin_calls_invalid_is_refused(which: str) -> None:
    options = {"effects": {**EFFECTS, TWIN: 1.05}}
    old = old_campaign(**options) if which == "OLD" else old_campaign()
    new = new_campaign(**options) if which == "NEW" else new_campaign()
    refused(old, new, f"{which} is not valid in {BOTH.name}", TWIN)


def test_a_mislabelled_twin_is_refused() -> None:
    new = new_campaign()
    plan = new.cases[0]
    plan.arms = tuple(replace(arm, contender="trio") if arm.label == TWIN else arm for arm in plan.arms)
    refused(old_campaign(), new, "NEW is not valid", "twin of asyncio", "trio")


def test_unequal_counts_are_refused() -> None:
    new = new_campaign()
    each = new.blocks[2].measurements["uvloop"]
    new.blocks[2].measurements["uvloop"] = replace(each, wall=each.wall[:-1])
    refused(old_campaign(), new, "NEW is not valid", "unequal counts")


def test_one_order_throughout_is_refused() -> None:
    new = new_campaign()
    order = new.blocks[0].order
    new.blocks = [replace(block, order=order, rounds=tuple(order for _ in block.rounds)) for block in new.blocks]
    refused(old_campaign(), new, "NEW is not valid", "same order")


def test_a_twin_that_changed_between_the_campaigns_is_refused() -> None:
    # Each of the two is off by less than its own margin.
    old, new = old_campaign(effects={**EFFECTS, TWIN: 0.93}), new_campaign(effects={**EFFECTS, TWIN: 1.07})
    for campaign in (old, new):
        campaign.margin = 0.2
    refused(old, new, f"the A/A twin {TWIN}", "changed by more than the threshold")


def test_a_twin_that_became_faster_is_refused_as_well() -> None:
    old, new = old_campaign(effects={**EFFECTS, TWIN: 1.07}), new_campaign(effects={**EFFECTS, TWIN: 0.93})
    for campaign in (old, new):
        # So that neither is invalid by itself.
        campaign.margin = 0.2
    refused(old, new, f"the A/A twin {TWIN}", "changed by more than the threshold")


def test_without_a_twin_there_is_no_gate() -> None:
    refused(old_campaign(twins=0), new_campaign(), "no A/A twin")


def test_too_few_blocks_for_any_interval_are_refused() -> None:
    refused(old_campaign(blocks=3), new_campaign(blocks=3), "3 blocks in OLD and 3 in NEW give no interval")


def test_a_case_that_was_not_come_to_is_refused() -> None:
    refused(old_campaign(), new_campaign(blocks=0), f"NEW has no block of {BOTH.name}")


def without(campaign: Campaign, label: str) -> Campaign:
    for plan in campaign.cases:
        plan.arms = tuple(arm for arm in plan.arms if arm.label != label)
    campaign.blocks = [block.without(label) for block in campaign.blocks]
    return campaign


@pytest.mark.parametrize("case", [BOTH.name, BOTH.benchmark, "*"])
def test_a_contender_that_can_no_longer_give_a_number_is_no_pass(case: str) -> None:
    new = without(new_campaign(), "trio")
    new.outcomes.append(Outcome(arm="trio", case=case, status="retired", reason="it crashed."))
    refused(old_campaign(), new, "trio has a ratio in OLD and none in NEW", "retired, it crashed")


def test_a_contender_that_takes_part_in_one_of_them_only_is_listed() -> None:
    found = gated(old_campaign(), without(new_campaign(), "trio"))
    assert [row.arm for row in found.rows] == ["uvloop", TWIN]
    assert found.unmatched == (f"trio has a ratio in OLD only, in {BOTH.name}",)
    assert "Not compared: trio has a ratio in OLD only" in text_of(found)


def test_other_contenders_beside_it_are_part_of_a_ratio_and_told() -> None:
    assert "have the same contenders in both campaigns" in text_of(
        gated(old_campaign(), without(new_campaign(), "trio"))
    )
    assert "have the same contenders in both campaigns" not in text_of(gated(old_campaign(), new_campaign()))


@pytest.mark.parametrize(("blocks", "told"), [(18, False), (30, True)])
def test_very_different_numbers_of_blocks_are_told(blocks: int, told: bool) -> None:
    found = text_of(gated(old_campaign(blocks=18), new_campaign(blocks=blocks)))
    assert ("very different numbers of blocks" in found) is told


def test_values_that_were_taken_in_another_way_are_refused() -> None:
    sliced, fresh = new_campaign(), new_campaign()
    fresh.fresh = True
    for block in sliced.blocks:
        for each in block.measurements.values():
            each.metadata["slice"] = 0.02
    where = f"how values were taken in {BOTH.name} is"
    refused(old_campaign(), sliced, f"{where} forked, in rounds in OLD and forked, slices of 20 ms in NEW")
    refused(old_campaign(), fresh, f"{where} forked, in rounds in OLD and in fresh processes, in rounds in NEW")


def test_a_contender_that_failed_in_the_old_one_only_is_no_reason_to_refuse() -> None:
    old = without(old_campaign(), "trio")
    old.outcomes.append(Outcome(arm="trio", case="*", status="retired", reason="it crashed"))
    assert gated(old, new_campaign()).unmatched == (f"trio has a ratio in NEW only, in {BOTH.name}",)


def test_without_any_contender_in_both_there_is_nothing_to_pass() -> None:
    new = without(without(new_campaign(), "trio"), "uvloop")
    refused(old_campaign(), new, "no contender has a ratio in both")


# Formats


def test_the_flat_formats_have_one_row_per_case_and_arm() -> None:
    found = gated(old_campaign(), new_campaign(effects={"uvloop": 0.95, "trio": 1.15}))
    document = json.loads(regression_report(found, "json"))
    rows = list(csv.DictReader(io.StringIO(regression_report(found, "csv"))))
    assert (document["threshold"], document["slower"], document["not_tested_well_enough"]) == (0.03, 1, 0)
    assert [row["arm"] for row in document["rows"]] == [row["arm"] for row in rows] == ["uvloop", "trio", TWIN]
    first = document["rows"][0]
    assert (first["finding"], first["case"], first["metric"]) == ("slower", BOTH.name, "wall")
    assert first["change"] == row_of(found, "uvloop").change.ratio
    assert float(rows[0]["change"]) == first["change"]
    assert rows[2]["finding"] == ""


@pytest.mark.parametrize("format_", ["text", "github", "rst"])
def test_the_tables_have_both_ratios_and_the_change(format_: str) -> None:
    found = gated(old_campaign(), new_campaign())
    text = regression_report(found, format_)
    row = row_of(found, "trio")
    (line,) = (line for line in text.splitlines() if line.lstrip("| ").startswith("trio "))
    for shown in (f"{row.old.ratio:.3f}", f"{row.new.ratio:.3f}", f"{row.change.ratio:.3f} [", "passed"):
        assert shown in line


def test_another_format_is_refused() -> None:
    with pytest.raises(UsageError, match="xml"):
        regression_report(gated(old_campaign(), new_campaign()), "xml")
