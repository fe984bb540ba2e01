"""nginx in a campaign: an arm like others, with the server's side only, skipped with a reason where it is not there."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.campaigns import SERVER, fake_campaign
from tests.test_nginx import needs_nginx, task_of

from loopmark import campaign as campaigns
from loopmark import limits, nginx_setup, store
from loopmark.campaign import Prepared, prepare
from loopmark.case import Role
from loopmark.cli.options import request_of
from loopmark.errors import UnavailableError
from loopmark.executor import Interpreters
from loopmark.instructions import counting
from loopmark.judgement import judge
from loopmark.nginx_setup import CONTENDER, Build
from loopmark.plan import DEFAULT
from loopmark.probe import Finding, Survey
from loopmark.processes import SLICE
from loopmark.record import CasePlan, Kind, Outcome
from loopmark.registry import registry
from loopmark.task import Order
from loopmark.tls import Identity
from loopmark.verdicts import Verdict

BUILD = Build(version="nginx/1.99.0", openssl="OpenSSL 3.9.9", arguments="")

Ask = Callable[..., Prepared]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    """Prepare a campaign on two cores where nginx is installed, and everything else."""
    known = registry()
    found = {
        name: Finding(name=name, status="ok", features=("files", "tcp", "tls"), versions={})
        for name in known.contenders
    }
    monkeypatch.setattr(campaigns, "FORK_IS_SAFE", True)
    monkeypatch.setattr(campaigns, "survey", lambda plugin: Survey(registry=known, findings=found))
    monkeypatch.setattr(limits, "cores", lambda: (0, 1))
    monkeypatch.setattr(nginx_setup, "find", lambda: ("/nginx", BUILD))

    def ask(**wishes: Any) -> Prepared:
        asked = {"benchmarks": ("https_static",), "contenders": ("uvloop",), "certificates": tmp_path / "certs"}
        return prepare(request_of(DEFAULT, asked | wishes))

    return ask


def references(prepared: Prepared) -> list[tuple[str, ...]]:
    return [case.labels(Kind.REFERENCE) for case in prepared.campaign.cases]


# Who takes part


def test_nginx_serves_what_is_declared_to_be_static(ask: Ask) -> None:
    assert references(ask()) == [("nginx",)]
    assert references(ask(benchmarks=("tls_pingpong",), roles=(Role.SERVER,), concurrencies=(10,))) == [()]


def test_nginx_has_the_servers_side_only(ask: Ask) -> None:
    prepared = ask(roles=(Role.SERVER, Role.CLIENT), concurrencies=(10,))
    assert references(prepared) == [("nginx",), ()]
    assert not any(each.arm == "nginx" for each in prepared.campaign.outcomes)


def test_nginx_is_left_out_where_resumption_is_to_be_counted(ask: Ask) -> None:
    assert references(ask(resumed=True)) == [()]


def test_without_nginx_the_row_says_how_to_install_it(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> tuple[str, Build]:
        raise UnavailableError("nginx is not installed; type: apt install it")

    monkeypatch.setattr(nginx_setup, "find", missing)
    prepared = ask()
    (case,) = prepared.campaign.cases
    assert references(prepared) == [()]
    assert prepared.campaign.outcomes == [
        Outcome(
            arm="nginx",
            case=case.case.name,
            status="skipped",
            reason="nginx is not installed; type: apt install it",
        )
    ]


def test_what_nginx_it_is_can_be_read(ask: Ask) -> None:
    (note,) = (note for note in ask().campaign.notes if note.startswith("nginx "))
    assert "nginx/1.99.0 with OpenSSL 3.9.9" in note


def test_nginx_is_called_by_the_client_that_calls_everybody(ask: Ask) -> None:
    prepared = ask()
    (case,) = prepared.campaign.cases
    arms = {arm.label: arm for arm in case.arms}
    (server, client, fresh), (_, others, _) = (prepared.assign(case.case, arms[name]) for name in ("nginx", "uvloop"))
    assert server.contender == CONTENDER
    assert client == others
    assert (server.cpu, client.cpu, fresh) == (1, 0, False)


# What becomes of it


def with_reference(blocks: int = 10) -> tuple[CasePlan, Any]:
    campaign = fake_campaign(effects={"uvloop": 0.85, "nginx": 0.5}, cases=(SERVER,), blocks=blocks)
    (plan,) = campaign.cases
    plan.arms = tuple(replace(arm, kind=Kind.REFERENCE) if arm.label == "nginx" else arm for arm in plan.arms)
    return plan, campaign


def test_a_reference_is_judged_like_a_contender() -> None:
    plan, campaign = with_reference()
    judgement = judge(plan, "asyncio", campaign.blocks, 0.01)
    assert judgement.estimates["nginx"].ratio == pytest.approx(0.5, rel=0.05)
    assert judgement.verdicts["nginx"] is Verdict.FASTER
    assert "nginx" in judgement.letters


def test_a_reference_counts_as_one_more_interval_that_must_hold() -> None:
    plan, campaign = with_reference()
    without = replace(plan, arms=tuple(arm for arm in plan.arms if arm.label != "nginx"))
    levels = [judge(each, "asyncio", campaign.blocks, 0.01).level for each in (plan, without)]
    assert levels[0] > levels[1]


def test_a_reference_is_stored_and_read_back(tmp_path: Path) -> None:
    _, campaign = with_reference()
    path = store.create(tmp_path, campaign)
    store.write(path, campaign)
    (plan,) = store.load(path).cases
    assert plan.labels(Kind.REFERENCE) == ("nginx",)
    assert (path / "nginx.json").exists()


def test_no_instructions_are_counted_of_a_program_that_forks() -> None:
    _, campaign = with_reference()
    (plan,) = counting(campaign, "3.19.0").campaign.cases
    assert plan.labels(Kind.REFERENCE) == ()
    assert "uvloop" in plan.labels(Kind.CONTENDER)


# In a block


@pytest.fixture
def executor() -> Iterator[Interpreters]:
    interpreters = Interpreters()
    interpreters.open_block()
    yield interpreters
    interpreters.close_block()


def arm_of(identity: Identity, **changes: Any) -> Order:
    server = task_of(identity)
    client = replace(server, contender=registry().contender("blocking"))
    order = Order(arm="nginx", server=server, client=client, loops=30, warmups=1, values=2, at_once=10, trace=True)
    return replace(order, **changes)


def run(executor: Interpreters, order: Order) -> dict[str, Any]:
    answer = executor.start(order)
    for _ in range(order.warmups + order.values):
        if "error" not in answer:
            answer |= executor.round([order.arm])[order.arm]
    return answer if "error" in answer else {**answer, **executor.finish(order.arm)}


@needs_nginx
@pytest.mark.parametrize("fresh", [False, True], ids=["forked", "fresh"])
def test_an_arm_of_nginx_proves_its_work_and_takes_its_values(
    executor: Interpreters, identity: Identity, fresh: bool
) -> None:
    answer = run(executor, arm_of(identity, fresh=fresh))
    assert answer.get("error") is None
    assert answer["judgement"] is None
    assert answer["peak"] == 10
    assert len(answer["server_cpu"]) == 2
    assert all(seconds > 0 for seconds in answer["server_cpu"])
    assert answer["facts"]["server"]["loop"] == "nginx"
    assert answer["facts"]["equal"]["backlog"] == 4096
    assert answer["facts"]["equal"]["session_reused"] is False
    assert answer["server"]["private_kib"] is not None


@needs_nginx
def test_nginx_and_a_contender_take_their_values_at_the_same_time(executor: Interpreters, identity: Identity) -> None:
    ours = arm_of(identity, arm="blocking", trace=False)
    ours = replace(ours, server=replace(ours.server, contender=registry().contender("blocking")))
    for order in (arm_of(identity), ours):
        assert "error" not in executor.start(order)
    for _ in range(3):
        start = time.perf_counter()
        timed = [answer["timed_seconds"] for answer in executor.round(["nginx", "blocking"]).values()]
        assert 0 < sum(timed) <= time.perf_counter() - start
    for arm in ("nginx", "blocking"):
        readings = executor.finish(arm)
        assert readings["metadata"]["slice"] == SLICE
        # Each is charged with its own work only.
        assert all(
            cpu <= wall * 1.005 + 50e-6 for cpu, wall in zip(readings["server_cpu"], readings["wall"], strict=True)
        )


@needs_nginx
@pytest.mark.parametrize("fresh", [False, True], ids=["forked", "fresh"])
def test_an_nginx_that_cannot_start_fails_its_arm_with_its_own_words(
    executor: Interpreters, identity: Identity, stranger: Identity, fresh: bool
) -> None:
    wrong = arm_of(identity, fresh=fresh)
    wrong = replace(wrong, server=replace(wrong.server, identity=replace(identity, key=stranger.key)))
    answer = executor.start(wrong)
    assert "nginx ended" in answer["error"]
    assert "key values mismatch" in answer["error"]
