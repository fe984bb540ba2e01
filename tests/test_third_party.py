"""Loops, backends and benchmarks of others: packages with entry points, and unpackaged files."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loopmark.certs import ensure
from loopmark.registry import registry
from loopmark.testing import check_backend, require_kept

DOCS = Path(__file__).parents[1] / "docs"


def snippet(page: str, language: str) -> str:
    """Return the first piece of code in this language on a page of the documentation, which is what users will copy."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return text.partition(f"```{language}\n")[2].partition("```\n")[0]


PYPROJECT = snippet("add-a-backend.md", "toml")

# Facts have the class of the running loop, so this one tells by its name which of our programs its process is.
LOOP = """
import asyncio, sys
class Zippy(asyncio.SelectorEventLoop):
    pass
Zippy.__qualname__ = next(word for word in sys.orig_argv if word.startswith("loopmark."))
new_event_loop = Zippy
"""

THREAD = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""

BACKEND_FILE = (
    LOOP
    + """
from loopmark.backends.asyncio_streams import AsyncioStreams
class Mine(AsyncioStreams):
    def __init__(self):
        super().__init__(Zippy)
backends = {"mine": Mine}
"""
)


class Installed:
    """A directory with packages in it, and loopmark run so that it sees them."""

    def __init__(self, directory: Path, certificates: Path) -> None:
        self.directory = directory
        self.certificates = certificates

    def install(self, name: str, code: str) -> None:
        """Install a package of one module whose only entry point is a loop of the same name."""
        source = self.directory / f"{name}-source"
        source.mkdir()
        (source / "pyproject.toml").write_text(PYPROJECT.replace("zippy", name))
        (source / f"{name}.py").write_text(code)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(self.directory / "site")]
        subprocess.run([*pip, *options, str(source)], check=True)

    def loopmark(self, *arguments: str | Path) -> str:
        """Run loopmark and return what it printed; any other status than 0 is an error."""
        command = [sys.executable, "-P", "-c", "from loopmark.cli import main; main()", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(self.directory / "site")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def contenders(self, *arguments: str | Path) -> dict[str, Any]:
        """Return what `loopmark list` says about each contender, by name."""
        listed = json.loads(self.loopmark("list", "--json", *arguments))
        return {each["name"]: each for each in listed["contenders"]}

    def run(self, *arguments: str | Path) -> dict[str, Any]:
        """Run a campaign of one block with one connection at a time, and return it as it was stored."""
        results = self.directory / "results"
        fixed: list[str | Path] = ["--fast", "--blocks", "1", "-c", "1", "--no-progress", "--results", results]
        self.loopmark("run", *fixed, "--certs", self.certificates, *arguments)
        (path,) = results.glob("*/campaign.json")
        campaign: dict[str, Any] = json.loads(path.read_text())
        return campaign


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certs")


@pytest.fixture
def installed(tmp_path: Path, certificates: Path) -> Installed:
    return Installed(tmp_path, certificates)


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def loops(campaign: dict[str, Any], arm: str) -> tuple[str, str]:
    """Return the classes of the loops on which client and server of an arm ran in the only block."""
    (block,) = campaign["blocks"]
    facts = block["measurements"][arm]["facts"]
    return facts["client"]["loop"], facts["server"]["loop"]


def test_a_package_with_a_loop_becomes_four_contenders_of_which_any_can_be_measured(installed: Installed) -> None:
    installed.install("zippy", LOOP)
    listed = installed.contenders()
    for name in ("zippy", "zippy-protocol", "zippy-sockets", "anyio+zippy"):
        assert listed[name]["status"] == "ok"
        assert listed[name]["versions"]["zippy"] == "1.5"
        assert listed[name]["fork_safe"]
    assert loops(installed.run("-b", "zippy"), "zippy") == ("zippy.loopmark.block", "zippy.loopmark.block")


def test_a_package_that_fails_to_import_is_listed_with_its_reason_and_breaks_nothing(installed: Installed) -> None:
    installed.install("shattered", "raise RuntimeError('into a thousand pieces')")
    listed = installed.contenders()
    assert listed["shattered"]["status"] == "failed"
    assert listed["shattered"]["reason"] == "RuntimeError: into a thousand pieces"
    assert listed["asyncio"]["status"] == "ok"


def test_a_package_that_kills_its_process_is_listed_with_its_reason_and_breaks_nothing(installed: Installed) -> None:
    installed.install("fatal", "import os; os._exit(7)")
    listed = installed.contenders()
    assert listed["fatal"]["status"] == "failed"
    assert "exit status 7" in listed["fatal"]["reason"]
    assert listed["asyncio"]["status"] == "ok"


def test_a_package_that_starts_a_thread_is_measured_in_fresh_processes(installed: Installed) -> None:
    installed.install("zippy", LOOP + THREAD)
    listed = installed.contenders()
    assert not listed["zippy"]["fork_safe"]
    assert listed["asyncio"]["fork_safe"]
    assert loops(installed.run("-b", "zippy"), "zippy") == ("zippy.loopmark.caller", "zippy.loopmark.peer")


def test_a_file_brings_a_backend(installed: Installed) -> None:
    plugin = installed.directory / "mine.py"
    plugin.write_text(BACKEND_FILE)
    assert "mine" not in installed.contenders()
    assert installed.contenders("--plugin", plugin)["mine"]["fork_safe"]
    campaign = installed.run("-b", "mine", "--plugin", plugin)
    assert loops(campaign, "mine") == ("loopmark_plugin.loopmark.block", "loopmark_plugin.loopmark.block")


def test_a_file_that_starts_a_thread_is_measured_in_fresh_processes(installed: Installed) -> None:
    plugin = installed.directory / "mine.py"
    plugin.write_text(BACKEND_FILE + THREAD)
    assert not installed.contenders("--plugin", plugin)["mine"]["fork_safe"]
    campaign = installed.run("-b", "mine", "--plugin", plugin)
    assert loops(campaign, "mine") == ("loopmark_plugin.loopmark.caller", "loopmark_plugin.loopmark.peer")


def test_the_backend_of_the_documentation_keeps_the_contract(installed: Installed) -> None:
    plugin = installed.directory / "mine.py"
    plugin.write_text(snippet("add-a-backend.md", "python"))
    backend = registry(plugin).contender("asyncio-debug").load()
    assert backend.run(running_loop).get_debug()
    # Those that see whether the variant still works as a client and as a server; the others are the original's.
    clauses = ("run_makes_a_fresh_loop", "client_converses", "server_converses")
    require_kept(check_backend(backend, ensure(installed.certificates), only=clauses))


def test_the_benchmark_of_the_documentation_can_be_measured(installed: Installed) -> None:
    plugin = installed.directory / "marco.py"
    plugin.write_text(snippet("add-a-benchmark.md", "python"))
    campaign = installed.run("-b", "asyncio", "-w", "marco", "--plugin", plugin)
    (trace,) = {
        (each["bytes_to_server"], each["bytes_to_client"])
        for each in campaign["traces"][campaign["blocks"][0]["case"]].values()
    }
    assert trace == (len("Marco"), len("Polo"))
