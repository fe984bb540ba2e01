"""Who may import whom. The rules are those of docs/design.md; a module that no rule knows fails as well."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from loopmark.registry import registry

ROOT = Path(__file__).parents[1]
SOURCES = {"": ROOT / "src/loopmark", "backends": ROOT / "backends", "benchmarks": ROOT / "benchmarks"}

# What a part of the core may import of the core, beside its own modules; parts that are not named here are held by the
# other tests only.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "service": {"errors"},
    "http1": {"errors", "service"},
    "spi": {"errors", "service"},
    "case": {"errors", "service", "spi"},
    "tls": {"errors", "spi"},
    "ledger": {"errors", "service", "spi"},
    "traffic": {"case", "errors", "service", "spi"},
    "backends": {"errors", "service", "spi"},
    "benchmarks": {"case", "http1", "service", "spi", "tls"},
    "record": {"case"},
    "wire": {"case", "errors", "record", "service", "spi", "traces"},
    "traces": {"record", "tlsrecords"},
    "tlsrecords": set(),
    "timings": set(),
    "reqtimes": {"errors", "http1", "spi", "timings", "traffic"},
    "relay": {"record", "spi", "traces"},
    "resumption": {"errors", "service", "spi", "tls"},
    "eventlog": {"errors", "service", "spi"},
    "network": {"errors", "tunnel"},
    "tunnel": set(),
    "procfs": set(),
    "registry": {"case", "errors", "spi"},
    "task": {"case", "errors", "registry", "spi", "tls"},
    "stats": set(),
    "verdicts": {"stats"},
    "plan": {"case", "errors", "record", "spi"},
    "comparable": {"record"},
    "judgement": {"comparable", "plan", "record", "stats", "verdicts"},
    "foreign": {"case", "errors", "pyperf_files", "record", "spi"},
    "interleaved": {"foreign"},
    "alongside": {"case", "comparable", "errors", "foreign", "interleaved", "judgement", "record", "stats", "verdicts"},
    "sameness": {"record"},
    "regression": {"case", "judgement", "record", "sameness", "stats", "verdicts"},
    "listening": {"spi"},
    "nginx": {"errors", "listening", "nginx_setup", "peer", "procfs", "references", "spi", "task"},
    "nginx_setup": {"errors", "registry", "service", "spi", "task"},
    "references": {"peer"},
    "deadlines": {"case", "spi"},
    "arms": {"case", "deadlines", "errors", "plan", "record", "task"},
    "run": {"arms", "errors", "judgement", "plan", "record"},
    "executor": {"arms", "task"},
    "lastwords": set(),
    "continuing": {"campaign", "errors", "machine", "plan", "probe", "record", "redact", "sameness"},
    "callgrind": {"errors"},
    "counts": {"case", "record", "sameness"},
    "callstats": {"procfs"},
    "pyspy": {"errors"},
    "profiling": {"callstats", "case", "errors", "executor", "pyspy", "task"},
    "instructions": {"arms", "callgrind", "case", "counts", "executor", "record", "task"},
    "soundness": {"case", "record"},
    "store": {"codec", "counts", "errors", "pyperf_files", "record", "redact", "soundness"},
    "publish": {"case", "charts", "counts", "errors", "judgement", "record", "redact", "regression", "report", "store"},
    "charts": {"case", "errors", "judgement", "record", "report", "stats"},
    "site": {"charts", "errors", "judgement", "publish", "record", "report"},
    "report": {"case", "errors", "judgement", "plan", "record", "stats", "verdicts"}
    | {"callstats", "profiling"}
    | {"alongside", "counts", "foreign", "regression", "timings"},
    # The second line is the fake executor's.
    "testing": {"case", "errors", "ledger", "listening", "relay", "service", "spi", "tls", "wire"}
    # Those of the faults against servers, which run in processes of their own.
    | {"case", "ledger", "limits", "peer", "procfs", "registry", "task"}
    | {"arms", "case", "record", "registry", "task"}
    # Those of the faults against clients: bad certificates, and whole conversations.
    | {"certs", "pem", "traffic"}
    # Those of `loopmark check`, a process of its own.
    | {"certs", "peer", "probe", "registry"},
}

# Who may import a library, also late and inside a function. asyncio is in the standard library, and is one here.
USERS: dict[str, set[str]] = {
    "anyio": {"backends.anyio_streams"},
    "asyncio": {
        "backends.anyio_streams",
        "backends.asyncio_base",
        "backends.asyncio_datagrams",
        "backends.asyncio_protocol",
        "backends.asyncio_sockets",
        "backends.asyncio_streams",
        "block",  # preloaded before the fork, the same for every arm
    },
    "click": {"cli"},
    "cryptography": {"certs", "pem", "testing.clientfaults"},
    "httptools": {"http1"},
    "platformdirs": {"certs", "benchmarks.sendfile"},
    "psutil": {"limits", "machine", "procfs"},
    "pyperf": {"block", "caller", "cell", "foreign", "pyperf_files"},
    "rich": {"progress"},
    "tabulate": {"report"},
    "trio": {"backends.trio_streams"},
    "uvloop": set(),  # by its entry point only
    "vl_convert": {"charts"},
}

SCHEDULERS = [
    *(
        "alongside",
        "arms",
        "callgrind",
        "callstats",
        "charts",
        "comparable",
        "counts",
        "executor",
        "foreign",
        "instructions",
        "interleaved",
        "judgement",
        "plan",
        "profiling",
        "publish",
        "pyperf_files",
        "pyspy",
        "record",
        "regression",
        "report",
        "run",
        "sameness",
        "site",
        "stats",
        "store",
        "verdicts",
    )
]
MEASURING = {
    "block",
    "caller",
    "cell",
    "counted",
    "factcheck",
    "floor",
    "gauges",
    "lastwords",
    "ledger",
    "listening",
    "nginx",
    "peer",
    "processes",
    "profiled",
    "relay",
    "traffic",
    "turns",
    "wire",
}
KEPT_OUT = {"numpy", "scipy", "cryptography", "rich", "click", "tabulate", "vl_convert"}
"""Of measured processes: they start threads, or change the heap of some contenders and not of others."""


def modules() -> Iterator[tuple[str, Path]]:
    """Yield each module's name below `loopmark`, and its file."""
    for package, directory in SOURCES.items():
        for path in sorted(directory.rglob("*.py")):
            parts = [package, *path.relative_to(directory).with_suffix("").parts]
            yield ".".join(part for part in parts if part and part != "__init__"), path


MODULES = dict(modules())


@cache
def imports(module: str) -> frozenset[str]:
    """Return the absolute names that a module imports anywhere; `from a import b` gives `a.b`."""
    found = set[str]()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import stays within its own package here, which every rule allows.
            package = ".".join(("loopmark", *module.split(".")[:-1])) if node.level else ""
            base = ".".join(filter(None, (package, node.module)))
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(found)


def of_core(module: str) -> set[str]:
    """Return the modules of the core that a module imports, named below `loopmark`."""
    names = {name.removeprefix("loopmark.") for name in imports(module) if name.startswith("loopmark.")}
    return {found for name in names for found in (name, name.rpartition(".")[0]) if found in MODULES and found}


def closure(module: str) -> set[str]:
    """Return a module and all of the core that comes with it."""
    found, todo = set[str](), [module]
    while todo:
        if (current := todo.pop()) not in found:
            found.add(current)
            todo.extend(of_core(current))
    return found


def part(module: str) -> str:
    return module.partition(".")[0]


def libraries(module: str) -> set[str]:
    tops = {part(name) for name in imports(module)}
    return {top for top in tops if top in USERS or top not in sys.stdlib_module_names} - {"loopmark"}


def test_every_rule_is_about_a_module_that_exists() -> None:
    known = {part(module) for module in MODULES} | set(MODULES)
    named = {*ALLOWED, *SCHEDULERS, *(name for names in (*ALLOWED.values(), *USERS.values()) for name in names)}
    assert named <= known


@pytest.mark.parametrize("module", [module for module in MODULES if part(module) in ALLOWED])
def test_a_module_imports_only_what_its_rule_allows(module: str) -> None:
    own = part(module)
    assert {part(each) for each in of_core(module)} <= ALLOWED[own] | {own}


@pytest.mark.parametrize("module", MODULES)
def test_a_library_is_imported_only_where_it_belongs(module: str) -> None:
    unknown = libraries(module) - set(USERS)
    assert not unknown
    for library in libraries(module):
        assert {module, part(module)} & USERS[library], library


@pytest.mark.parametrize("module", [module for module in MODULES if part(module) in ("backends", "benchmarks")])
def test_backends_and_benchmarks_never_spell_their_own_package(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    assert f"loopmark.{part(module)}" not in text


@pytest.mark.parametrize("module", SCHEDULERS)
def test_the_scheduler_never_imports_what_it_schedules(module: str) -> None:
    parts = {part(each) for start in MODULES if part(start) == module for each in closure(start)}
    assert not parts & (MEASURING | {"backends", "benchmarks"})


@pytest.mark.parametrize("module", ["block", "caller", "counted", "peer", "profiled"])
def test_measured_processes_import_nothing_that_spoils_them_not_even_late(module: str) -> None:
    found = {library for each in closure(module) for library in libraries(each)}
    assert not found & KEPT_OUT


LOADED = """
import importlib, json, sys, threading
importlib.import_module(sys.argv[1])
from loopmark import procfs
modules = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"modules": modules, "threads": max(threading.active_count(), procfs.threads() or 1)}))
"""


# The manager of `cell` imports certs late; its workers, which are measured, do not.
@pytest.mark.parametrize("module", ["block", "caller", "counted", "peer", "profiled", "cell"])
def test_a_measured_process_starts_without_threads_and_without_any_contenders_library(module: str) -> None:
    command = [sys.executable, "-P", "-c", LOADED, f"loopmark.{module}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert not set(loaded["modules"]) & (KEPT_OUT | {"anyio", "trio", "uvloop"})
    assert loaded["threads"] == 1


BUILT_IN = [name for name, each in registry().contenders.items() if each.backend.package == "loopmark"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_built_in_backend_brings_traffic_of_its_own(name: str) -> None:
    contender = registry().contenders[name]
    for source in filter(None, (contender.backend, contender.loop)):
        pytest.importorskip(source.value.partition(":")[0])
    backend = contender.load()
    assert backend.churn is None
    assert backend.yardstick is False
