"""pyperf files side by side, the first of them the baseline: what their metadata allow to be said, and why no more.

Three cases, from most to least. The primary metric of a case whose files, an A/A twin of the baseline among them, were
measured together in blocks: simultaneous intervals, verdicts and the gate, as in a campaign. Anything else that was
measured in blocks: intervals and no verdict. All the rest: ratios of medians.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from loopmark.case import Case, Metric, Role, stored_name
from loopmark.comparable import refusals
from loopmark.errors import UsageError
from loopmark.foreign import File, Run, Series, Stamp, case_of
from loopmark.interleaved import blocks_of, misfit, order
from loopmark.judgement import Gate, Judgement, judge
from loopmark.record import UNKNOWN, Arm, Block, CasePlan, Kind, Measurement
from loopmark.stats import Estimate, Summary, ratio_interval, summary
from loopmark.verdicts import Verdict

_Runs = Mapping[str, tuple[Run, Stamp]]
"""One block: the run of each file with its stamp, by label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One file's part in one benchmark."""

    file: str
    kind: Kind | None
    """What the arm was there for; None when the file does not tell."""
    absolute: Summary
    """Over the file's runs, in the unit of the benchmark."""
    ratio: float | None
    """To the first file; None in its own row, and where units differ."""
    interval: Estimate | None
    """What the ratio comes from; None when it is one of medians only."""
    verdict: Verdict | None
    letters: str
    peer_busy: float | None
    """The fixed peer's CPU time as a share of the wall time, in the roles server and client; None if it is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One benchmark that all files have."""

    name: str
    unit: str
    rows: tuple[Row, ...]
    """One per file, in their order."""
    judgement: Judgement | None
    """None unless this is the primary metric of a case, measured in blocks."""
    twins: tuple[str, ...]
    """The first file's A/A twins, as far as they were measured together with it."""
    reasons: tuple[str, ...]
    """Why there is no verdict, or not for all; sentences without a full stop."""

    @property
    def is_invalid(self) -> bool:
        """Tell whether the case's own controls say that it must not be trusted."""
        return self.judgement is not None and self.judgement.gate is Gate.INVALID


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that files have in common, and what only some of them have: the labels of those by benchmark."""

    files: tuple[str, ...]
    benchmarks: tuple[Benchmark, ...]
    missing: Mapping[str, tuple[str, ...]]


def compare(files: Sequence[File]) -> Comparison:
    """Compare files with the first of them; raises UsageError when no benchmark is in all of them."""
    holders = {
        name: tuple(file.label for file in files if name in file.series)
        for name in dict.fromkeys(name for file in files for name in file.series)
    }
    common = [name for name, labels in holders.items() if len(labels) == len(files)]
    if not common:
        told = (f"{file.label} has {_first(list(file.series))}" for file in files)
        raise UsageError(
            f"the files have no benchmark in common, and what has another name is not compared: {', '.join(told)}"
        )
    return Comparison(
        files=tuple(file.label for file in files),
        benchmarks=tuple(_benchmark(name, files) for name in common),
        missing={name: labels for name, labels in holders.items() if name not in common},
    )


def _first(names: Sequence[str]) -> str:
    if not names:
        return "none with values"
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """What may be said about one benchmark; intervals by file, without the first."""

    reasons: tuple[str, ...]
    intervals: Mapping[str, Estimate] = field(default_factory=dict)
    judgement: Judgement | None = None
    twins: tuple[str, ...] = ()


def _benchmark(name: str, files: Sequence[File]) -> Benchmark:
    series = {file.label: file.series[name] for file in files}
    units = list(dict.fromkeys(each.unit for each in series.values()))
    finding = _finding(name, series)
    told = None if finding.reasons else finding.judgement
    first = summary([run.values for run in files[0].series[name].runs])
    rows = []
    for place, file in enumerate(files):
        absolute = summary([run.values for run in file.series[name].runs])
        interval = finding.intervals.get(file.label)
        of_medians = absolute.median / first.median if place and len(units) == 1 else None
        rows.append(
            Row(
                file=file.label,
                kind=_kind(file.series[name]),
                absolute=absolute,
                ratio=interval.ratio if interval else of_medians,
                interval=interval,
                verdict=told.verdicts.get(file.label) if told else None,
                letters=told.letters.get(file.label, "") if told else "",
                peer_busy=_peer_busy(name, file),
            )
        )
    return Benchmark(
        name=name,
        unit=" or ".join(units),
        rows=tuple(rows),
        judgement=finding.judgement,
        twins=finding.twins,
        reasons=finding.reasons,
    )


def _finding(name: str, series: Mapping[str, Series]) -> _Finding:
    if len({each.unit for each in series.values()}) > 1:
        return _Finding(reasons=("the files have it in different units",))
    why = misfit(series)
    if why is not None:
        return _Finding(reasons=(why,))
    found = case_of(name)
    if found is None:
        return _Finding(reasons=("it is no case of loopmark's, and declares no metric to be judged by",))
    return _in_blocks(*found, series)


def _in_blocks(case: Case, metric: Metric, series: Mapping[str, Series]) -> _Finding:
    """Take the files for the campaign that they are a part of, and have it judged."""
    baseline = next(iter(series))
    stamps = {label: stamp for label, (_, stamp) in next(blocks_of(series))[1].items()}
    first = stamps[baseline]
    arms = tuple(
        Arm(label=label, contender=stamp.contender, kind=_part(stamp, first)) for label, stamp in stamps.items()
    )
    plan = CasePlan(case=case, arms=arms, loops=1)
    blocks = [_block(case, number, runs) for number, runs in blocks_of(series)]
    refused = tuple(refusals(plan, baseline, blocks))
    if refused:
        return _Finding(reasons=refused)
    values = {label: [block.measurements[label].wall for block in blocks] for label in series}
    intervals = {label: ratio_interval(values[label], values[baseline]) for label in series if label != baseline}
    twins = plan.labels(Kind.TWIN)
    if metric is not case.primary:
        why = f"in the role {case.role} it is not what is judged"
        return _Finding(reasons=(why,), intervals=intervals, twins=twins)
    judgement = judge(plan, baseline, blocks, first.margin, together=first.contenders)
    # As in a campaign's tables: plain intervals where those that hold together are not to be had.
    has_none = first.mode == "fast" or not first.contenders or judgement.widest is None
    together = {} if has_none else judgement.estimates
    return _Finding(
        reasons=tuple(_unjudged(judgement, twins, first)),
        intervals={**intervals, **together},
        judgement=judgement,
        twins=twins,
    )


def _unjudged(judgement: Judgement, twins: Sequence[str], baseline: Stamp) -> Iterator[str]:
    if judgement.reasons:
        yield from judgement.reasons
    elif not twins:
        yield (
            f"none of the files is the A/A twin of {baseline.arm}, so that nothing shows how much is noise; "
            f"give {baseline.baseline}.json first and {baseline.baseline}.twin.json with it"
        )
    elif baseline.mode == "fast":
        yield "a fast campaign gets none"
    elif not baseline.contenders:
        yield (
            "these files do not tell how many contenders their campaign had, for whom intervals must hold together; "
            "compare the campaign's directory instead"
        )
    elif judgement.blocks < judgement.needed:
        yield f"intervals that hold together need {judgement.needed} blocks, and there are {judgement.blocks}"


def _part(stamp: Stamp, baseline: Stamp) -> Kind:
    """Return what an arm is beside this baseline: another baseline's twin or control is none here, and no contender."""
    if stamp is baseline:
        return Kind.CONTENDER
    if stamp.kind in (Kind.TWIN, Kind.CONTROL) and stamp.baseline != baseline.arm:
        return Kind.HIDDEN
    return stamp.kind


def _block(case: Case, number: int, runs: _Runs) -> Block:
    stamps = {label: stamp for label, (_, stamp) in runs.items()}
    rounds = min(len(stamp.rounds) for stamp in stamps.values())
    return Block(
        case=case.name,
        index=number,
        field=False,
        order=order(stamps),
        rounds=tuple(order(stamps, each) for each in range(rounds)),
        measurements={label: _measurement(label, run) for label, (run, _) in runs.items()},
        seconds=0.0,
    )


def _measurement(label: str, run: Run) -> Measurement:
    """Put the values in the place of all metrics, since only the benchmark's own one is ever looked at."""
    return Measurement(
        arm=label,
        loops=run.loops,
        wall=run.values,
        client_cpu=run.values,
        server_cpu=run.values,
        client_memory=run.values,
        server_memory=run.values,
        warmups=(),
        client=UNKNOWN,
        server=UNKNOWN,
        peak=0,
        seconds=0.0,
        facts={},
        metadata={},
    )


def _peer_busy(name: str, file: File) -> float | None:
    """Return the fixed peer's utilisation: the median over blocks."""
    found = case_of(name)
    peers = {Role.SERVER: Metric.CLIENT_CPU, Role.CLIENT: Metric.SERVER_CPU}
    if found is None or found[0].role not in peers or found[0].held is not None:
        return None
    case = found[0]
    cpu, wall = (file.series.get(stored_name(case.name, each)) for each in (peers[case.role], Metric.WALL))
    if cpu is None or wall is None:
        return None
    pairs = zip(cpu.runs, wall.runs, strict=False)
    return median(median(one.values) / median(other.values) for one, other in pairs)


def _kind(series: Series) -> Kind | None:
    stamp = series.runs[0].stamp
    return stamp.kind if stamp else None
