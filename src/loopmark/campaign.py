"""From what a user asks for to a campaign that can be conducted: names become cases and arms, or one clear error."""

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from loopmark import certs, limits, machine, network, nginx_setup, plan, tls
from loopmark.arms import Assign
from loopmark.case import UNITS, Benchmark, Case, Cores, Role, Traffic
from loopmark.deadlines import CONVERSATION, deadlines
from loopmark.errors import UnavailableError, UsageError
from loopmark.probe import Finding, Survey, survey
from loopmark.record import Arm, Campaign, CasePlan, Kind, Outcome
from loopmark.registry import ALIASES
from loopmark.spi import Feature, TLSProfile
from loopmark.task import Task
from loopmark.tls import Identity
from loopmark.verdicts import MARGIN

FORK_IS_SAFE = sys.platform.startswith("linux")
"""Elsewhere the system's own libraries may have started threads or hold state that a fork breaks."""

REFERENCES = {nginx_setup.CONTENDER.name: nginx_setup}
"""Servers that are not ours: modules that can find them and say how they are played."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for; an empty sequence or None leaves the choice to us."""

    contenders: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ("tls_pingpong",)
    """Each all of its cases, or one: `tcp_echo:1KiB`."""
    axes: plan.Axes = field(default_factory=plan.Axes)
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
    deadline: float = CONVERSATION


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
    asked = _asked(known, request.benchmarks)
    if request.axes.is_about_tls and all(known.registry.benchmark(name).tls is None for name, _ in asked):
        names_asked = ", ".join(dict.fromkeys(name for name, _ in asked))
        raise UsageError(f"{names_asked}: there is no TLS, leave its options out or take another benchmark")
    peers = {each: _peer(known, request, *each) for each in asked}
    pair = limits.cores()
    campaign = _campaign(request, known, baseline, [*names, *peers.values(), *request.hidden])
    campaign.notes += [
        f"{name} runs in fresh processes, with wider intervals: its import starts a thread or patches modules."
        for name in dict.fromkeys([*names, *peers.values()])
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
    for (name, variant), peer in peers.items():
        benchmark = known.registry.benchmark(name)
        _add_cases(campaign, request, known, names, benchmark, variant, peer=peer, cores=len(set(pair)) if pair else 0)
    if not campaign.cases:
        raise UnavailableError(" ".join(campaign.notes[-len(peers) :]))
    return equip(campaign, known, request, baseline)


def equip(campaign: Campaign, known: Survey, request: Request, baseline: str) -> Prepared:
    """Check that this machine can do what a campaign wants, make certificates, and say who does what.

    Of the request only `fresh` and `certificates` count here. Raises LoopmarkError before anything is written.
    """
    for rtt in dict.fromkeys(planned.case.rtt for planned in campaign.cases if planned.case.rtt is not None):
        # Better to know now than in the first block.
        with network.Link(rtt):
            pass
    limits.check(max(planned.case.concurrency for planned in campaign.cases))
    profiles = dict.fromkeys(planned.case.tls for planned in campaign.cases if planned.case.tls)
    for profile in profiles:
        tls.check(profile)
    identities = {
        profile: certs.ensure(request.certificates, key=profile.key, client_key=profile.client_key)
        for profile in profiles
    }
    return Prepared(campaign=campaign, assign=_assigner(known, identities, limits.cores(), request, baseline))


def _asked(known: Survey, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the benchmarks and conversations that are meant: all of a benchmark, or one."""
    asked = []
    for name in names:
        benchmark = known.registry.benchmark(name)
        _, colon, variant = name.partition(":")
        asked += [(benchmark.name, each) for each in ([variant] if colon else benchmark.conversations)]
    return list(dict.fromkeys(asked))


def _contenders(known: Survey, request: Request, baseline: str) -> list[str]:
    """Return who takes part, the baseline first; whoever is named must be able to run."""
    named = list(dict.fromkeys(ALIASES.get(name, name) for name in request.contenders))
    for name in (baseline, *named, *request.hidden):
        runnable(known, name)
    names = named or [name for name, finding in known.findings.items() if finding.status == "ok"]
    return [baseline, *(name for name in names if name != baseline and name not in request.hidden)]


def runnable(known: Survey, name: str) -> Finding:
    """Return what was found of a contender; raises UnavailableError when it cannot run here."""
    finding = known.findings[known.registry.contender(name).name]
    if finding.status != "ok":
        raise UnavailableError(f"{name} cannot run here: {finding.reason}")
    return finding


def _peer(known: Survey, request: Request, name: str, variant: str) -> str:
    """Return the fixed other side: the one that was asked for, or the fastest that can do it."""
    benchmark = known.registry.benchmark(name)
    roles = request.axes.roles or tuple(role for _, each in benchmark.usual for role in each)
    needs = benchmark.needs(variant, serving=Role.CLIENT in roles, calling=Role.SERVER in roles)
    if request.peer is not None:
        peer = runnable(known, request.peer)
        if missing := needs - set(peer.features):
            lacks = ", ".join(sorted(missing))
            raise UnavailableError(f"the peer {peer.name} cannot run {name}: it has no {lacks}; name another one")
        return peer.name
    for peer_name in plan.PEERS:
        finding = known.findings[peer_name]
        if finding.status == "ok" and needs <= set(finding.features):
            return peer_name
    raise UnavailableError(f"none of {', '.join(plan.PEERS)} can run {name} here: name another peer with --peer NAME")


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
        baseline=plan.pair_label(baseline, baseline) if Role.PAIR in request.axes.roles else baseline,
        margin=request.margin,
        target=request.effort.target,
        blocks_wanted=request.effort.blocks,
        seconds_allowed=request.effort.seconds,
        fresh=request.fresh,
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
    variant: str,
    *,
    peer: str,
    cores: int,
) -> None:
    most = request.effort.usual_up_to
    cases = plan.cases_of(benchmark, variant, request.axes, peer=peer, cores=cores, usual_up_to=most)
    roles = {case.role for case in cases}
    needs = benchmark.needs(variant, serving=roles != {Role.CLIENT}, calling=roles != {Role.SERVER})
    shown = f"{benchmark.name}:{variant}" if variant else benchmark.name
    names = _with_baseline(campaign, known, names, needs, shown)
    able = []
    for name in names:
        missing = ", ".join(sorted(needs - set(known.findings[name].features)))
        if not missing:
            able.append(name)
            continue
        if name in (names[0], *map(_full_name, request.contenders)) and len(request.benchmarks) == 1:
            raise UnavailableError(f"{name} cannot run {shown}: it has no {missing}")
        campaign.outcomes += [
            Outcome(arm=name, case=each, status="unsupported", reason=f"has no {missing}")
            for each in ([case.name for case in cases] if variant else [benchmark.name])
        ]
    if names[0] not in able:
        campaign.notes.append(f"{shown} was left out: the baseline {names[0]} cannot run it.")
        return
    baseline = plan.pair_label(names[0], names[0]) if Role.PAIR in roles else names[0]
    if Role.PAIR in roles:
        arms = plan.pairs_of(able, names[0])
    else:
        arms = plan.arms_of(
            able,
            names[0],
            hidden=request.hidden,
            twins=request.twins,
            control=request.control,
            floor=benchmark.tls is not None and benchmark.conversation(variant).traffic is Traffic.CHURN,
            references=_references(campaign, benchmark, [case for case in cases if plan.takes_references(case)]),
        )
    for case in cases:
        if request.control and (case.connections or case.burst) and case.minimum_loops % plan.CONTROL_SHARE:
            share = plan.CONTROL_SHARE
            raise UsageError(f"--control counts one connection in {share} less: give -n a multiple of {share}")
        campaign.cases.append(
            CasePlan(
                case=case,
                arms=tuple(arm for arm in arms if arm.kind is not Kind.REFERENCE or plan.takes_references(case)),
                loops=0,
                question=benchmark.question,
                close=benchmark.close_policy(variant),
                unit=UNITS[benchmark.conversation(variant).traffic],
                baseline="" if baseline == campaign.baseline else baseline,
            )
        )


def _with_baseline(
    campaign: Campaign, known: Survey, names: Sequence[str], needs: frozenset[Feature], shown: str
) -> Sequence[str]:
    """Put another baseline first where nobody asked for one and the usual one cannot take part."""

    def can(name: str) -> bool:
        return name in known.findings and needs <= set(known.findings[name].features)

    if names[0] != plan.BASELINES[0] or can(names[0]):
        return names
    baseline = next((name for name in plan.BASELINES if can(name)), None)
    if baseline is None:
        return names
    campaign.notes.append(f"{shown}: {names[0]} cannot take part, so that ratios are to {baseline} there.")
    return [baseline, *(name for name in names if name != baseline)]


def _references(campaign: Campaign, benchmark: Benchmark, cases: Sequence[Case]) -> list[str]:
    """Return the references that can run here; whoever cannot is skipped, with the reason."""
    able = []
    for name in benchmark.references if cases else ():
        try:
            _, build = REFERENCES[name].find()
        except UnavailableError as error:
            campaign.outcomes += [
                Outcome(arm=name, case=case.name, status="skipped", reason=str(error)) for case in cases
            ]
            continue
        able.append(name)
        note = (
            f"{name} is a reference and no contender: {build}, another program, with a memory layout of its own, and "
            "without Python's ssl, of which the floor is made."
        )
        if note not in campaign.notes:
            campaign.notes.append(note)
    return able


def _full_name(name: str) -> str:
    return ALIASES.get(name, name)


def _assigner(
    known: Survey,
    identities: Mapping[TLSProfile, Identity],
    pair: tuple[int, int] | None,
    request: Request,
    baseline: str,
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

        conversation = known.registry.benchmark(case.benchmark).conversation(case.variant)
        key = case.tls.key if case.tls else None
        patience = deadlines(case.concurrency, key, conversation=request.deadline)

        def task(name: str, cpu: int | None) -> Task:
            return Task(
                contender=known.registry.contender(name) if name in known.findings else REFERENCES[name].CONTENDER,
                benchmark=known.registry.benchmarks[case.benchmark],
                case=case,
                identity=identities[case.tls] if case.tls else None,
                cpu=cpu,
                options=replace(patience, go_ahead=conversation.go_ahead),
            )

        ours = [known.findings[name] for name in (server, client) if name in known.findings]
        fresh = request.fresh or not (FORK_IS_SAFE and all(each.fork_safe for each in ours))
        return task(server, server_core), task(client, client_core), fresh

    return assign
