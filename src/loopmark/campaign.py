"""From what a user asks for to a campaign that can be conducted: names become cases and arms, or one clear error."""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loopmark import certs, limits, machine, plan
from loopmark.arms import Assign
from loopmark.case import Benchmark, Case, Cores, Role
from loopmark.errors import UnavailableError, UsageError
from loopmark.probe import Finding, Survey, survey
from loopmark.record import Arm, Campaign, CasePlan, Kind, Outcome
from loopmark.registry import ALIASES
from loopmark.task import Task
from loopmark.tls import Identity
from loopmark.verdicts import MARGIN

FORK_IS_SAFE = sys.platform.startswith("linux")
"""Elsewhere the system's own libraries may have started threads or hold state that a fork breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for; an empty sequence or None leaves the choice to us."""

    contenders: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ("tls_pingpong",)
    concurrencies: tuple[int, ...] = ()
    connections: tuple[int, ...] = ()
    roles: tuple[Role, ...] = ()
    peer: str | None = None
    baseline: str = "asyncio"
    twins: int = 1
    control: bool = False
    margin: float = MARGIN
    fresh: bool = False
    label: str | None = None
    effort: plan.Effort = plan.DEFAULT
    seed: int | None = None
    plugin: Path | None = None
    certificates: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A campaign that has passed every check, and how to tell its processes what to do."""

    campaign: Campaign
    assign: Assign


def prepare(request: Request) -> Prepared:
    """Resolve names, check the machine, make certificates; raises LoopmarkError before anything is written."""
    known = survey(request.plugin)
    baseline = ALIASES.get(request.baseline, request.baseline)
    names = _contenders(known, request, baseline)
    peer = _peer(known, request.peer)
    benchmarks = [known.registry.benchmark(name) for name in request.benchmarks]
    pair = limits.cores()
    campaign = _campaign(request, known, baseline, [*names, peer, *request.hidden])
    campaign.notes += [
        f"{name} runs in fresh processes, with wider intervals: its import starts a thread or patches modules."
        for name in dict.fromkeys([*names, peer])
        if not known.findings[name].fork_safe
    ]
    if request.fresh:
        campaign.notes.append("All arms ran in fresh processes, pinned as the forked ones are, with wider intervals.")
    elif not FORK_IS_SAFE:
        campaign.notes.append(
            "Forking is not safe on this system: all arms run in fresh processes, with wider intervals."
        )
    if pair is None:
        campaign.notes.append("This system cannot pin processes to cores: placement is the system's.")
    for benchmark in benchmarks:
        _add_cases(campaign, request, known, names, benchmark, peer=peer, cores=len(set(pair)) if pair else 0)
    limits.check(max(planned.case.concurrency for planned in campaign.cases))
    identity = None
    if any(benchmark.tls for benchmark in benchmarks):
        identity = certs.ensure(request.certificates)
    return Prepared(campaign=campaign, assign=_assigner(known, identity, pair, request, baseline))


def _contenders(known: Survey, request: Request, baseline: str) -> list[str]:
    """Return who takes part, the baseline first; whoever is named must be able to run."""
    named = list(dict.fromkeys(ALIASES.get(name, name) for name in request.contenders))
    for name in (baseline, *named, *request.hidden):
        _runnable(known, name)
    names = named or [name for name, finding in known.findings.items() if finding.status == "ok"]
    return [baseline, *(name for name in names if name != baseline and name not in request.hidden)]


def _runnable(known: Survey, name: str) -> Finding:
    finding = known.findings[known.registry.contender(name).name]
    if finding.status != "ok":
        raise UnavailableError(f"{name} cannot run here: {finding.reason}")
    return finding


def _peer(known: Survey, name: str | None) -> str:
    if name is not None:
        return _runnable(known, name).name
    for peer in plan.PEERS:
        if known.findings[peer].status == "ok":
            return peer
    raise UnavailableError(f"none of {', '.join(plan.PEERS)} can run here: name another peer with --peer NAME")


def _campaign(request: Request, known: Survey, baseline: str, names: Sequence[str]) -> Campaign:
    distributions = {each: sorted(versions) for each in names if (versions := known.findings[each].versions)}
    facts = machine.describe(
        sorted({"loopmark", "pyperf", *(name for each in distributions.values() for name in each)})
    )
    facts["distributions"] = distributions
    campaign = Campaign(
        started=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        label=request.label or machine.default_label(facts),
        command=("loopmark", *sys.argv[1:]),
        # Short enough to be typed again.
        seed=request.seed if request.seed is not None else random.SystemRandom().randrange(1_000_000),
        mode=request.effort.mode,
        baseline=plan.pair_label(baseline, baseline) if Role.PAIR in request.roles else baseline,
        margin=request.margin,
        target=request.effort.target,
        machine=facts,
        notes=machine.warnings(facts),
    )
    if not request.contenders:
        for finding in known.findings.values():
            if finding.status != "ok":
                campaign.outcomes.append(Outcome(arm=finding.name, case="*", status="skipped", reason=finding.reason))
    return campaign


def _add_cases(
    campaign: Campaign,
    request: Request,
    known: Survey,
    names: Sequence[str],
    benchmark: Benchmark,
    *,
    peer: str,
    cores: int,
) -> None:
    cases = plan.cases_of(
        benchmark,
        peer=peer,
        cores=cores,
        roles=request.roles,
        concurrencies=request.concurrencies,
        connections=request.connections,
    )
    able = []
    for name in names:
        missing = ", ".join(sorted(benchmark.needs - set(known.findings[name].features)))
        if not missing:
            able.append(name)
        elif name in (names[0], *map(_full_name, request.contenders)):
            raise UnavailableError(f"{name} cannot run {benchmark.name}: it has no {missing}")
        else:
            reason = f"has no {missing}"
            campaign.outcomes.append(Outcome(arm=name, case=benchmark.name, status="unsupported", reason=reason))
    if not benchmark.needs <= set(known.findings[peer].features):
        raise UnavailableError(f"the peer {peer} cannot run {benchmark.name}: name another with --peer NAME")
    if Role.PAIR in request.roles:
        arms = plan.pairs_of(able, names[0])
    else:
        arms = plan.arms_of(
            able,
            names[0],
            hidden=request.hidden,
            twins=request.twins,
            control=request.control,
            floor=benchmark.tls is not None,
        )
    for case in cases:
        if request.control and (case.connections or case.burst) and case.minimum_loops % plan.CONTROL_SHARE:
            share = plan.CONTROL_SHARE
            raise UsageError(f"--control counts one connection in {share} less: give -n a multiple of {share}")
        campaign.cases.append(
            CasePlan(case=case, arms=arms, loops=0, question=benchmark.question, close=benchmark.close_policy)
        )


def _full_name(name: str) -> str:
    return ALIASES.get(name, name)


def _assigner(
    known: Survey, identity: Identity | None, pair: tuple[int, int] | None, request: Request, baseline: str
) -> Assign:
    """Put the contender on the side that its role says, its caller or the fixed peer on the other, each on its core."""

    def assign(case: Case, arm: Arm) -> tuple[Task, Task, bool]:
        # The floor loads no contender; its tasks need a name all the same.
        playing = baseline if arm.kind is Kind.FLOOR else arm.contender
        server = playing if case.role is not Role.CLIENT else case.peer
        client = arm.caller or (playing if case.role is not Role.SERVER else case.peer)
        assert server is not None
        assert client is not None
        client_core, server_core = pair or (None, None)
        if case.cores is Cores.SHARED:
            client_core = server_core

        def task(name: str, cpu: int | None) -> Task:
            return Task(
                contender=known.registry.contender(name),
                benchmark=known.registry.benchmarks[case.benchmark],
                case=case,
                identity=identity if case.tls else None,
                cpu=cpu,
            )

        safe = FORK_IS_SAFE and all(known.findings[name].fork_safe for name in (server, client))
        fresh = request.fresh or not safe
        return task(server, server_core), task(client, client_core), fresh

    return assign
