"""A matrix: how its pairs are planned and run, what its tables say, and two contenders for real."""

import csv
import io
import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.campaigns import MACHINE, TRACE

from loopmark import campaign as campaigns
from loopmark import limits, plan, store
from loopmark.campaign import Prepared, prepare
from loopmark.case import Case, Cores, Metric, Role
from loopmark.cli.conducting import status_of
from loopmark.cli.options import request_of
from loopmark.codec import MismatchError
from loopmark.errors import FactsError, Kind, TrafficError, UnavailableError
from loopmark.plan import MATRIX, alive_together, order_of, pair_label, pairs_of, rounds_of
from loopmark.probe import Finding, Survey
from loopmark.progress import Silent
from loopmark.record import UNKNOWN, Arm, Block, Campaign, CasePlan, Measurement, Outcome
from loopmark.record import Kind as Part
from loopmark.registry import registry
from loopmark.report import comparison, description
from loopmark.report.figures import figures
from loopmark.report.pairs import matrix_of, one_side
from loopmark.run import Conductor
from loopmark.spi import TLSProfile
from loopmark.testing import fake
from loopmark.testing.fake import FakeExecutor, Mishap

CASE = Case(
    benchmark="tls_pingpong", concurrency=100, role=Role.PAIR, peer=None, cores=Cores.SEPARATE, tls=TLSProfile()
)
BASELINE = "asyncio-to-asyncio"
TWIN = f"{BASELINE}.twin"
THREE = ("asyncio", "trio", "uvloop")
FIVE = ("asyncio", "anyio+trio", "blocking", "trio", "uvloop-protocol")
CUT = TrafficError(Kind.RESET, "cut")

names = st.lists(st.text("ab-to", min_size=1, max_size=6), min_size=1, max_size=5, unique=True)
orders = st.permutations(pairs_of(FIVE, "asyncio"))


# Planning


def test_everybody_calls_everybody_and_the_baselines_pair_has_a_twin() -> None:
    assert pairs_of(("asyncio", "trio"), "asyncio") == (
        Arm(label="asyncio-to-asyncio", contender="asyncio", caller="asyncio"),
        Arm(label="asyncio-to-trio", contender="trio", caller="asyncio"),
        Arm(label="trio-to-asyncio", contender="asyncio", caller="trio"),
        Arm(label="trio-to-trio", contender="trio", caller="trio"),
        Arm(label="asyncio-to-asyncio.twin", contender="asyncio", caller="asyncio", kind=Part.TWIN),
    )


@given(names)
def test_no_two_pairs_share_a_label_whatever_the_names(contenders: Sequence[str]) -> None:
    arms = pairs_of(contenders, contenders[0])
    assert len({arm.label for arm in arms}) == len(arms) == len(contenders) ** 2 + 1
    assert arms[0].label == pair_label(contenders[0], contenders[0])


@given(orders)
def test_the_pairs_of_one_caller_are_alive_together_where_there_are_many(order: Sequence[Arm]) -> None:
    groups = alive_together(CASE, order)
    assert sorted(len(group) for group in groups) == [5, 5, 5, 5, 6]
    assert all(len({arm.caller for arm in group}) == 1 for group in groups)
    assert sorted(arm.label for group in groups for arm in group) == sorted(arm.label for arm in order)


def test_few_pairs_are_all_alive_together() -> None:
    arms = pairs_of(THREE, "asyncio")
    assert alive_together(CASE, arms) == (arms,)


def test_with_very_many_connections_a_pair_has_the_machine_for_itself() -> None:
    arms = pairs_of(THREE, "asyncio")
    assert alive_together(replace(CASE, concurrency=101), arms) == tuple((arm,) for arm in arms)


def test_the_order_of_callers_and_of_their_servers_is_the_seeds() -> None:
    arms = pairs_of(FIVE, "asyncio")
    drawn = [order_of(1, CASE, index, arms) for index in range(20)]
    callers = {tuple(caller for caller, _ in groupby(order, key=lambda arm: arm.caller)) for order in drawn}
    servers = {tuple(arm.contender for arm in order if arm.caller == "trio") for order in drawn}
    assert len(callers) > 15
    assert all(len(each) == 5 for each in callers)
    assert len(servers) > 15
    assert drawn == [order_of(1, CASE, index, arms) for index in range(20)]


@given(st.integers(0, 100))
def test_rounds_keep_to_the_order_of_the_callers(index: int) -> None:
    order = order_of(1, CASE, index, pairs_of(FIVE, "asyncio"))
    count = sum(plan.values_of(CASE, MATRIX))
    rounds = rounds_of(1, CASE, index, order, count)
    callers = {arm.label: arm.caller for arm in order}
    assert len(rounds) == count
    for one in rounds:
        assert sorted(one) == sorted(callers)
        assert [callers[label] for label in one] == [arm.caller for arm in order]


def test_a_value_is_planned_longer_where_others_are_faster_on_both_sides() -> None:
    assert plan.margin_of(CASE, "connection") > plan.margin_of(replace(CASE, role=Role.BOTH), "connection")


# From a user's words to a campaign


Ask = Callable[..., Prepared]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    """Prepare a matrix where everything is installed, and raw sockets have no TLS."""

    def ask(**wishes: object) -> Prepared:
        known = registry()
        features = {name: ("tcp",) if name.endswith("-sockets") else ("tcp", "tls") for name in known.contenders}
        findings = {
            name: Finding(name=name, status="ok", features=each, versions={}) for name, each in features.items()
        }
        monkeypatch.setattr(campaigns, "survey", lambda plugin: Survey(registry=known, findings=findings))
        monkeypatch.setattr(limits, "cores", lambda: (0, 1))
        wishes = {"roles": (Role.PAIR,), "concurrencies": (100,), "certificates": tmp_path / "certs", **wishes}
        return prepare(request_of(MATRIX, wishes))

    return ask


def test_a_matrix_is_one_case_for_each_benchmark_and_concurrency(ask: Ask) -> None:
    prepared = ask(contenders=("trio",), benchmarks=("tcp_pingpong", "tls_pingpong"), concurrencies=(100, 10))
    assert [(each.case.benchmark, each.case.concurrency, each.case.role) for each in prepared.campaign.cases] == [
        (benchmark, concurrency, Role.PAIR)
        for benchmark in ("tcp_pingpong", "tls_pingpong")
        for concurrency in (100, 10)
    ]
    assert prepared.campaign.cases[0].case.peer is None
    assert prepared.campaign.baseline == BASELINE


def test_by_default_everybody_who_can_takes_part_and_the_others_are_listed(ask: Ask) -> None:
    campaign = ask().campaign
    able = [name for name in registry().contenders if not name.endswith("-sockets")]
    assert len(campaign.cases[0].arms) == len(able) ** 2 + 1
    assert {(each.arm, each.status) for each in campaign.outcomes} == {
        ("asyncio-sockets", "unsupported"),
        ("uvloop-sockets", "unsupported"),
    }


def test_who_is_named_and_cannot_take_part_is_an_error(ask: Ask) -> None:
    with pytest.raises(UnavailableError, match="asyncio-sockets cannot run tls_pingpong: it has no tls"):
        ask(contenders=("asyncio-sockets",))


def test_another_baseline_comes_first_and_is_the_pair_that_all_refer_to(ask: Ask) -> None:
    campaign = ask(contenders=("asyncio", "anyio"), baseline="trio").campaign
    assert campaign.baseline == campaign.cases[0].arms[0].label == "trio-to-trio"
    assert campaign.cases[0].labels(Part.TWIN) == ("trio-to-trio.twin",)


def test_an_arm_names_both_sides(ask: Ask) -> None:
    prepared = ask(contenders=("trio", "uvloop"))
    (matrix,) = prepared.campaign.cases
    for arm in matrix.arms:
        server, client, _ = prepared.assign(matrix.case, arm)
        assert (server.contender.name, client.contender.name) == (arm.contender, arm.caller)
        assert (server.cpu, client.cpu) == (1, 0)


# Running, on a virtual clock


def play(executor: FakeExecutor, *, contenders: Sequence[str] = FIVE, effort: plan.Effort = MATRIX) -> Campaign:
    campaign = Campaign(
        started="2026-11-20T09:15:00Z",
        label="here",
        command=("loopmark", "matrix"),
        seed=1,
        mode=effort.mode,
        baseline=BASELINE,
        margin=0.01,
        target=None,
        machine=MACHINE,
        cases=[CasePlan(case=CASE, arms=pairs_of(contenders, "asyncio"), loops=0)],
    )
    Conductor(
        campaign=campaign,
        effort=replace(effort, seconds=1e6),
        executor=executor,
        assign=fake.assign,
        save=lambda campaign: None,
        progress=Silent(),
        clock=executor.clock,
    ).conduct()
    return campaign


def test_every_pair_runs_once_in_every_block() -> None:
    campaign = play(FakeExecutor())
    assert campaign.ended == "done"
    assert [len(block.measurements) for block in campaign.blocks] == [26] * 3
    assert campaign.cases[0].ended == "blocks"


def test_the_servers_of_one_client_start_take_turns_and_finish_before_the_next_client_starts() -> None:
    executor = FakeExecutor()
    campaign = play(executor, effort=replace(MATRIX, blocks=1))
    (block,) = campaign.blocks
    callers = {arm.label: arm.caller for arm in campaign.cases[0].arms}
    expected: list[str] = []
    for _, group in groupby(block.order, key=callers.__getitem__):
        members = set(group)
        expected += [label for one in block.rounds for label in one if label in members]
    assert executor.turns == expected
    assert len(executor.turns) == 26


def test_costs_come_out_on_the_side_that_has_them() -> None:
    campaign = play(FakeExecutor(costs={"asyncio": 2e-4, "trio": 3e-4}, noise=0.0), contenders=THREE)
    measured = campaign.blocks[0].measurements
    assert measured["asyncio-to-trio"].server_cpu[0] / measured[BASELINE].server_cpu[0] == pytest.approx(1.5)
    assert measured["asyncio-to-trio"].client_cpu[0] / measured[BASELINE].client_cpu[0] == pytest.approx(1.0)
    assert measured["trio-to-asyncio"].client_cpu[0] / measured[BASELINE].client_cpu[0] == pytest.approx(1.5)


def test_a_pair_that_cannot_start_is_tried_again_at_once_and_then_retired_and_no_block_is_lost() -> None:
    pair = "trio-to-blocking"
    campaign = play(FakeExecutor(mishaps=[Mishap(what=CUT, arm=pair, run=run) for run in (0, 1)]))
    assert campaign.dropped == []
    assert [(each.arm, each.status, "cut" in each.reason) for each in campaign.outcomes] == [(pair, "retired", True)]
    assert [len(block.measurements) for block in campaign.blocks] == [25] * 3
    assert campaign.ended == "done"
    assert status_of(campaign) == 1


def test_a_pair_that_stumbles_once_stays_in() -> None:
    campaign = play(FakeExecutor(mishaps=[Mishap(what=CUT, arm="trio-to-blocking")]))
    assert (campaign.dropped, campaign.outcomes) == ([], [])
    assert [len(block.measurements) for block in campaign.blocks] == [26] * 3
    assert status_of(campaign) == 0


def test_a_pair_that_contradicts_its_facts_is_retired_at_once() -> None:
    campaign = play(FakeExecutor(mishaps=[Mishap(what=FactsError("resumed"), arm="trio-to-trio")]))
    assert [(each.arm, each.reason) for each in campaign.outcomes] == [("trio-to-trio", "resumed")]


def test_a_server_that_understands_nobody_costs_no_block() -> None:
    pairs = [pair_label(caller, "blocking") for caller in FIVE]
    campaign = play(FakeExecutor(mishaps=[Mishap(what=CUT, arm=pair, run=run) for pair in pairs for run in (0, 1)]))
    assert campaign.dropped == []
    assert {each.arm for each in campaign.outcomes} == set(pairs)
    assert [len(block.measurements) for block in campaign.blocks] == [21] * 3


# Storing


def test_a_matrix_comes_back_from_disk_with_a_file_for_every_pair(tmp_path: Path) -> None:
    campaign = play(FakeExecutor(), contenders=THREE)
    store.write(tmp_path, campaign)
    again = store.load(tmp_path)
    assert again.cases == campaign.cases
    assert {path.stem for path in tmp_path.iterdir()} == {"campaign", *(arm.label for arm in campaign.cases[0].arms)}


@pytest.mark.parametrize(
    ("case", "caller"), [(CASE, None), (replace(CASE, role=Role.BOTH), "asyncio")], ids=["pair", "both"]
)
def test_a_caller_belongs_to_a_pair_and_to_nothing_else(case: Case, caller: str | None, tmp_path: Path) -> None:
    campaign = play(FakeExecutor(), contenders=THREE)
    arms = tuple(replace(arm, caller=caller) for arm in campaign.cases[0].arms)
    campaign.cases = [CasePlan(case=case, arms=arms, loops=0)]
    campaign.blocks = []
    with pytest.raises(MismatchError, match="against its role"):
        store.write(tmp_path, campaign)


# The report, of simulated data in which a server's cost depends on who calls it

SERVERS = {"asyncio": 200e-6, "trio": 240e-6, "uvloop": 170e-6}
CLIENTS = {"asyncio": 300e-6, "trio": 360e-6, "uvloop": 210e-6}
ON_TRIO = {"asyncio": 1.0, "trio": 1.05, "uvloop": 1.10}
"""What each caller makes of trio's server, and of no other one."""


def simulated(*, blocks: int = 3, noise: float = 0.0, twin: float = 1.0, drift: float = 0.0, seed: int = 1) -> Campaign:
    """Simulate a matrix of three; in each block the machine has another speed, and `drift` scatters that of callers."""
    drawn = random.Random(seed)
    arms = pairs_of(THREE, "asyncio")
    campaign = Campaign(
        started="2026-11-20T09:15:00Z",
        label="amd-epyc-2-cores",
        command=("loopmark", "matrix"),
        seed=seed,
        mode="matrix",
        baseline=BASELINE,
        margin=0.01,
        target=None,
        machine=MACHINE,
        cases=[CasePlan(case=CASE, arms=arms, loops=300, question="What does a new TLS connection cost?")],
        traces={CASE.name: {arm.label: TRACE for arm in arms}},
        ended="done",
    )
    for index in range(blocks):
        speed = drawn.uniform(0.8, 1.25)
        callers = {name: drawn.lognormvariate(0, drift) for name in THREE}
        measurements = {}
        for arm in arms:
            assert arm.caller is not None
            here = speed * callers[arm.caller] * (twin if arm.kind is Part.TWIN else 1.0)
            server = here * SERVERS[arm.contender] * (ON_TRIO[arm.caller] if arm.contender == "trio" else 1.0)
            client = here * CLIENTS[arm.caller]
            measurements[arm.label] = measured(arm.label, [each(drawn, noise, server, client) for each in [_value] * 2])
        order = tuple(arm.label for arm in drawn.sample(arms, k=len(arms)))
        rounds = tuple(tuple(drawn.sample(order, k=len(order))) for _ in range(2))
        campaign.blocks.append(
            Block(
                case=CASE.name,
                index=index,
                field=False,
                order=order,
                rounds=rounds,
                measurements=measurements,
                seconds=90.0,
            )
        )
    return campaign


def _value(drawn: random.Random, noise: float, server: float, client: float) -> tuple[float, float]:
    return server * drawn.lognormvariate(0, noise), client * drawn.lognormvariate(0, noise)


def measured(label: str, values: Sequence[tuple[float, float]]) -> Measurement:
    server, client = (tuple(column) for column in zip(*values, strict=True))
    return Measurement(
        arm=label,
        loops=300,
        wall=tuple(max(each) for each in values),
        client_cpu=client,
        server_cpu=server,
        warmups=(),
        client=UNKNOWN,
        server=UNKNOWN,
        peak=100,
        seconds=1.0,
        facts={
            "client": {"loop": label.partition("-to-")[0]},
            "server": {"loop": label.removesuffix(".twin").partition("-to-")[2]},
            "equal": {"tls_version": "TLSv1.3"},
        },
        metadata={},
    )


def taken_out(campaign: Campaign, *labels: str, reason: str = "the connection was reset") -> Campaign:
    """Retire pairs as a campaign does."""
    (matrix,) = campaign.cases
    matrix.arms = tuple(arm for arm in matrix.arms if arm.label not in labels)
    for label in labels:
        campaign.blocks = [block.without(label) for block in campaign.blocks]
        campaign.outcomes.append(Outcome(arm=label, case=CASE.name, status="retired", reason=reason))
    return campaign


def table(campaign: Campaign, title: str) -> dict[str, list[str]]:
    """Return the cells of a table of the first section, by the first cell of their row."""
    after = comparison(campaign).partition(f"\n{title}")[2]
    lines = after.partition("\n--")[2].split("\n\n")[0].splitlines()[1:]
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
    return {row[0]: row[1:] for row in rows}


def test_servers_are_compared_under_the_same_client_and_their_range_over_clients_is_shown() -> None:
    assert table(simulated(drift=0.3), "Servers: their CPU time by that of asyncio's server") == {
        "asyncio": ["1", "1.20", "0.85"],
        "trio": ["1", "1.26", "0.85"],
        "uvloop": ["1", "1.32", "0.85"],
        "lowest": ["1", "1.20", "0.85"],
        "highest": ["1", "1.32", "0.85"],
    }


def test_clients_are_compared_against_the_same_server_and_their_range_over_servers_is_shown() -> None:
    assert table(simulated(), "Clients: their CPU time by that of asyncio's client") == {
        "asyncio": ["1", "1", "1", "1", "1"],
        "trio": ["1.20", "1.20", "1.20", "1.20", "1.20"],
        "uvloop": ["0.70", "0.70", "0.70", "0.70", "0.70"],
    }


def test_absolute_times_are_in_a_table_of_their_own() -> None:
    campaign = simulated(blocks=1)
    pair = campaign.blocks[0].measurements["uvloop-to-trio"]
    cells = table(campaign, "CPU time of server/client, us/conn")
    assert cells["uvloop"][1] == f"{1e6 * pair.server_cpu[0]:.0f}/{1e6 * pair.client_cpu[0]:.0f}"


def test_the_server_that_depends_most_on_its_caller_is_named() -> None:
    text = " ".join(comparison(simulated()).split())
    assert (
        "By caller the number of one server, trio, goes furthest: from 1.20 of asyncio's CPU time when asyncio calls "
        "both, to 1.32 when uvloop does."
    ) in text


def test_what_was_proven_and_measured_is_told() -> None:
    text = " ".join(comparison(simulated()).split())
    assert "9 of 9 pairs of 3 clients and as many servers understand each other: every handshake was a full one" in text
    assert "every reply was compared byte for byte" in text
    assert "Measured: 3 blocks, every pair once in each, with 2 values of 300 connections." in text


def test_noise_is_told_by_the_twin_and_by_what_differs_between_blocks() -> None:
    text = " ".join(comparison(simulated(twin=1.03, drift=0.1)).split())
    assert "Noise: the A/A twin, asyncio-to-asyncio once more, came out at 1.030 of itself as server" in text
    matrix = matrix_of(*_first(simulated(drift=0.1)))
    servers, clients = matrix.wander("server"), matrix.wander("client")
    assert servers == pytest.approx(0.0, abs=1e-9)
    assert clients is not None
    assert clients > 0.05


def _first(campaign: Campaign) -> tuple[Campaign, CasePlan]:
    return campaign, campaign.cases[0]


def test_one_block_tells_nothing_of_what_differs_between_blocks() -> None:
    assert matrix_of(*_first(simulated(blocks=1))).wander("server") is None
    assert "From its lowest to its highest block" not in comparison(simulated(blocks=1))


@pytest.mark.parametrize("blocks", [1, 3, 20])
def test_no_verdict_follows_from_a_matrix_however_many_blocks_it_has(blocks: int) -> None:
    campaign = simulated(blocks=blocks, noise=0.01)
    text = comparison(campaign)
    assert "no verdict follows" in text
    assert not re.search(r"\d \[\d|\b(faster|slower|equivalent|inconclusive)\b", text)
    assert all(row["verdict"] == "" for row in rows(campaign))


def rows(campaign: Campaign) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(comparison(campaign, "csv"))))


def row(campaign: Campaign, arm: str, metric: Metric) -> dict[str, str]:
    (found,) = [each for each in rows(campaign) if (each["arm"], each["metric"]) == (arm, metric.value)]
    return found


def test_flat_rows_name_both_sides_and_refer_each_side_to_the_baseline_there() -> None:
    campaign = simulated(drift=0.3)
    server = row(campaign, "uvloop-to-trio", Metric.SERVER_CPU)
    assert (server["caller"], server["contender"], server["role"]) == ("uvloop", "trio", "pair")
    assert float(server["ratio"]) == pytest.approx(1.32)
    assert row(campaign, "uvloop-to-trio", Metric.WALL)["ratio"] == ""
    client = row(simulated(), "uvloop-to-trio", Metric.CLIENT_CPU)
    assert float(client["ratio"]) == pytest.approx(0.7)


def test_from_six_blocks_on_flat_rows_have_plain_intervals() -> None:
    few = row(simulated(blocks=5, noise=0.01), "uvloop-to-trio", Metric.SERVER_CPU)
    assert (few["low"], few["high"]) == ("", "")
    many = row(simulated(blocks=6, noise=0.01), "uvloop-to-trio", Metric.SERVER_CPU)
    assert float(many["low"]) < float(many["ratio"]) < float(many["high"])
    assert float(many["level"]) == 0.95


def test_a_pair_that_does_not_work_has_a_dash_and_a_sentence() -> None:
    campaign = taken_out(simulated(), "trio-to-uvloop")
    text = " ".join(comparison(campaign).split())
    assert table(campaign, "Servers")["trio"] == ["1", "1.26", "-"]
    assert table(campaign, "Clients")["trio"] == ["1.20", "1.20", "-", "1.20", "1.20"]
    assert table(campaign, "CPU time of server/client")["trio"][2] == "-"
    assert "trio-to-uvloop has no number (retired): the connection was reset." in text
    assert "8 of 9 pairs of 3 clients and as many servers" in text
    assert status_of(campaign) == 1


def test_without_its_counterpart_a_pair_has_its_time_and_no_ratio() -> None:
    campaign = taken_out(simulated(), "trio-to-asyncio")
    assert table(campaign, "Servers")["trio"] == ["-", "-", "-"]
    assert "-" not in table(campaign, "CPU time of server/client")["trio"][1:]
    assert "`-` stands for a pair without a number, and for one whose counterpart has none." in comparison(campaign)


def test_whoever_fails_with_everybody_keeps_row_and_column_and_one_sentence_says_why() -> None:
    pairs = [*(pair_label(name, "trio") for name in THREE), "trio-to-asyncio", "trio-to-uvloop"]
    campaign = taken_out(simulated(), *pairs)
    cells = table(campaign, "Servers")
    assert cells["trio"] == ["-", "-", "-"]
    assert cells["lowest"] == ["1", "0.85", "-"]
    assert f"{', '.join(sorted(pairs))} have no number (retired)" in " ".join(comparison(campaign).split())


def test_before_the_first_block_there_is_no_table() -> None:
    text = comparison(simulated(blocks=0))
    assert "No block was completed, so there is no number." in text
    assert "us/conn" not in text


def test_what_must_not_be_trusted_is_told() -> None:
    campaign = simulated(blocks=20, noise=0.001, twin=1.1)
    text = " ".join(comparison(campaign).split())
    assert f"Not to be trusted: {TWIN} is {BASELINE} itself, and came out 1.1" in text
    assert status_of(campaign) == 1


def test_nine_contenders_fit_into_a_line() -> None:
    able = [name for name in registry().contenders if not name.endswith("-sockets")]
    assert len(able) == 9
    text = comparison(play(FakeExecutor(), contenders=["asyncio", *(name for name in able if name != "asyncio")]))
    servers, rest = text.split("\n\nClients: ")
    clients, times = rest.split("\n\nCPU time of ")
    assert max(map(len, f"{servers}\n{times}".splitlines())) <= 120
    assert max(map(len, clients.splitlines())) <= 135  # with two columns more


def test_other_formats_have_the_same_tables() -> None:
    assert "| uvloop   |         1 |   1.32 |     0.85 |" in comparison(simulated(), "github")
    assert "**Clients: their CPU time" in comparison(simulated(), "rst")


def test_facts_are_told_by_side() -> None:
    text = description(simulated())
    assert re.search(r"client\.loop +1 +asyncio +asyncio as client\n +trio +trio as client\n", text)
    assert re.search(r"server\.loop +1 +asyncio +asyncio as server\n +trio +trio as server\n", text)


def test_only_all_pairs_of_a_side_are_named_by_it() -> None:
    (matrix,) = simulated().cases
    called = ["asyncio-to-trio", "trio-to-trio", "uvloop-to-trio"]
    assert one_side(matrix, called) == "trio as server"
    assert one_side(matrix, [*called, "asyncio-to-uvloop"]) is None
    assert one_side(matrix, called[:2]) is None
    assert one_side(matrix, ["trio-to-asyncio", *called]) is None


def test_wall_time_is_of_both_sides_and_compared_with_nothing() -> None:
    case = figures(*_first(simulated()))
    assert case.reference("uvloop-to-trio", Metric.WALL) is None
    assert case.reference("uvloop-to-trio", Metric.SERVER_CPU) == "uvloop-to-asyncio"
    assert case.reference("uvloop-to-trio", Metric.CLIENT_CPU) == "asyncio-to-trio"
    assert case.reference(TWIN, Metric.SERVER_CPU) == BASELINE


# For real

COMMAND = [sys.executable, "-m", "loopmark"]
TINY = ["matrix", "-w", "tcp_pingpong", "-c", "2", "--blocks", "1", "--no-progress"]


def typed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    results = tmp_path_factory.mktemp("results")
    done = typed(*TINY, "-b", "blocking", "--results", str(results))
    (path,) = results.iterdir()
    return done, path


Ended = tuple[subprocess.CompletedProcess[str], Path]


def test_two_contenders_call_each_other(ended: Ended) -> None:
    done, path = ended
    assert done.returncode == 0, done
    assert done.stderr == ""
    assert "tcp_pingpong, 2 at a time" in done.stdout
    assert "4 of 4 pairs of 2 clients and as many servers understand each other" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1] == f"results: {path}"


def test_compare_prints_a_matrix_again_and_show_tells_about_it(ended: Ended) -> None:
    done, path = ended
    assert done.stdout.startswith(typed("compare", str(path)).stdout)
    shown = typed("show", str(path))
    assert shown.returncode == 0
    assert "blocking as client" in shown.stdout
    assert "role=pair" in shown.stdout


def test_a_pair_that_does_not_understand_each_other_is_told_with_status_1(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from loopmark.backends.blocking import Blocking\n"
        "class Shy(Blocking):\n"
        "    async def connect(self, address, *, tls, options):\n"
        "        raise ConnectionRefusedError('I call nobody')\n"
        "backends = {'shy': Shy}\n"
    )
    done = typed(*TINY, "-b", "shy", "--plugin", str(plugin), "--results", str(tmp_path / "results"))
    assert done.returncode == 1, done
    text = " ".join(done.stdout.split())
    assert "2 of 4 pairs of 2 clients and as many servers understand each other" in text
    assert re.search(r"shy-to-asyncio, shy-to-shy have no number \(retired\): .*I call nobody", text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["matrix", "--max-time", "nan"], "'nan' is no number of seconds"),
        (["matrix", "-b", "nobody"], "unknown contender 'nobody'"),
        (["matrix", "-c", "0"], "0 is less than 1"),
        (["run", "--role", "pair"], "'pair' is no list of roles (server, client, both)"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_status_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = typed(*arguments, "--results", str(tmp_path / "results"))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert words in line
    assert not (tmp_path / "results").exists()


def test_the_help_has_examples() -> None:
    assert re.search(r"Examples:\n +loopmark matrix ", typed("matrix", "--help").stdout)
