"""A campaign as pyperf files, one per contender: what stock pyperf can show, check and compare.

Each case gives three benchmarks, named by case and metric and never by contender; each block one run. pyperf compares
pooled values and calls a difference significant whenever the numbers of values differ, so an arm that is missing in
some blocks of a case has no benchmark of that case.

Every run's metadata say where it belongs, so that `loopmark compare` finds in any choice of these files what was
measured together: value i of all arms in a block is of the same round.
"""

import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import pyperf

from loopmark import redact
from loopmark.case import TIMES, Metric, stored_name
from loopmark.record import COMPARED, Arm, Block, Campaign, CasePlan, Kind

_Flat = dict[str, str | int | float]

STORED = (*COMPARED, Kind.TWIN, Kind.CONTROL)
"""The kinds that have files: those that have taken the same values."""

PRIVATE = {"hostname", "python_executable", "python_config_args", "command"}
"""What pyperf collects of names and paths; never stored."""

_DROPPED = {
    *("tags", "calibrate_loops", "recalibrate_loops", "calibrate_warmups", "recalibrate_warmups"),
    *("inner_loops", "loops", "name", "unit"),  # these are ours to say
    *PRIVATE,
}

_EQUAL = (
    "aslr",
    "cpu_count",
    "cpu_model_name",
    "platform",
    "python_implementation",
    "python_unicode",
    "python_version",
)
"""pyperf refuses a benchmark in which these differ between runs."""

_AT_LEAST_ONE = {"mem_max_rss", "mem_peak_pagefile_usage", "command_max_rss"}
_NOT_NEGATIVE = {"duration", "uptime", "load_avg_1min"}


def pyperf_files(campaign: Campaign) -> Iterator[tuple[str, bytes | None]]:
    """Yield the name and the content of every contender's file; None where there is nothing (any more) to store."""
    arms = {arm.label: arm for plan in campaign.cases for arm in plan.arms if arm.kind in STORED}
    # On some file systems only the case of letters would tell two names apart; campaign.json is not ours.
    taken = Counter({"campaign.json": 1})
    for arm in arms.values():
        stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", arm.label).strip("-.") or "arm"
        name = f"{stem}.json"
        taken[name.lower()] += 1
        if taken[name.lower()] > 1:
            name = f"{stem}-{taken[name.lower()]}.json"
        benchmarks = [each for plan in campaign.cases for each in _benchmarks(campaign, plan, arm)]
        yield name, _dumped(benchmarks) if benchmarks else None


def _benchmarks(campaign: Campaign, plan: CasePlan, arm: Arm) -> Iterator[pyperf.Benchmark]:
    blocks = [block for block in campaign.blocks if block.case == plan.case.name and not block.field]
    if not blocks or any(arm.label not in block.measurements for block in blocks):
        return
    common = _common([_flat(block.measurements[arm.label].metadata) for block in blocks])
    for metric in plan.case.metrics:
        if all(value > 0 for block in blocks for each in block.measurements.values() for value in each.values(metric)):
            yield pyperf.Benchmark([_run(campaign, plan, arm, block, metric, common) for block in blocks])


def _run(campaign: Campaign, plan: CasePlan, arm: Arm, block: Block, metric: Metric, common: set[str]) -> pyperf.Run:
    measurement = block.measurements[arm.label]
    ours: _Flat = {
        "name": stored_name(plan.case.name, metric),
        "unit": "second" if metric in TIMES else "byte",
        "loops": measurement.loops,
        "block": block.index,
        "position": block.order.index(arm.label),
        "seed": campaign.seed,
        "margin": campaign.margin,
        "contenders": len(plan.labels(*COMPARED)) - 1,
    }
    texts: _Flat = {
        "campaign": campaign.started,
        "mode": campaign.mode,
        "baseline": campaign.baseline_of(plan),
        "arm": arm.label,
        "contender": arm.contender,
        "caller": arm.caller or "",
        "kind": arm.kind.value,
        # Its place in each round, warm-up rounds first.
        "rounds": " ".join(str(one.index(arm.label)) for one in block.rounds),
    }
    flat = {"layout": "one per block, random", **_flat({**measurement.metadata, **texts})}
    theirs = {key: value for key, value in flat.items() if key not in _EQUAL or key in common}
    # A warm-up value is measured by the wall clock only.
    warmups = [(measurement.loops, value) for value in measurement.warmups] if metric is Metric.WALL else []
    return pyperf.Run(measurement.values(metric), warmups=warmups, metadata={**theirs, **ours}, collect_metadata=False)


def _common(runs: Sequence[_Flat]) -> set[str]:
    """Return those of pyperf's checked keys that have one value in all runs."""
    return {key for key in _EQUAL if len({run.get(key) for run in runs}) == 1}


def _flat(metadata: Mapping[str, str | int | float]) -> _Flat:
    """Keep what pyperf accepts and what tells neither a name nor a path."""
    kept: _Flat = {}
    for key, value in metadata.items():
        clean = " ".join(value.split()) if isinstance(value, str) else value
        if key not in _DROPPED and _accepted(key, clean):
            kept[key] = clean
    return kept


def _accepted(key: str, value: str | float) -> bool:
    if key in _AT_LEAST_ONE:
        return isinstance(value, int) and value >= 1
    if key in _NOT_NEGATIVE:
        return not isinstance(value, str) and value >= 0
    if isinstance(value, str):
        return bool(value) and not redact.has_path(value) and (key != "date" or _is_date(value))
    return key not in {"date", "boot_time"}


def _is_date(value: str) -> bool:
    # pyperf computes with dates and cannot mix those with a zone and those without.
    try:
        return datetime.fromisoformat(value).tzinfo is None
    except ValueError:
        return False


def _dumped(benchmarks: list[pyperf.Benchmark]) -> bytes:
    stream = io.StringIO()
    pyperf.BenchmarkSuite(benchmarks).dump(stream)
    return stream.getvalue().encode("utf-8")
