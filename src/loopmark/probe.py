"""Load each contender in a process of its own and throw that away: what is missing, and what an import does.

Run as `python -m loopmark.probe [PLUGIN]`; prints one JSON document. Only this process and its children ever run a
plug-in before it is measured.
"""

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loopmark.errors import LoopmarkError, UnavailableError, UsageError
from loopmark.registry import Contender, Registry, Source, names_in, registry
from loopmark.spi import Backend, Feature

EXTRAS = ("uvloop", "trio", "anyio")

# What a library that patches the standard library would replace.
_WATCHED = (
    ("socket", "socket"),
    ("socket", "create_connection"),
    ("ssl", "SSLContext"),
    ("ssl", "SSLSocket"),
    ("selectors", "DefaultSelector"),
    ("threading", "Thread"),
    ("time", "sleep"),
    ("asyncio", "new_event_loop"),
    ("os", "fork"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of loading one contender: `ok`, `missing` or `failed`; `reason` says why, and what to do."""

    name: str
    status: str
    reason: str = ""
    features: tuple[str, ...] = ()
    versions: dict[str, str] | None = None
    fork_safe: bool = True
    """False when the import starts a thread or patches the standard library."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Everything that exists here: the registry and what came of loading each contender."""

    registry: Registry
    findings: dict[str, Finding]


def survey(plugin: Path | None = None) -> Survey:
    """Look at every contender in throw-away processes; raises UsageError when the plug-in file is unusable."""
    command = [sys.executable, "-P", "-m", "loopmark.probe", *([str(plugin)] if plugin else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    try:
        document = json.loads(done.stdout)
    except ValueError:
        raise UsageError(f"could not list the contenders: {done.stderr.strip()[-500:]}") from None
    if "error" in document:
        raise UsageError(document["error"])
    findings = {each["name"]: Finding(**{**each, "features": tuple(each["features"])}) for each in document["findings"]}
    return Survey(registry=registry(plugin, document["plugin_names"]), findings=findings)


def runnable(contender: Contender) -> Backend:
    """Load a contender for use in this very process; raises UnavailableError with the reason and the cure."""
    finding = load(contender)
    if finding.status != "ok":
        raise UnavailableError(f"{contender.name} cannot run here: {finding.reason}")
    return contender.load()


def load(contender: Contender) -> Finding:
    """Load a contender in this process, which should not be used for anything else afterwards."""
    threads, before = threading.active_count(), _watched()
    try:
        backend = contender.load()
        if contender.loop is not None:
            # Not every backend makes one before it runs.
            _make(contender.loop)
        versions, features = _versions(contender, backend), _features(backend)
    except ModuleNotFoundError as error:
        module = error.name or str(error)
        if (owner := _misnamed(contender, module)) is not None:
            reason = f"{owner} registers it as something in the module {module}, which does not exist"
            return Finding(name=contender.name, status="failed", reason=reason)
        return Finding(name=contender.name, status="missing", reason=_install(module))
    except importlib.metadata.PackageNotFoundError as error:
        return Finding(name=contender.name, status="missing", reason=_install(str(error.name)))
    except UsageError as error:
        return Finding(name=contender.name, status="failed", reason=str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001  # anybody's import may raise anything, others go on
        return Finding(name=contender.name, status="failed", reason=f"{type(error).__name__}: {error}")
    return Finding(
        name=contender.name,
        status="ok",
        features=features,
        versions=versions,
        fork_safe=_watched() == before and threading.active_count() == threads,
    )


def _make(loop: Source) -> None:
    """Make a loop and close it; raises UsageError unless it is one."""
    made = loop.load()()
    if not hasattr(made, "run_until_complete"):
        raise UsageError(f"{loop.value} makes a {type(made).__name__}, no event loop")
    made.close()


def _features(backend: Backend) -> tuple[str, ...]:
    """Read what a backend declares; raises UsageError unless these are features."""
    declared: object = backend.features
    if not isinstance(declared, AbstractSet) or not declared <= set(Feature):
        raise UsageError(f"features is {declared!r}: it must be a set of any of {', '.join(Feature)}")
    return tuple(sorted(declared))


def _misnamed(contender: Contender, module: str) -> str | None:
    """Return which third party names a module that it does not have; None where something else is missing."""
    for source in (contender.backend, contender.loop):
        # What loopmark itself registers are others' libraries, too.
        named = source is not None and source.value.partition(":")[0]
        if source and source.distribution.partition(" ")[0] not in ("", "loopmark") and named == module:
            return source.distribution
    return None


def _watched() -> list[object]:
    return [getattr(importlib.import_module(module), name) for module, name in _WATCHED]


def _versions(contender: Contender, backend: Backend) -> dict[str, str]:
    names = list(backend.distributions)
    package = contender.loop.package if contender.loop else None
    if package and package not in sys.stdlib_module_names:
        names += importlib.metadata.packages_distributions().get(package, [])
    return {name: importlib.metadata.version(name) for name in names}


def _install(module: str) -> str:
    package = module.partition(".")[0]
    wanted = f"'loopmark[{package}]'" if package in EXTRAS else package
    return f"{package} is not installed; type: pip install {wanted}"


def _in_child(work: Callable[[], object]) -> tuple[Any, int]:
    """Run in a forked child; return what it returned, through JSON and None when it died, and its exit status."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            # What an import prints must not mix with our own output.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            with os.fdopen(writer, "w") as pipe:
                json.dump(work(), pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    return json.loads(text) if text else None, os.waitstatus_to_exitcode(status)


def _loaded(contender: Contender) -> dict[str, Any]:
    finding, status = _in_child(lambda: asdict(load(contender)))
    if finding is None:
        reason = f"its process died while importing it (exit status {status})"
        finding = asdict(Finding(name=contender.name, status="failed", reason=reason))
    return dict(finding)


def _named(plugin: Path) -> dict[str, Any]:
    """Return a plug-in file's names, or its `error`; a child runs it, so that loading it is still to be seen."""

    def look() -> dict[str, Any]:
        try:
            return {"names": names_in(plugin)}
        except LoopmarkError as error:
            return {"error": str(error)}

    found, status = _in_child(look)
    return dict(found or {"error": f"--plugin {plugin}: its process died while running it (exit status {status})"})


def _main(arguments: list[str]) -> None:
    plugin = Path(arguments[0]) if arguments else None
    named = _named(plugin) if plugin else {"names": {}}
    if "error" in named:
        json.dump(named, sys.stdout)
        return
    known = registry(plugin, named["names"])
    findings = [_loaded(contender) for contender in known.contenders.values()]
    json.dump({"plugin_names": named["names"], "findings": findings}, sys.stdout)


if __name__ == "__main__":
    _main(sys.argv[1:])
