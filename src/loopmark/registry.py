"""Contenders and benchmarks by name: from entry points and from a plug-in file. Nothing is imported to list names.

A backend's entry point is named after its contender. The word LOOP in the name stands for every loop that is
registered, so a third party's loop `zippy` becomes `zippy`, `zippy-protocol`, `zippy-sockets` and `anyio+zippy` with
one line of metadata.
"""

import difflib
import importlib.metadata
import re
import runpy
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from loopmark.case import Benchmark
from loopmark.errors import LoopmarkError, UnavailableError, UsageError
from loopmark.spi import Backend

BACKENDS, LOOPS, BENCHMARKS = "loopmark.backends", "loopmark.loops", "loopmark.benchmarks"
GROUPS = {"backends": BACKENDS, "loops": LOOPS, "benchmarks": BENCHMARKS}
PLACEHOLDER = "LOOP"
ALIASES = {"anyio": "anyio+asyncio"}
_NAME = re.compile(r"[^\s,]+")
"""What `-b` and `-w` can say."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where to load an object from: `module:attribute`, or a plug-in file's group and name."""

    value: str
    plugin: str | None = None
    distribution: str = ""
    """Who registered it, with the version; empty for a plug-in file."""
    flaw: str = ""
    """Why its registration cannot be used, with who made it."""

    def load(self) -> Any:
        """Import it now; raises UsageError where the registration itself is wrong."""
        if self.flaw:
            raise UsageError(self.flaw)
        if self.plugin is None:
            return importlib.metadata.EntryPoint(name="", value=self.value, group="").load()
        group, _, name = self.value.partition(":")
        return _run_plugin(self.plugin)[group][name]

    @property
    def package(self) -> str | None:
        """The top-level package, None for a plug-in file."""
        return None if self.plugin else self.value.partition(":")[0].partition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A backend on a loop, by name, not yet loaded."""

    name: str
    backend: Source
    loop: Source | None = None
    reference: bool = False
    """A server that is not ours; `backend` is a function that plays it, as `loopmark.nginx.serve` does."""

    def load(self) -> Backend:
        """Import backend and loop and put them together; whatever an import raises flies."""
        make: Callable[..., Backend] = self.backend.load()
        if not callable(make):
            raise UsageError(f"{self.name}: {self.backend.value} is a {_kind(make)}: name the backend's class")
        loop = None if self.loop is None else self.loop.load()
        if self.loop is not None and not callable(loop):
            raise UsageError(f"{self.name}: {self.loop.value} makes no event loop: it cannot be called")
        backend = make() if loop is None else make(loop)
        if not isinstance(backend, Backend):
            raise UsageError(f"{self.name}: {self.backend.value} makes no loopmark.spi.Backend")
        return backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """All names that exist here."""

    contenders: dict[str, Contender]
    benchmarks: dict[str, Source]
    loops: dict[str, Source]

    def contender(self, name: str) -> Contender:
        """Find a contender by its name or alias; raises UsageError with close matches."""
        return _find(ALIASES.get(name, name), self.contenders, "contender")

    def benchmark(self, name: str) -> Benchmark:
        """Load a benchmark by name, `tcp_echo` or `tcp_echo:1KiB`; raises UsageError with close matches."""
        name, colon, variant = name.partition(":")
        source = _find(name, self.benchmarks, "benchmark")
        try:
            benchmark = source.load()
        except Exception as error:  # whatever a third party's import raises must not stop the others
            of = f" of {source.distribution}" if source.distribution else ""
            raise UnavailableError(f"{name}{of} cannot be loaded: {_kind(error)}: {error}") from error
        if not isinstance(benchmark, Benchmark):
            raise UsageError(f"{name}: {source.value} is a {_kind(benchmark)}, not a loopmark.case.Benchmark")
        if colon:
            benchmark.conversation(variant)
        return benchmark


def registry(plugin: Path | None = None, plugin_names: dict[str, list[str]] | None = None) -> Registry:
    """List what is installed, and what a plug-in file adds.

    `plugin_names` are the file's names by group, so that a process that must not run the file needs not; without them
    the file is run.
    """
    sources = {short: _entry_points(group) for short, group in GROUPS.items()}
    if plugin is not None:
        names = plugin_names or names_in(plugin)
        for short in GROUPS:
            for name in names.get(short, ()):
                source = Source(value=f"{short}:{name}", plugin=str(plugin))
                there = sources[short].get(name)
                sources[short][name] = _disputed(name, there, source) if there else source
    return Registry(
        contenders=_contenders(sources["backends"], sources["loops"]),
        benchmarks=sources["benchmarks"],
        loops=sources["loops"],
    )


def names_in(plugin: Path) -> dict[str, list[str]]:
    """Run a plug-in file and list what it defines, by group."""
    return {group: sorted(members) for group, members in _run_plugin(str(plugin)).items()}


def close_matches(name: str, known: Iterable[str]) -> str:
    """Say which names come close, as the end of a sentence; empty when none does."""
    names = list(known)
    begun = [each for each in names if name and each.startswith(name)]
    close = begun[:3] or difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _contenders(backends: dict[str, Source], loops: dict[str, Source]) -> dict[str, Contender]:
    contenders: dict[str, Contender] = {}
    for template, backend in backends.items():
        made = {template.replace(PLACEHOLDER, name): loop for name, loop in loops.items()}
        for name, loop in made.items() if PLACEHOLDER in template else [(template, None)]:
            rival = contenders.get(name)
            source = _disputed(name, rival.backend, backend) if rival else backend
            contenders[name] = Contender(name=name, backend=source, loop=loop)
    return dict(sorted(contenders.items()))


def _disputed(name: str, first: Source, second: Source) -> Source:
    """Return what stands for a name that is registered twice; raises UsageError when a plug-in file does so."""
    if second.plugin:
        whose = "is there twice" if first.plugin else f"belongs to {first.distribution}"
        raise UsageError(f"--plugin {second.plugin}: the name {name!r} {whose}: give it another")
    owners = " and ".join(sorted({first.distribution, second.distribution}))
    return replace(second, flaw=f"{name!r} is registered twice, by {owners}: one has to go, or to take another name")


def _entry_points(group: str) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for entry in importlib.metadata.entry_points(group=group):
        distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package without metadata"
        proper = _NAME.fullmatch(entry.name)
        flaw = "" if proper else f"{distribution} registers {entry.name!r}: it must be text without space and comma"
        source = Source(value=entry.value, distribution=distribution, flaw=flaw)
        there = found.get(entry.name)
        found[entry.name] = _disputed(entry.name, there, source) if there else source
    return found


def _kind(made: object) -> str:
    return type(made).__name__


@cache
def _run_plugin(path: str) -> dict[str, dict[str, Any]]:
    """Run a plug-in file; it defines any of the dicts `backends`, `loops` and `benchmarks`, name to object."""
    if not Path(path).is_file():
        raise UsageError(f"--plugin {path}: {'that is no file' if Path(path).exists() else 'no such file'}")
    try:
        module = runpy.run_path(path, run_name="loopmark_plugin")
    except (Exception, SystemExit) as error:  # whatever the file does wrong, its author must read of it in one line
        lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == path]
        where = f" (line {lines[-1]})" if lines else ""
        kind = "" if isinstance(error, LoopmarkError) else f"{_kind(error)}: "
        raise UsageError(f"--plugin {path}: {kind}{error}{where}") from error
    found = {group: module[group] for group in GROUPS if group in module}
    for group, members in found.items():
        if not isinstance(members, dict):
            raise UsageError(f"--plugin {path}: {group} is no dict, name to object")
        for name in members:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise UsageError(
                    f"--plugin {path}: {group} has the name {name!r}: it must be text without space and comma"
                )
    if not any(found.values()):
        raise UsageError(f"--plugin {path}: defines none of the dicts {', '.join(GROUPS)}")
    return found


def _find(name: str, known: dict[str, T], what: str) -> T:
    if name in known:
        return known[name]
    raise UsageError(f"unknown {what} {name!r}; there are {', '.join(known)}{close_matches(name, known)}")
