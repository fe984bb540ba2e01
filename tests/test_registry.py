"""Names: of entry points, of a plug-in file, and wrong ones."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loopmark import registry as registries
from loopmark.case import Benchmark
from loopmark.errors import UnavailableError, UsageError
from loopmark.probe import load
from loopmark.registry import Contender, Registry, Source, registry
from loopmark.spi import Backend

ASYNCIO_FAMILY = ["asyncio", "asyncio-protocol", "asyncio-sockets", "uvloop", "uvloop-protocol", "uvloop-sockets"]
OTHERS = ["anyio+asyncio", "anyio+trio", "anyio+uvloop", "blocking", "trio"]

PLUGIN = """
from loopmark.backends.blocking import Blocking
import dataclasses
from loopmark.benchmarks.tcp_pingpong import BENCHMARK
import asyncio

backends = {"mine": Blocking, "LOOP-mine": Blocking, "nothing": dict}
loops = {"zippy": asyncio.new_event_loop}
benchmarks = {"question": dataclasses.replace(BENCHMARK, name="question"), "no_question": 7}
"""

BENCHMARKS = """from loopmark.benchmarks.tcp_pingpong import BENCHMARK; from dataclasses import replace
benchmarks = {{'mine': replace(BENCHMARK, {})}}"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    return path


def test_all_contenders_that_are_promised_exist() -> None:
    assert set(registry().contenders) >= {*ASYNCIO_FAMILY, *OTHERS}


def test_contenders_are_listed_in_alphabetical_order() -> None:
    assert list(registry().contenders) == sorted(registry().contenders)


def test_listing_names_imports_no_library() -> None:
    code = "import sys; from loopmark.registry import registry; registry(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"asyncio", "uvloop", "trio", "anyio", "pyperf"} & set(done.stdout.split())


def test_anyio_is_short_for_anyio_on_asyncio() -> None:
    assert registry().contender("anyio").name == "anyio+asyncio"


def test_a_loop_is_put_under_every_backend_that_takes_one() -> None:
    assert registry().loops["asyncio"].value == "asyncio:new_event_loop"
    assert registry().contender("asyncio-protocol").loop == registry().loops["asyncio"]
    assert registry().contender("blocking").loop is None


@pytest.mark.parametrize(
    ("wrong", "close"), [("uvlop", "uvloop"), ("Trio", "trio"), ("asyncio_sockets", "asyncio-sockets")]
)
def test_a_wrong_name_gets_what_exists_and_what_comes_close(wrong: str, close: str) -> None:
    with pytest.raises(UsageError) as caught:
        registry().contender(wrong)
    text = str(caught.value)
    assert text.startswith(f"unknown contender {wrong!r}; there are anyio+asyncio, anyio+trio")
    assert close in text.partition("did you mean")[2]


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        registry().contender("0000")
    assert "did you mean" not in str(caught.value)


def test_a_benchmark_is_found_by_name_and_a_wrong_one_is_not() -> None:
    assert isinstance(registry().benchmark("tls_pingpong"), Benchmark)
    with pytest.raises(UsageError, match=r"unknown benchmark 'tls_ping'; there are .*; did you mean tls_pingpong"):
        registry().benchmark("tls_ping")


# Plug-in files


def test_a_plugin_brings_backends_loops_and_benchmarks(plugin: Path) -> None:
    known = registry(plugin)
    assert {"mine", "zippy-mine", "uvloop-mine", "zippy", "zippy-protocol", "anyio+zippy"} <= set(known.contenders)
    assert known.benchmark("question").name == "question"
    assert isinstance(known.contender("mine").load(), Backend)
    assert known.contender("zippy-mine").load().loop_factory is not None


def test_a_plugin_whose_names_are_known_is_not_run(tmp_path: Path) -> None:
    known = registry(tmp_path / "absent.py", {"backends": ["mine"]})
    assert known.contender("mine").backend == Source(value="backends:mine", plugin=str(tmp_path / "absent.py"))


def test_a_plugin_does_not_stay_when_it_is_not_named(plugin: Path) -> None:
    registry(plugin)
    assert "mine" not in registry().contenders


def test_a_plugins_backend_that_makes_no_backend_is_refused(plugin: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing: backends:nothing makes no loopmark\.spi\.Backend"):
        registry(plugin).contender("nothing").load()


def test_a_plugins_benchmark_that_is_none_is_refused(plugin: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no_question: benchmarks:no_question is a int, not a loopmark\.case\.Benchmark"
    ):
        registry(plugin).benchmark("no_question")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = = 1", "SyntaxError"),
        ("import nosuchlibrary", "No module named 'nosuchlibrary'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("", "defines none of the dicts backends, loops, benchmarks"),
        ("benchmarks = {}", "defines none of the dicts"),
        ("backends = ['mine']", "backends is no dict"),
        ("backends = {5: object}", "backends has the name 5"),
        ("loops = {'a b': object}", "loops has the name 'a b'"),
        ("loops = {'a,b': object}", "loops has the name 'a,b'"),
        ("import sys\nsys.exit('no licence')", r"SystemExit: no licence \(line 2\)"),
        ("backends = {'asyncio': object}", "the name 'asyncio' belongs to loopmark [^:]*: give it another"),
        ("backends = {'LOOP-mine': object, 'uvloop-mine': object}", "the name 'uvloop-mine' is there twice"),
        ("loops = {'uvloop': object}", "the name 'uvloop' belongs to loopmark"),
        ("benchmarks = {'tcp_echo': object}", "the name 'tcp_echo' belongs to loopmark"),
        (BENCHMARKS.format("conversations={}"), r"tcp_pingpong has no conversations \(line 2\)"),
        (
            "from loopmark.case import Conversation\nbenchmarks = {'mine': Conversation()}",
            "a conversation of churn needs talks",
        ),
        (
            BENCHMARKS.format("tls='1.3'"),
            "tcp_pingpong has '1.3' for tls: it must be None or a loopmark.spi.TLSProfile",
        ),
    ],
)
def test_an_unusable_plugin_is_named_with_its_reason(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"--plugin .*plugin.py: .*{complaint}"):
        registry(path)


def test_a_directory_is_no_plugin(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="that is no file"):
        registry(tmp_path)


def test_a_plugin_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--plugin .*absent\.py: no such file"):
        registry(tmp_path / "absent.py")


def test_the_package_of_a_source_is_its_top_level_one() -> None:
    assert Source(value="uvloop.loop:new_event_loop").package == "uvloop"
    assert Source(value="backends:mine", plugin="mine.py").package is None


def test_a_contender_without_its_library_fails_only_when_it_is_loaded() -> None:
    contender = Contender(name="x", backend=Source(value="nosuchlibrary:Backend"))
    with pytest.raises(ModuleNotFoundError):
        contender.load()


def test_close_matches_end_a_sentence() -> None:
    assert registries.close_matches("tri", ["trio", "uvloop"]) == "; did you mean trio?"
    assert registries.close_matches("zzz", ["trio", "uvloop"]) == ""


# Entry points


class Package:
    """As much of a distribution as the registry looks at."""

    def __init__(self, name: str) -> None:
        self.name, self.version = name, "0.1"


def entry(name: str, value: str, package: str = "theirs") -> importlib.metadata.EntryPoint:
    made = importlib.metadata.EntryPoint(name=name, value=value, group="loopmark.backends")
    vars(made)["dist"] = Package(package)
    return made


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry]:
    """Registers backends besides what there is."""
    everything = importlib.metadata.entry_points

    def install(*entries: importlib.metadata.EntryPoint) -> Registry:
        def with_these(*, group: str) -> list[importlib.metadata.EntryPoint]:
            return [*everything(group=group), *(entries if group == "loopmark.backends" else ())]

        monkeypatch.setattr(importlib.metadata, "entry_points", with_these)
        return registry()

    return install


BLOCKING = "loopmark.backends.blocking:Blocking"


def test_a_name_that_two_packages_register_is_nobodys(installed: Callable[..., Registry]) -> None:
    known = installed(
        *(entry(name, BLOCKING) for name in ("trio", "uvloop-protocol")),
        entry("mine", BLOCKING),
        entry("mine", BLOCKING, "others"),
    )
    for name, owners in (
        *((name, r"loopmark \S+ and theirs 0\.1") for name in ("trio", "uvloop-protocol")),
        ("mine", r"others 0\.1 and theirs 0\.1"),
    ):
        with pytest.raises(UsageError, match=rf"^'{name}' is registered twice, by {owners}: one has to go"):
            known.contender(name).load()


def test_a_name_in_dispute_spoils_none_that_the_same_backend_has_on_other_loops(
    installed: Callable[..., Registry],
) -> None:
    known = installed(entry("asyncio-mine", BLOCKING), entry("LOOP-mine", BLOCKING, "others"))
    assert known.contender("asyncio-mine").backend.flaw
    assert not known.contender("uvloop-mine").backend.flaw


def test_a_registered_name_that_nobody_could_type_is_refused(installed: Callable[..., Registry]) -> None:
    with pytest.raises(UsageError, match=r"theirs 0\.1 registers 'my own': it must be text without space"):
        installed(entry("my own", BLOCKING)).contenders["my own"].load()


def test_an_entry_point_that_is_no_class_is_refused(installed: Callable[..., Registry]) -> None:
    known = installed(entry("mine", "loopmark.plan:PEERS"))
    with pytest.raises(UsageError, match=r"mine: loopmark\.plan:PEERS is a tuple: name the backend's class"):
        known.contender("mine").load()


def test_a_package_without_the_module_that_it_registers_is_named(installed: Callable[..., Registry]) -> None:
    finding = load(installed(entry("mine", "nosuchmodule:Mine")).contender("mine"))
    assert finding.status == "failed"
    assert finding.reason == "theirs 0.1 registers it as something in the module nosuchmodule, which does not exist"


def test_a_benchmark_that_cannot_be_loaded_is_told_with_its_package() -> None:
    broken = Source(value="nosuchmodule:BENCHMARK", distribution="theirs 0.1")
    known = Registry(contenders={}, benchmarks={"mine": broken}, loops={})
    with pytest.raises(UnavailableError, match=r"mine of theirs 0\.1 cannot be loaded: ModuleNotFoundError"):
        known.benchmark("mine")
