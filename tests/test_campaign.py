"""From what a user asks for to cases, arms and tasks, or to one clear error."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loopmark import campaign as campaigns
from loopmark import limits, plan
from loopmark.campaign import Prepared, prepare
from loopmark.case import Case, Cores, Role
from loopmark.cli.options import request_of
from loopmark.errors import UnavailableError, UsageError
from loopmark.plan import DEFAULT
from loopmark.probe import Finding, Survey
from loopmark.record import Arm, CasePlan, Kind, Outcome
from loopmark.registry import registry
from loopmark.task import Task

CAN = {"asyncio-sockets": ("tcp",), "uvloop-sockets": ("tcp",)}
MISSING = "trio is not installed; type: pip install 'loopmark[trio]'"


def finding(name: str, **changes: Any) -> Finding:
    return replace(Finding(name=name, status="ok", features=CAN.get(name, ("tcp", "tls")), versions={}), **changes)


def missing(name: str) -> Finding:
    return Finding(name=name, status="missing", reason=MISSING)


Ask = Callable[..., Prepared]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    """Prepare a campaign on two cores where everything is installed but for what is said."""
    monkeypatch.setattr(campaigns, "FORK_IS_SAFE", True)

    def ask(*findings: Finding, pair: tuple[int, int] | None = (0, 1), **wishes: Any) -> Prepared:
        known = registry()
        found = {name: finding(name) for name in known.contenders} | {each.name: each for each in findings}
        monkeypatch.setattr(campaigns, "survey", lambda plugin: Survey(registry=known, findings=found))
        monkeypatch.setattr(limits, "cores", lambda: pair)
        effort = wishes.pop("effort", DEFAULT)
        return prepare(request_of(effort, {"certificates": tmp_path / "certs", **wishes}))

    return ask


def labels(prepared: Prepared) -> list[str]:
    return [arm.label for arm in prepared.campaign.cases[0].arms if arm.kind is not Kind.FLOOR]


# Who takes part


def test_everybody_who_can_takes_part_and_the_baseline_comes_first(ask: Ask) -> None:
    everybody = [name for name in registry().contenders if name not in CAN and name != "asyncio"]
    assert labels(ask()) == ["asyncio", *everybody, "asyncio.twin"]


def test_the_baseline_is_added_when_it_is_not_named(ask: Ask) -> None:
    assert labels(ask(contenders=("trio", "uvloop"))) == ["asyncio", "trio", "uvloop", "asyncio.twin"]


def test_another_baseline_has_its_own_twin(ask: Ask) -> None:
    prepared = ask(contenders=("asyncio", "trio"), baseline="trio")
    assert labels(prepared) == ["trio", "asyncio", "trio.twin"]
    assert (prepared.campaign.baseline, prepared.campaign.cases[0].labels(Kind.TWIN)) == ("trio", ("trio.twin",))


def test_a_contender_that_is_named_twice_runs_once(ask: Ask) -> None:
    assert labels(ask(contenders=("anyio", "anyio+asyncio"))) == ["asyncio", "anyio+asyncio", "asyncio.twin"]


def test_anyio_is_an_alias_as_baseline_too(ask: Ask) -> None:
    assert labels(ask(contenders=("trio",), baseline="anyio")) == ["anyio+asyncio", "trio", "anyio+asyncio.twin"]


def test_hidden_arms_are_marked_and_run_beside_the_others(ask: Ask) -> None:
    prepared = ask(contenders=("trio",), hidden=("blocking",))
    assert prepared.campaign.cases[0].arms[-1] == Arm(label="blocking", contender="blocking", kind=Kind.HIDDEN)
    assert labels(prepared) == ["asyncio", "trio", "asyncio.twin", "blocking"]


def test_hidden_arms_are_not_shown_as_contenders_as_well(ask: Ask) -> None:
    arms = ask(hidden=("blocking",)).campaign.cases[0].arms
    assert [arm.kind for arm in arms if arm.contender == "blocking"] == [Kind.HIDDEN]


@pytest.mark.parametrize("option", ["contenders", "hidden"])
def test_a_wrong_name_is_a_wrong_usage_with_close_matches(ask: Ask, option: str) -> None:
    with pytest.raises(UsageError, match=r"unknown contender 'uvlop'.*did you mean uvloop"):
        ask(**{option: ("uvlop",)})


@pytest.mark.parametrize("option", ["baseline", "peer"])
def test_a_wrong_baseline_or_peer_is_a_wrong_usage(ask: Ask, option: str) -> None:
    with pytest.raises(UsageError, match=r"unknown contender 'uvlop'.*did you mean uvloop"):
        ask(**{option: "uvlop"})


def test_a_wrong_benchmark_is_a_wrong_usage(ask: Ask) -> None:
    with pytest.raises(UsageError, match="unknown benchmark 'tls'"):
        ask(benchmarks=("tls",))


# Who cannot


def test_a_missing_library_is_a_skip_with_its_reason_when_nobody_was_named(ask: Ask) -> None:
    prepared = ask(missing("trio"), finding("blocking", status="failed", reason="ValueError: no"))
    assert not {"trio", "blocking"} & set(labels(prepared))
    assert Outcome(arm="trio", case="*", status="skipped", reason=MISSING) in prepared.campaign.outcomes
    assert Outcome(arm="blocking", case="*", status="skipped", reason="ValueError: no") in prepared.campaign.outcomes


@pytest.mark.parametrize(
    "wishes", [{"contenders": ("trio",)}, {"baseline": "trio"}, {"hidden": ("trio",)}, {"peer": "trio"}]
)
def test_a_missing_library_of_somebody_who_was_named_is_an_error(ask: Ask, wishes: dict[str, Any]) -> None:
    with pytest.raises(UnavailableError, match="trio cannot run here: trio is not installed; type: pip install"):
        ask(missing("trio"), **wishes)


def test_what_is_missing_is_no_skip_when_others_were_named(ask: Ask) -> None:
    assert ask(missing("trio"), contenders=("uvloop",)).campaign.outcomes == []


def test_who_cannot_do_tls_is_listed_as_unsupported(ask: Ask) -> None:
    prepared = ask()
    for name in CAN:
        expected = Outcome(arm=name, case="tls_pingpong", status="unsupported", reason="has no tls")
        assert expected in prepared.campaign.outcomes


def test_who_cannot_do_tls_takes_part_in_plain_tcp(ask: Ask) -> None:
    prepared = ask(benchmarks=("tls_pingpong", "tcp_pingpong"))
    by_benchmark = {each.case.benchmark: [arm.label for arm in each.arms] for each in prepared.campaign.cases}
    assert "asyncio-sockets" in by_benchmark["tcp_pingpong"]
    assert "asyncio-sockets" not in by_benchmark["tls_pingpong"]


@pytest.mark.parametrize("wishes", [{"contenders": ("asyncio-sockets",)}, {"baseline": "asyncio-sockets"}])
def test_who_cannot_do_tls_is_an_error_when_named(ask: Ask, wishes: dict[str, Any]) -> None:
    with pytest.raises(UnavailableError, match="asyncio-sockets cannot run tls_pingpong: it has no tls"):
        ask(**wishes)


# The peer


def roles(prepared: Prepared) -> set[str | None]:
    return {each.case.peer for each in prepared.campaign.cases if each.case.role is not Role.BOTH}


def test_the_fastest_peer_that_can_run_is_taken(ask: Ask) -> None:
    assert roles(ask()) == {"uvloop-protocol"}
    assert roles(ask(missing("uvloop-protocol"))) == {"asyncio-protocol"}


def test_a_peer_that_was_named_is_taken_by_its_full_name(ask: Ask) -> None:
    assert roles(ask(peer="anyio")) == {"anyio+asyncio"}


def test_without_any_peer_one_must_be_named(ask: Ask) -> None:
    with pytest.raises(UnavailableError, match="--peer NAME"):
        ask(missing("uvloop-protocol"), missing("asyncio-protocol"))


def test_a_peer_that_cannot_run_the_benchmark_is_refused(ask: Ask) -> None:
    with pytest.raises(UnavailableError, match="the peer asyncio-sockets cannot run tls_pingpong"):
        ask(peer="asyncio-sockets")


# Tasks


def tasks(prepared: Prepared, case: Case, contender: str) -> tuple[Task, Task, bool]:
    return prepared.assign(case, Arm(label=contender, contender=contender))


@pytest.mark.parametrize(
    ("role", "names"),
    [
        (Role.SERVER, ("trio", "uvloop-protocol")),
        (Role.CLIENT, ("uvloop-protocol", "trio")),
        (Role.BOTH, ("trio", "trio")),
    ],
)
def test_the_contender_is_on_the_side_that_its_role_says(ask: Ask, role: Role, names: tuple[str, str]) -> None:
    prepared = ask(roles=(role,), concurrencies=(10,))
    server, client, _ = tasks(prepared, prepared.campaign.cases[0].case, "trio")
    assert (server.contender.name, client.contender.name) == names


@pytest.mark.parametrize(
    ("pair", "concurrency", "cores", "server_and_client"),
    [
        ((2, 5), 10, Cores.SEPARATE, (5, 2)),
        ((2, 5), 1, Cores.SHARED, (5, 5)),
        ((3, 3), 10, Cores.SHARED, (3, 3)),
        (None, 10, Cores.ANY, (None, None)),
    ],
)
def test_each_side_is_put_on_its_core(
    ask: Ask,
    pair: tuple[int, int] | None,
    concurrency: int,
    cores: Cores,
    server_and_client: tuple[int | None, int | None],
) -> None:
    prepared = ask(pair=pair, concurrencies=(concurrency,))
    case = prepared.campaign.cases[0].case
    server, client, _ = tasks(prepared, case, "trio")
    assert case.cores is cores
    assert (server.cpu, client.cpu) == server_and_client


def test_a_system_that_cannot_pin_is_told_of(ask: Ask) -> None:
    assert any("cannot pin" in note for note in ask(pair=None).campaign.notes)
    assert not any("cannot pin" in note for note in ask().campaign.notes)


def test_who_is_not_safe_to_fork_runs_in_fresh_processes_and_it_is_said(ask: Ask) -> None:
    prepared = ask(finding("trio", fork_safe=False))
    case = prepared.campaign.cases[-1].case
    assert [tasks(prepared, case, name)[2] for name in ("trio", "asyncio")] == [True, False]
    assert any(note.startswith("trio runs in fresh processes") for note in prepared.campaign.notes)


def test_a_peer_that_is_not_safe_to_fork_makes_all_its_callers_fresh(ask: Ask) -> None:
    prepared = ask(finding("uvloop-protocol", fork_safe=False))
    assert tasks(prepared, prepared.campaign.cases[0].case, "asyncio")[2]


def test_where_forking_is_not_safe_all_are_fresh(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "FORK_IS_SAFE", False)
    prepared = ask()
    assert tasks(prepared, prepared.campaign.cases[-1].case, "asyncio")[2]
    assert any("Forking is not safe" in note for note in prepared.campaign.notes)


def test_certificates_are_made_for_tls_only(ask: Ask, tmp_path: Path) -> None:
    prepared = ask(benchmarks=("tcp_pingpong",))
    assert tasks(prepared, prepared.campaign.cases[0].case, "trio")[0].identity is None
    assert not (tmp_path / "certs").exists()
    prepared = ask()
    identity = tasks(prepared, prepared.campaign.cases[0].case, "trio")[0].identity
    assert identity is not None
    assert identity.chain.is_relative_to(tmp_path / "certs")


# The campaign


def test_what_was_asked_for_is_recorded(ask: Ask) -> None:
    campaign = ask(seed=7, label="mine", effort=plan.FAST).campaign
    assert (campaign.seed, campaign.label, campaign.mode) == (7, "mine", "fast")
    assert campaign.started.endswith("Z")
    assert campaign.machine["versions"].keys() >= {"loopmark", "pyperf"}


def test_it_is_recorded_whose_the_versions_are(ask: Ask) -> None:
    found = finding("uvloop")
    campaign = ask(replace(found, versions={"uvloop": "0.23.0"}), contenders=("uvloop", "trio")).campaign
    assert campaign.machine["distributions"] == {"uvloop": ["uvloop"]}


def test_a_seed_is_drawn_when_none_is_given(ask: Ask) -> None:
    assert len({ask().campaign.seed for _ in range(4)}) > 1


def test_cases_carry_the_question_and_the_close_policy(ask: Ask) -> None:
    prepared = ask(benchmarks=("tls_pingpong", "tcp_pingpong"), concurrencies=(1,))
    assert [each.close for each in prepared.campaign.cases] == ["both-notify", "fin"]
    assert all(each.question and each.loops == 0 for each in prepared.campaign.cases)


def test_the_limits_of_the_greatest_concurrency_are_checked(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(limits, "check", asked.append)
    ask(concurrencies=(10, 500, 1))
    assert asked == [500]


# Controls


def test_every_tls_case_has_a_floor_and_a_plain_one_has_none(ask: Ask) -> None:
    assert ask().campaign.cases[0].labels(Kind.FLOOR) == ("floor",)
    assert ask(benchmarks=("tcp_pingpong",)).campaign.cases[0].labels(Kind.FLOOR) == ()


def test_more_twins_and_the_positive_control_come_on_request(ask: Ask) -> None:
    case = ask(contenders=("trio",), twins=3, control=True).campaign.cases[0]
    assert case.labels(Kind.TWIN) == ("asyncio.twin", "asyncio.twin2", "asyncio.twin3")
    assert case.labels(Kind.CONTROL) == ("asyncio.control",)
    assert {arm.contender for arm in case.arms if arm.kind in (Kind.TWIN, Kind.CONTROL)} == {"asyncio"}


def test_a_control_needs_values_of_which_it_can_hide_a_fiftieth(ask: Ask) -> None:
    with pytest.raises(UsageError, match="give -n a multiple of 50"):
        ask(connections=(1010,), control=True)
    assert ask(connections=(1000,), control=True).campaign.cases[0].case.burst


def test_margin_and_target_are_declared_in_the_campaign(ask: Ask) -> None:
    campaign = ask(margin=0.02, effort=replace(plan.DEFAULT, target=0.005)).campaign
    assert (campaign.margin, campaign.target) == (0.02, 0.005)


# Benchmarks of other kinds

STREAMS = ("tcp", "tls", "start_tls", "half-close", "files", "limiter", "resolver")
PROTOCOL = ("tcp", "tls", "start_tls", "half-close", "files", "limiter", "datagrams")
SOCKETS = ("tcp", "half-close", "files", "limiter", "datagrams")
ABLE = (
    *(finding(name, features=STREAMS) for name in ("uvloop", "anyio+asyncio", "anyio+uvloop")),
    *(finding(name, features=(*STREAMS, "datagrams")) for name in ("trio", "anyio+trio")),
    finding("asyncio", features=(*STREAMS, "sendfile")),
    finding("asyncio-protocol", features=(*PROTOCOL, "sendfile")),
    finding("uvloop-protocol", features=PROTOCOL),
    finding("asyncio-sockets", features=(*SOCKETS, "sendfile")),
    finding("uvloop-sockets", features=("tcp", "half-close")),
    finding("blocking", features=(*STREAMS, "datagrams", "sendfile")),
)


def planned(prepared: Prepared, variant: str, role: Role | None = None) -> CasePlan:
    """Return the first case of a conversation, in one role or any."""
    return next(
        each for each in prepared.campaign.cases if each.case.variant == variant and role in (None, each.case.role)
    )


def contenders(case: CasePlan) -> set[str]:
    return set(case.labels(Kind.CONTENDER))


def test_a_benchmark_stands_for_all_of_its_cases_and_a_name_with_a_colon_for_one(ask: Ask) -> None:
    def variants(*benchmarks: str) -> list[str]:
        cases = ask(*ABLE, benchmarks=benchmarks, concurrencies=(1,)).campaign.cases
        return [f"{each.case.benchmark}:{each.case.variant}" for each in cases]

    assert variants("connection_pool") == ["connection_pool:pool", "connection_pool:no-pool"]
    assert variants("connection_pool:no-pool") == ["connection_pool:no-pool"]
    assert variants("tcp_echo:1KiB", "connection_pool:pool", "tcp_echo:1KiB") == [
        "tcp_echo:1KiB",
        "connection_pool:pool",
    ]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("tcp_echo:2KiB", "unknown case tcp_echo:2KiB; there are tcp_echo:1KiB, tcp_echo:10KiB, "),
        ("tcp_echo:", "unknown case tcp_echo:; there are tcp_echo:1KiB"),
        ("tls_pingpong:1KiB", "unknown case tls_pingpong:1KiB; there are tls_pingpong$"),
        ("tcp_eco:1KiB", "unknown benchmark .*tcp_eco.*did you mean tcp_echo"),
    ],
)
def test_a_wrong_case_is_a_wrong_usage_with_those_that_exist(ask: Ask, name: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        ask(*ABLE, benchmarks=(name,))


def test_who_lacks_what_a_case_needs_is_listed_with_that_case(ask: Ask) -> None:
    prepared = ask(*ABLE, benchmarks=("sendfile",))
    for variant, missing in (("20KiB", "sendfile"), ("copy-20KiB", "files")):
        case = planned(prepared, variant)
        assert "uvloop-sockets" not in contenders(case)
        expected = Outcome(arm="uvloop-sockets", case=case.case.name, status="unsupported", reason=f"has no {missing}")
        assert expected in prepared.campaign.outcomes
    assert "trio" in contenders(planned(prepared, "copy-20KiB"))
    assert "trio" not in contenders(planned(prepared, "20KiB"))


def test_a_side_that_need_not_do_it_needs_no_feature(ask: Ask) -> None:
    prepared = ask(*ABLE, benchmarks=("sendfile:20KiB",), roles=(Role.SERVER,))
    # Whoever calls only receives, so that the usual peer will do, although it has no sendfile.
    assert planned(prepared, "20KiB").case.peer == "uvloop-protocol"
    prepared = ask(*ABLE, benchmarks=("sendfile:20KiB",), roles=(Role.CLIENT,))
    assert planned(prepared, "20KiB").case.peer == "asyncio-protocol"
    assert "trio" in contenders(planned(prepared, "20KiB"))


def test_where_streams_cannot_take_part_ratios_are_to_the_protocol_level_and_it_is_said(ask: Ask) -> None:
    prepared = ask(*ABLE, benchmarks=("udp_echo:64B", "tls_pingpong"), concurrencies=(10,))
    datagrams = planned(prepared, "64B")
    assert prepared.campaign.baseline_of(datagrams) == "asyncio-protocol"
    assert datagrams.labels(Kind.TWIN) == ("asyncio-protocol.twin",)
    assert "asyncio" not in contenders(datagrams)
    assert prepared.campaign.baseline_of(planned(prepared, "")) == "asyncio"
    said = "udp_echo:64B: asyncio cannot take part, so that ratios are to asyncio-protocol there."
    assert said in prepared.campaign.notes
    assert any(each.arm == "asyncio" and each.reason == "has no datagrams" for each in prepared.campaign.outcomes)


def test_a_baseline_that_was_asked_for_is_not_replaced(ask: Ask) -> None:
    with pytest.raises(UnavailableError, match="uvloop cannot run udp_echo:64B: it has no datagrams"):
        ask(*ABLE, benchmarks=("udp_echo:64B",), baseline="uvloop")


def test_a_case_without_any_baseline_is_left_out_and_it_is_said(ask: Ask) -> None:
    without = (finding(name, features=("tcp", "tls")) for name in plan.BASELINES)
    prepared = ask(*ABLE, *without, benchmarks=("udp_echo:64B", "tcp_pingpong"))
    assert {each.case.benchmark for each in prepared.campaign.cases} == {"tcp_pingpong"}
    assert "udp_echo:64B was left out: the baseline asyncio cannot run it." in prepared.campaign.notes


def test_only_new_tls_connections_have_a_floor(ask: Ask) -> None:
    prepared = ask(*ABLE, benchmarks=("tls_echo", "connection_pool"), concurrencies=(10,))
    floors = {each.case.variant: each.labels(Kind.FLOOR) for each in prepared.campaign.cases}
    assert {variant for variant, labels_ in floors.items() if labels_} == {"nul", "no-pool"}


def test_cases_carry_what_their_figures_are_per(ask: Ask) -> None:
    prepared = ask(*ABLE, benchmarks=("tls_echo", "connection_pool", "udp_echo", "getaddrinfo"), concurrencies=(1,))
    units = {each.case.variant: (each.unit, each.close) for each in prepared.campaign.cases}
    assert units["nul"] == ("connection", "both-notify")
    assert units["open-1KiB"] == ("round trip", "client-notify")
    assert units["pool"] == ("request", "client-notify")
    assert units["64B"] == ("round trip", None)
    assert units["literal-ipv4"] == ("lookup", None)


def test_both_sides_know_the_go_ahead(ask: Ask) -> None:
    prepared = ask(*ABLE, benchmarks=("tls_upgrade", "tls_pingpong"), concurrencies=(1,))
    upgrade, pingpong = (each.case for each in prepared.campaign.cases)
    assert [task.options.go_ahead for task in tasks(prepared, upgrade, "trio")[:2]] == [b"GO"] * 2
    assert [task.options.go_ahead for task in tasks(prepared, pingpong, "trio")[:2]] == [b""] * 2


def test_each_way_of_doing_tls_has_its_own_certificates(ask: Ask) -> None:
    prepared = ask(*ABLE, concurrencies=(1,), keys=("p256", "ed25519"), client_key="ed25519")
    assert len(prepared.campaign.cases) == 2
    for each in prepared.campaign.cases:
        assert each.case.tls is not None
        for task in tasks(prepared, each.case, "trio")[:2]:
            assert task.identity is not None
            assert each.case.tls.key in task.identity.key.name
            assert task.identity.client_chain is not None
            assert "ed25519" in task.identity.client_chain.name


def test_tls_that_cannot_be_had_is_refused_before_anything_is_made(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="resumed handshakes need exactly 1 session ticket, not 0"):
        ask(*ABLE, benchmarks=("tls_resumed",), tickets=0)
    assert not (tmp_path / "certs").exists()
