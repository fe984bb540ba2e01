"""pyperf files of any origin: their benchmarks as series of runs, with what each run tells about its place in a block.

The files of a campaign tell it (`loopmark.pyperf_files`); those that stock pyperf has made, `python -m loopmark.cell`
among it, do not. What follows from that is the matter of `loopmark.interleaved` and `loopmark.alongside`.
"""

import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyperf

from loopmark.case import Case, Cores, Metric, Role, stored_name
from loopmark.errors import DamagedError, LoopmarkError
from loopmark.pyperf_files import STORED
from loopmark.record import Kind
from loopmark.spi import TLSProfile

LARGEST = 1e100
"""Values beyond this, or below its reciprocal, are no measurement, and their ratios no numbers."""


MOST_CONTENDERS = 1000
"""A file that tells of more is not believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Where a run belongs: to which arm of which campaign, and when it had its turns in its block."""

    campaign: str
    """When the campaign started."""
    mode: str
    seed: int
    margin: float
    baseline: str
    """The campaign's baseline: what its twins are twins of."""
    arm: str
    contender: str
    kind: Kind
    block: int
    position: int
    """Place in the order in which the arms of the block started."""
    contenders: int
    """How many the case had beside the baseline; 0 in files that do not tell."""
    rounds: tuple[int, ...]
    """Place in each round of values, warm-up rounds first; empty when the arm took all of its values in one go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The values of one process, in the unit of the benchmark."""

    values: tuple[float, ...]
    loops: int
    date: str
    """ISO 8601; empty when the run does not tell."""
    stamp: Stamp | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One benchmark of one file, without the runs that calibrate."""

    unit: str
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One pyperf file: its benchmarks by name, and a label that no other file of the comparison has."""

    label: str
    series: Mapping[str, Series]


def read(paths: Sequence[Path]) -> list[File]:
    """Read pyperf's files, compressed ones too; raises DamagedError for the first that is none."""
    stems = Counter(_stem(path) for path in paths)
    labels = [_stem(path) if stems[_stem(path)] == 1 else str(path) for path in paths]
    numbers = [labels[: index + 1].count(label) for index, label in enumerate(labels)]
    return [
        File(label=label if number == 1 else f"{label} ({number})", series=_benchmarks(path))
        for path, label, number in zip(paths, labels, numbers, strict=True)
    ]


def case_of(name: str) -> tuple[Case, Metric] | None:
    """Read a benchmark's name back as `case.stored_name` wrote it; None when it is none of loopmark's."""
    for metric in Metric:
        case = _case(name.removesuffix(f" [{metric}]"))
        if case is not None and stored_name(case.name, metric) == name:
            return case, metric
    return None


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".json")


def _benchmarks(path: Path) -> dict[str, Series]:
    cure = "give files that pyperf has written, or the directories of campaigns"
    try:
        # Absolute, since pyperf takes `-` for standard input.
        suite = pyperf.BenchmarkSuite.load(str(path.absolute()))
        found = {str(each.get_name()): _series(each) for each in suite.get_benchmarks()}
    except OSError as error:
        raise DamagedError(f"{path}: it cannot be read ({error.strerror or error}); {cure}") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, EOFError) as error:
        # pyperf has no errors of its own for what is none of its files; of these only ValueError is meant to be read.
        why = f" ({_one_line(error)})" if isinstance(error, ValueError) else ""
        raise DamagedError(f"{path}: this is no pyperf file{why}; {cure}") from error
    except zlib.error as error:
        raise DamagedError(f"{path}: it is cut short or damaged ({_one_line(error)}); {cure}") from error
    return {name: series for name, series in found.items() if series.runs}


def _series(benchmark: pyperf.Benchmark) -> Series:
    return Series(
        unit=str(benchmark.get_unit()),
        runs=tuple(_run(each) for each in benchmark.get_runs() if each.values),
    )


def _run(run: pyperf.Run) -> Run:
    values = tuple(float(value) for value in run.values)
    if not all(1 / LARGEST < value < LARGEST for value in values):
        raise ValueError("a value is out of range")
    told = run.get_metadata()
    return Run(values=values, loops=int(run.get_total_loops()), date=str(told.get("date", "")), stamp=_stamp(told))


def _stamp(told: Mapping[str, Any]) -> Stamp | None:
    """Read what `loopmark.pyperf_files` has written; None when anything of it is missing."""
    match told:
        case {
            "campaign": str(campaign),
            "mode": str(mode),
            "seed": int(seed),
            "margin": float(margin),
            "baseline": str(baseline),
            "arm": str(arm),
            "contender": str(contender),
            "kind": str(kind),
            "block": int(block),
            "position": int(position),
        } if kind in {each.value for each in STORED} and 0 < margin < 1:
            contenders = told.get("contenders", 0)
            rounds = re.fullmatch(r"\d{1,9}(?: \d{1,9})*", str(told.get("rounds", "")), flags=re.ASCII)
            return Stamp(
                campaign=campaign,
                mode=mode,
                seed=seed,
                margin=margin,
                baseline=baseline,
                arm=arm,
                contender=contender,
                kind=Kind(kind),
                block=block,
                position=position,
                contenders=contenders if isinstance(contenders, int) and 0 <= contenders < MOST_CONTENDERS else 0,
                rounds=tuple(map(int, rounds[0].split())) if rounds else (),
            )
    return None


def _case(name: str) -> Case | None:
    """Read `Case.name` back."""
    found = re.fullmatch(r"([^\[\]]+)\[([^\[\]]+)\]", name)
    if found is None:
        return None
    axes = dict(each.partition("=")[::2] for each in found[2].split(","))
    try:
        case = Case(
            benchmark=found[1],
            concurrency=int(axes["burst"] if "burst" in axes else axes["c"]),
            role=Role(axes["role"]),
            peer=axes.get("peer"),
            cores=Cores(axes["cores"]),
            tls=_profile(axes) if "tls" in axes else None,
            burst="burst" in axes,
            connections=int(axes["n"]) if "n" in axes else None,
            # The one axis that has no name comes first.
            variant="" if "=" in found[2].partition(",")[0] else found[2].partition(",")[0],
            rtt=float(axes["rtt"].removesuffix("ms")) if "rtt" in axes else None,
            held=int(axes["held"]) if "held" in axes else None,
        )
    except (KeyError, ValueError, LoopmarkError):
        return None
    return case if case.name == name else None


def _profile(axes: Mapping[str, str]) -> TLSProfile:
    return TLSProfile(
        version=axes["tls"],
        key=axes["key"],
        group=axes["group"],
        cipher=axes.get("cipher"),
        tickets=int(axes.get("tickets", "0")),
        resumed="resumed" in axes,
        client_key=axes.get("client-key"),
    )


def _one_line(error: Exception) -> str:
    text = " ".join("".join(each if each.isprintable() else " " for each in str(error)).split())
    return text if len(text) <= 100 else f"{text[:97]}..."
