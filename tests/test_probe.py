"""What comes of loading contenders in throw-away processes."""

import sys
from pathlib import Path

import pytest

from loopmark.errors import UnavailableError, UsageError
from loopmark.probe import Finding, Survey, load, runnable, survey
from loopmark.registry import Contender, Source, registry
from loopmark.spi import Feature

PLUGIN = """
import os, sys, threading, time, socket
from loopmark.backends.blocking import Blocking

class Missing(Blocking):
    def __init__(self, loop_factory=None):
        import nosuchlibrary.part

class Extra(Blocking):
    def __init__(self, loop_factory=None):
        raise ModuleNotFoundError("No module named 'trio'", name="trio")

class NotInstalled(Blocking):
    distributions = ("nosuchdistribution",)

class Dies(Blocking):
    def __init__(self, loop_factory=None):
        os._exit(7)

class Raises(Blocking):
    def __init__(self, loop_factory=None):
        raise ValueError("no good")

class Chatty(Blocking):
    def __init__(self, loop_factory=None):
        print("hello")
        os.write(1, b"world")

class Threaded(Blocking):
    def __init__(self, loop_factory=None):
        threading.Thread(target=threading.Event().wait, daemon=True).start()

class Patching(Blocking):
    def __init__(self, loop_factory=None):
        socket.socket = type("socket", (socket.socket,), {})

class Misspelt(Blocking):
    features = {"tcp", "tsl"}

class Featureless(Blocking):
    features = None

class Leaves(Blocking):
    def __init__(self, loop_factory=None):
        sys.exit("no licence")

async def coroutine():
    pass

loops = {"broken": lambda: 1 / 0, "number": 3, "five": lambda: 5, "never": coroutine}
backends = {each.__name__: each for each in Blocking.__subclasses__()}
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "plugin.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture(scope="module")
def found(plugin: Path) -> Survey:
    return survey(plugin)


def test_what_the_standard_library_can_do_is_always_ok(found: Survey) -> None:
    for name in ("asyncio", "asyncio-protocol", "blocking"):
        finding = found.findings[name]
        assert finding == Finding(name=name, status="ok", features=finding.features, versions={})
        assert {"tcp", "tls", "start_tls", "sendfile"} <= set(finding.features)
    assert not {"tls", "start_tls"} & set(found.findings["asyncio-sockets"].features)
    assert set(found.findings["blocking"].features) == set(Feature)


def test_every_contender_has_a_finding(found: Survey) -> None:
    assert set(found.findings) == set(found.registry.contenders)


def test_versions_of_backend_and_loop_are_told(found: Survey) -> None:
    for name, wanted in (("trio", {"trio"}), ("uvloop", {"uvloop"}), ("anyio+uvloop", {"anyio", "uvloop"})):
        finding = found.findings[name]
        if finding.status != "ok":
            pytest.skip(finding.reason)
        assert set(finding.versions or {}) == wanted


def test_a_missing_library_is_named_with_what_to_type(found: Survey) -> None:
    missing = found.findings["Missing"]
    assert (missing.status, missing.reason) == (
        "missing",
        "nosuchlibrary is not installed; type: pip install nosuchlibrary",
    )


def test_a_missing_library_that_is_an_extra_is_installed_as_one(found: Survey) -> None:
    assert found.findings["Extra"].reason == "trio is not installed; type: pip install 'loopmark[trio]'"


def test_a_missing_distribution_is_missing_too(found: Survey) -> None:
    missing = found.findings["NotInstalled"]
    assert (missing.status, missing.reason.partition(";")[0]) == ("missing", "nosuchdistribution is not installed")


def test_a_child_that_dies_while_it_imports_is_a_finding(found: Survey) -> None:
    assert found.findings["Dies"].status == "failed"
    assert found.findings["Dies"].reason == "its process died while importing it (exit status 7)"


def test_an_import_that_raises_is_a_finding_and_harms_no_other(found: Survey) -> None:
    assert (found.findings["Raises"].status, found.findings["Raises"].reason) == ("failed", "ValueError: no good")
    assert found.findings["blocking"].status == "ok"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Misspelt", "'tsl'"),
        ("Misspelt", "it must be a set of any of tcp, tls, start_tls"),
        ("Featureless", "features is None: it must be a set of any of tcp"),
        ("Leaves", "SystemExit: no licence"),
        ("five-protocol", "loops:five makes a int, no event loop"),
        ("anyio+never", "loops:never makes a coroutine, no event loop"),
    ],
)
def test_what_is_wrong_with_a_contender_is_told(found: Survey, name: str, reason: str) -> None:
    assert found.findings[name].status == "failed"
    assert reason in found.findings[name].reason


@pytest.mark.parametrize("level", ["{}", "{}-protocol", "{}-sockets", "anyio+{}"])
def test_a_loop_that_cannot_be_made_is_a_finding_of_all_its_contenders(found: Survey, level: str) -> None:
    broken, number = (found.findings[level.format(name)] for name in ("broken", "number"))
    assert (broken.status, broken.reason) == ("failed", "ZeroDivisionError: division by zero")
    assert (number.status, "loops:number makes no event loop" in number.reason) == ("failed", True)


def test_what_an_import_prints_does_not_matter(found: Survey) -> None:
    assert found.findings["Chatty"].status == "ok"


@pytest.mark.parametrize(
    ("name", "safe"), [("Threaded", False), ("Patching", False), ("Chatty", True), ("blocking", True)]
)
def test_threads_and_patches_make_forking_unsafe(found: Survey, name: str, safe: bool) -> None:
    assert found.findings[name].fork_safe is safe


def test_all_built_in_contenders_are_safe_to_fork(found: Survey) -> None:
    for name in registry().contenders:
        assert found.findings[name].fork_safe, name


def test_the_survey_imports_nothing_into_this_process(plugin: Path) -> None:
    before = set(sys.modules)
    survey(plugin)
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] in ("trio", "uvloop", "anyio")}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import os; os._exit(3)", r"its process died while running it \(exit status 3\)"),
        ("import sys; sys.exit(3)", r"SystemExit: 3 \(line 1\)"),
    ],
)
def test_an_unusable_plugin_is_a_wrong_usage(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"--plugin .*: .*{complaint}"):
        survey(path)


def test_a_probe_that_says_nothing_readable_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/echo")
    with pytest.raises(UsageError, match="could not list the contenders"):
        survey()


def test_a_contender_that_can_run_is_loaded_for_use() -> None:
    assert runnable(registry().contender("blocking")).features


def test_a_contender_that_cannot_run_is_refused_with_the_cure() -> None:
    contender = Contender(name="x", backend=Source(value="nosuchlibrary:Backend"))
    assert load(contender).status == "missing"
    with pytest.raises(UnavailableError, match="x cannot run here: nosuchlibrary is not installed; type: pip install"):
        runnable(contender)
