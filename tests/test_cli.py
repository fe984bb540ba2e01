"""The command line: what it prints, and with which status it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from tests.campaigns import BOTH, SERVER, fake_campaign

from loopmark import __version__, cli, store
from loopmark.cli import conducting
from loopmark.registry import registry
from loopmark.tls import Identity

COMMANDS = ["list", "run", "matrix", "compare", "show", "profile", "publish", "check", "certs", "serve", "drive"]
COMMAND = [sys.executable, "-m", "loopmark"]
TINY = ["run", "-b", "blocking", "-c", "1", "--role", "both", "--blocks", "1", "--fast"]


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def loopmark(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Run a command in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["loopmark", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Ended(int(ended.value.code or 0), *capfd.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def assert_refused(ended: Ended, *words: str, status: int = 2) -> None:
    """A status, and one line on standard error that has all the words."""
    assert ended.status == status, ended
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    assert line.startswith("loopmark: ")
    for word in words:
        assert word in line


def certificates(identity: Identity) -> str:
    return str(identity.ca.parent)


# Help


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_help_has_examples(loopmark: Run, command: list[str], option: str) -> None:
    ended = loopmark(*command, option)
    assert ended.status == 0
    assert re.search(r"Examples?:\n +loopmark ", ended.out)


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_a_command_that_is_run_by_itself_has_the_same_options_for_help(option: str) -> None:
    # In a process of its own, since click keeps what a command's first context says of them.
    script = f"from loopmark.cli.measuring import run; run.main([{option!r}], prog_name='run')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["Usage:", "run"])


def test_all_commands_are_in_the_help(loopmark: Run) -> None:
    out = loopmark("--help").out
    assert all(re.search(rf"^  {command} ", out, re.MULTILINE) for command in COMMANDS)


def test_the_version_is_the_packages(loopmark: Run) -> None:
    assert loopmark("--version") == (0, f"loopmark, version {__version__}\n", "")


def test_without_a_command_there_is_help_and_status_2(loopmark: Run) -> None:
    ended = loopmark()
    assert ended.status == 2
    assert "Commands:" in ended.err


# Lists


def test_the_list_shows_every_contender_and_benchmark(loopmark: Run) -> None:
    ended = loopmark("list")
    assert ended.status == 0
    for name in (*registry().contenders, *registry().benchmarks):
        assert re.search(rf"^{re.escape(name)}[ :]", ended.out, re.MULTILINE), name


def test_the_list_as_json_has_the_same(loopmark: Run) -> None:
    document = json.loads(loopmark("list", "--json").out)
    assert [each["name"] for each in document["contenders"]] == list(registry().contenders)
    assert list(document["benchmarks"]) == list(registry().benchmarks)
    assert document["loops"].keys() >= {"asyncio", "uvloop"}


def test_the_list_has_what_a_plugin_brings(loopmark: Run, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("from loopmark.backends.blocking import Blocking\nbackends = {'mine': Blocking}\n")
    document = json.loads(loopmark("list", "--json", "--plugin", plugin).out)
    assert "mine" in [each["name"] for each in document["contenders"]]


def test_a_library_that_is_missing_is_listed_with_what_to_type(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(without(tmp_path, "trio"))}
    done = subprocess.run(
        [*COMMAND, "list", "--json"], env=environment, capture_output=True, text=True, timeout=100, check=True
    )
    found = {each["name"]: each for each in json.loads(done.stdout)["contenders"]}
    assert found["trio"]["status"] == "missing"
    assert found["trio"]["reason"] == "trio is not installed; type: pip install 'loopmark[trio]'"
    assert found["asyncio"]["status"] == "ok"


def test_a_library_that_is_missing_but_named_is_refused_with_what_to_type(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(without(tmp_path, "trio"))}
    done = subprocess.run(
        [*COMMAND, "run", "-b", "trio"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=tmp_path,
    )
    assert_refused(Ended(done.returncode, done.stdout, done.stderr), "trio", "pip install 'loopmark[trio]'")
    assert not (tmp_path / "results").exists()


def without(directory: Path, library: str) -> Path:
    """Make a directory for PYTHONPATH that hides a library from every process."""
    (directory / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {library!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    return directory


@pytest.mark.parametrize("module", ["click", "loopmark.cli.drive"])
def test_an_interrupt_while_it_is_still_being_imported_is_one_line_and_status_130(tmp_path: Path, module: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*COMMAND, "list"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "loopmark: interrupted\n")


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "-b", "uvlop"], ["unknown contender 'uvlop'", "there are ", "did you mean uvloop"]),
        (["run", "-b", "asyncio,uvlop"], ["'uvlop'"]),
        (["run", "-b", ""], ["contenders"]),
        (["run", "-b", ","], ["contenders"]),
        (["run", "-w", "tls_pingpongg"], ["unknown benchmark", "did you mean tls_pingpong"]),
        (["run", "-w", ""], ["benchmarks"]),
        (["run", "--baseline", "nosuch"], ["unknown contender 'nosuch'"]),
        (["run", "--peer", "asyncio-protocl"], ["did you mean asyncio-protocol"]),
        (["run", "-b", "asyncio-sockets"], ["asyncio-sockets cannot run tls_pingpong", "no tls"]),
        (["run", "-c", "0"], ["0 is less than 1"]),
        (["run", "-c", "x"], ["whole numbers"]),
        (["run", "-c", "1.5"], ["whole numbers"]),
        (["run", "-c", "1000000"], ["give 1 to 20000"]),
        (["run", "-c", "9" * 40], ["give 1 to 20000"]),
        (["run", "-n", "100000000"], ["give 1 to 20000"]),
        (["run", "-c", "10", "-n", "5"], ["-n 30"]),
        (["run", "--role", "x"], ["server, client, both"]),
        (["run", "--blocks", "0"], ["--blocks"]),
        (["run", "--max-time", "0.1"], ["--max-time"]),
        (["run", "--max-time", "nan"], ["--max-time"]),
        (["run", "--max-time", "inf"], ["--max-time"]),
        (["run", "--deadline", "nan"], ["--deadline", "'nan' is no number of seconds"]),
        (["serve", "tls_pingpong", "--deadline", "inf"], ["--deadline"]),
        (["run", "--all", "--fast", "-w", "tls_echo"], ["--all is every benchmark: leave out -w"]),
        (["run", "-w", "tcp_pingpong,udp_echo", "--tls", "1.3"], ["tcp_pingpong, udp_echo", "no TLS"]),
        (["run", "-w", "tcp_pingpong", "--tls-resume"], ["tcp_pingpong: there is no TLS"]),
        (["run", "--seed", "-1"], ["--seed"]),
        (["run", "--fast", "--rigorous"], ["--fast and --rigorous"]),
        (["run", "--plugin", "missing.py"], ["missing.py: no such file"]),
        (["run", "--plugin", "/dev/null"], ["/dev/null: that is no file"]),
        (["run", "--fst"], ["--fst", "Did you mean", "'--fast'", "loopmark run --help"]),
        (["run", "extra"], ["extra"]),
        (["lst"], ["No such command 'lst'", "list"]),
        (["compare"], ["DIR"]),
        (["compare", "absent"], ["absent"]),
        (["compare", "absent", "--format", "xml"], ["xml", "github"]),
        (["compare", "x" * 300], ["too long"]),
        (["compare", "absent.json"], ["absent.json alone", "two or more"]),
        (["compare", "absent.json", "other.json"], ["absent.json", "No such file"]),
        (["compare", "absent.json", "."], ["absent.json is no campaign"]),
        (["compare", "/dev/null", "/dev/null"], ["/dev/null", "no pyperf file"]),
        (["compare", "a", "b", "--fail-on", "faster:3%"], ["slower:3%"]),
        (["compare", "a", "b", "--fail-on", "slower"], ["slower:3%"]),
        (["compare", "a", "b", "--fail-on", "slower:"], ["slower:3%"]),
        (["compare", "a", "b", "--fail-on", "slower:x"], ["'x' is no share"]),
        (["compare", "a", "--fail-on", "slower:3%"], ["OLD and NEW"]),
        (["compare", "a", "b", "c", "--fail-on", "slower:3%"], ["OLD and NEW"]),
        (["compare", "a.json", "b.json", "--fail-on", "slower:3%"], ["OLD and NEW"]),
        (["compare", "a", "b", "--fail-on", "slower:3%"], ["loopmark: a: there is no such file"]),
        (["show", "/dev/null"], ["/dev/null"]),
        (["show", "."], ["campaign.json"]),
        (["check", "trioo"], ["did you mean trio"]),
        (["serve", "nosuch"], ["unknown benchmark 'nosuch'"]),
        (["serve", "tls_pingpong", "-b", "uvlop"], ["did you mean uvloop"]),
        (["serve", "tls_pingpong", "-b", "asyncio-sockets"], ["asyncio-sockets cannot run tls_pingpong"]),
        (["serve", "tls_pingpong", "--port", "65536"], ["--port"]),
        (["drive", "tls_pingpong", "-c", "0"], ["--concurrency"]),
        (["drive", "tls_pingpong", "-n", "0"], ["less than 1"]),
        (["certs", "--key", "dsa"], ["dsa", "p256"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(loopmark: Run, arguments: list[str], words: list[str]) -> None:
    assert_refused(loopmark(*arguments), *words)
    assert not Path("results").exists()


@pytest.mark.parametrize("text", ["raise RuntimeError('two\\nlines')", "x = = 1", "import sys; sys.exit(3)", ""])
def test_a_broken_plugin_is_one_line_and_status_2(loopmark: Run, tmp_path: Path, text: str) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(text)
    assert_refused(loopmark("run", "--plugin", plugin), "broken.py: ")


@pytest.mark.parametrize("below", ["", "deeper"])
def test_results_that_cannot_be_written_are_refused_before_anything_is_measured(
    loopmark: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: Identity, below: str
) -> None:
    monkeypatch.setattr(conducting, "Interpreters", lambda: pytest.fail("something was measured"))
    file = tmp_path / "file"
    file.write_text("")
    ended = loopmark(*TINY, "--certs", certificates(identity), "--results", file / below)
    assert_refused(ended, "cannot write results", "--results DIR")


def test_too_few_descriptors_are_refused_with_the_cure(tmp_path: Path) -> None:
    limited = ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh", *COMMAND, "run", "-c", "1000"]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path)
    assert_refused(Ended(done.returncode, done.stdout, done.stderr), "1064", "ulimit")
    assert not (tmp_path / "results").exists()


def test_windows_is_told_in_one_line(loopmark: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert_refused(loopmark("list"), "Windows is not supported")


def test_an_interrupt_has_its_own_status(loopmark: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*given: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Group, "invoke", interrupt)
    ended = loopmark("list")
    assert (ended.status, ended.err.strip()) == (130, "loopmark: interrupted")


# A campaign


class Campaign(NamedTuple):
    """A tiny one, which really ran."""

    path: Path
    ended: Ended


@pytest.fixture(scope="module")
def campaign(identity: Identity, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    results = tmp_path_factory.mktemp("results")
    done = subprocess.run(
        [
            *COMMAND,
            *TINY,
            "--seed",
            "7",
            "--label",
            "Tiny one",
            "--results",
            str(results),
            "--certs",
            certificates(identity),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    (path,) = results.iterdir()
    return Campaign(path, Ended(done.returncode, done.stdout, done.stderr))


def test_a_campaign_ends_with_the_place_of_its_results(campaign: Campaign) -> None:
    assert campaign.ended.status == 0, campaign.ended
    assert campaign.ended.out.splitlines()[-1] == f"results: {campaign.path}"


def test_a_campaign_prints_its_table_and_writes_progress_elsewhere(campaign: Campaign) -> None:
    assert re.search(r"^blocking +\d", campaign.ended.out, re.MULTILINE)
    assert re.search(r"^asyncio \(A/A twin\) +\d", campaign.ended.out, re.MULTILINE)
    # Before it there may be one about a block that was dropped, since its values were too short.
    assert campaign.ended.err.splitlines()[-1].startswith("tls_pingpong both c=1: block ")


def test_a_campaign_writes_one_file_per_contender_and_its_own(campaign: Campaign) -> None:
    names = {path.name for path in campaign.path.iterdir()}
    assert names == {"campaign.json", "asyncio.json", "asyncio.twin.json", "blocking.json"}
    assert campaign.path.name.endswith("-Tiny-one")
    stored = store.load(campaign.path)
    assert (stored.seed, stored.ended, len(stored.blocks)) == (7, "done", 1)


def test_stock_pyperf_compares_the_files(campaign: Campaign) -> None:
    files = [str(campaign.path / name) for name in ("asyncio.json", "blocking.json")]
    done = subprocess.run(
        [sys.executable, "-m", "pyperf", "compare_to", *files, "--table", "-v"],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert "tls_pingpong[c=1,role=both" in done.stdout


def test_a_campaign_is_compared_again_from_disk(campaign: Campaign, loopmark: Run) -> None:
    ended = loopmark("compare", campaign.path)
    assert ended.status == 0
    assert ended.out.splitlines()[:4] == campaign.ended.out.splitlines()[:4]


def test_a_campaign_that_its_controls_call_invalid_has_their_status_again(loopmark: Run, tmp_path: Path) -> None:
    ended = loopmark("compare", stored(tmp_path / "a", effects={"asyncio.twin": 1.2}))
    assert ended.status == 1
    assert "INVALID" in ended.out


@pytest.mark.parametrize("format_", ["text", "github", "rst", "csv", "json"])
def test_every_format_is_printed(campaign: Campaign, loopmark: Run, format_: str) -> None:
    ended = loopmark("compare", campaign.path, "--format", format_)
    assert (ended.status, ended.err) == (0, "")
    assert "blocking" in ended.out
    if format_ == "json":
        json.loads(ended.out)


def stored(path: Path, **options: Any) -> Path:
    """Write a simulated campaign of one case."""
    path.mkdir()
    simulated = fake_campaign(**{"blocks": 10, "noise": 0.004, "cases": [BOTH], "effects": {"uvloop": 0.85}, **options})
    simulated.started = f"2026-11-20T09:15:{simulated.seed:02}Z"
    store.write(path, simulated)
    return path


def test_pyperf_files_of_a_campaign_are_compared_with_verdicts(loopmark: Run, tmp_path: Path) -> None:
    path = stored(tmp_path / "a")
    ended = loopmark("compare", *(path / f"{arm}.json" for arm in ("asyncio", "asyncio.twin", "uvloop")))
    assert (ended.status, ended.err) == (0, "")
    assert re.search(r"^uvloop .* faster ", ended.out, re.MULTILINE)


def test_pyperf_files_without_blocks_are_compared_without_verdicts(loopmark: Run, tmp_path: Path) -> None:
    for name, value in (("a", "1.0"), ("b", "1.5")):
        metadata = '{"name": "work", "unit": "second"}'
        runs = f'[{{"values": [{value}], "metadata": {metadata}}}]'
        (tmp_path / f"{name}.json").write_text(f'{{"version": "1.0", "benchmarks": [{{"runs": {runs}}}]}}')
    ended = loopmark("compare", "a.json", "b.json")
    assert (ended.status, ended.err) == (0, "")
    assert "1.500" in ended.out
    assert "one after the other" in ended.out


def test_pyperf_files_that_their_twin_calls_invalid_make_the_status_1(loopmark: Run, tmp_path: Path) -> None:
    path = stored(tmp_path / "a", effects={"uvloop": 0.85, "asyncio.twin": 1.05})
    ended = loopmark("compare", path / "asyncio.json", path / "asyncio.twin.json")
    assert ended.status == 1
    assert "INVALID" in ended.out


def test_a_gate_that_nothing_fails_has_status_0_and_says_what_it_could_see(loopmark: Run, tmp_path: Path) -> None:
    old, new = stored(tmp_path / "old"), stored(tmp_path / "new", seed=2)
    ended = loopmark("compare", old, new, "--fail-on", "slower:3%")
    assert (ended.status, ended.err) == (0, "")
    assert "no smaller change could have been seen" in " ".join(ended.out.split())


@pytest.mark.parametrize("format_", ["text", "github", "rst", "csv", "json"])
def test_a_gate_that_fails_has_status_1_and_names_the_rows(loopmark: Run, tmp_path: Path, format_: str) -> None:
    old, new = stored(tmp_path / "old"), stored(tmp_path / "new", seed=2, effects={"uvloop": 0.92})
    ended = loopmark("compare", old, new, "--fail-on", "slower:3%", "--format", format_)
    assert (ended.status, ended.err) == (1, "")
    assert "uvloop" in ended.out
    assert "slower" in ended.out


def test_a_gate_that_cannot_be_trusted_has_status_2_and_a_line_for_each_reason(loopmark: Run, tmp_path: Path) -> None:
    old = stored(tmp_path / "old")
    new = stored(tmp_path / "new", seed=2, mode="fast", cases=[SERVER])
    ended = loopmark("compare", old, new, "--fail-on", "slower:3%")
    assert (ended.status, ended.out) == (2, "")
    lines = ended.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("loopmark: ") for line in lines)
    assert "loopmark: the mode is default in OLD and fast in NEW" in lines


def test_a_campaign_is_shown(campaign: Campaign, loopmark: Run) -> None:
    ended = loopmark("show", campaign.path)
    assert (ended.status, ended.err) == (0, "")
    assert "blocking" in ended.out


def test_nothing_is_shown_while_it_runs_when_that_is_not_wanted(
    loopmark: Run, identity: Identity, tmp_path: Path
) -> None:
    ended = loopmark(*TINY, "--no-progress", "--results", tmp_path / "r", "--certs", certificates(identity))
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.parametrize("command", ["compare", "show"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"schema": 3', '"schema": 99'),
    ],
    ids=["cut", "empty", "other", "newer"],
)
def test_a_damaged_campaign_is_one_line_and_status_2(
    campaign: Campaign, loopmark: Run, tmp_path: Path, command: str, damage: Callable[[str], str]
) -> None:
    file = tmp_path / "campaign.json"
    file.write_text(damage((campaign.path / "campaign.json").read_text()))
    assert_refused(loopmark(command, tmp_path), "campaign.json")


def test_a_contender_that_is_retired_makes_the_status_1(loopmark: Run, identity: Identity, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from loopmark.backends.blocking import Blocking\n"
        "class Mine(Blocking):\n"
        "    async def connect(self, *given, **options):\n"
        "        raise OSError('never')\n"
        "backends = {'mine': Mine}\n"
    )
    arguments = ["run", "-b", "mine", "--plugin", plugin, "-c", "1", "--role", "both", "--fast", "--blocks", "1"]
    ended = loopmark(*arguments, "--results", tmp_path / "r", "--certs", certificates(identity))
    assert ended.status == 1
    assert "never" in ended.out
    (path,) = (tmp_path / "r").iterdir()
    stored = store.load(path)
    assert [(outcome.arm, outcome.status) for outcome in stored.outcomes] == [("mine", "retired")]
    assert not (path / "mine.json").exists()


# One role each


@pytest.mark.parametrize("contender", ["asyncio", "asyncio-protocol", "blocking", "trio", "uvloop", "anyio"])
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_server_and_its_clients_are_two_programs(
    loopmark: Run, load: Callable[[str], object], identity: Identity, contender: str, ending: signal.Signals
) -> None:
    load(contender)
    options = ["tls_pingpong", "-b", contender, "--certs", certificates(identity)]
    command = [*COMMAND, "serve", *options, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            ready = re.match(r"\S+ serves tls_pingpong on 127\.0\.0\.1:(\d+);", server.stdout.readline())
            assert ready is not None
            driven = loopmark("drive", *options, "--port", ready[1], "-n", "5,3", "-c", "2")
        finally:
            server.send_signal(ending)
            out, err = server.communicate(timeout=60)
    assert (driven.status, driven.err) == (0, "")
    first, second = driven.out.splitlines()
    assert re.match(r"5 connections, 2 at a time: .* connections/s, \d+ connections per client-CPU-second", first)
    assert second.startswith("3 connections, 2 at a time: ")
    # One more than was driven: the first is untimed.
    assert re.fullmatch(r"accepted 9, served 9, faults: none\n", out)
    assert (server.returncode, err) == (0, "")


def test_a_port_in_use_is_one_line_and_status_2(loopmark: Run, identity: Identity) -> None:
    for contender in ("asyncio", "blocking", "trio", "uvloop", "anyio"):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ended = loopmark("serve", "tcp_pingpong", "-b", contender, "--port", port)
            assert_refused(ended, f"port {port} on 127.0.0.1 is in use", "--port 0")


def test_an_address_of_another_machine_cannot_be_served(loopmark: Run) -> None:
    ended = loopmark("serve", "tcp_pingpong", "--host", "192.0.2.1", "--public", "--port", "0")
    assert_refused(ended, "cannot listen on 192.0.2.1")


@pytest.mark.parametrize("contender", ["asyncio", "blocking", "trio", "uvloop", "anyio"])
def test_without_a_server_there_is_one_line_and_status_1(
    loopmark: Run, load: Callable[[str], object], contender: str
) -> None:
    load(contender)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        ended = loopmark("drive", "tcp_pingpong", "-b", contender, "--port", port, "-n", "5")
    assert_refused(ended, f"is `loopmark serve tcp_pingpong` running on 127.0.0.1:{port}?", status=1)


def test_certificates_of_another_authority_are_told_with_the_cure(
    loopmark: Run, identity: Identity, stranger: Identity
) -> None:
    command = [*COMMAND, "serve", "tls_pingpong", "--certs", certificates(identity), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().partition(";")[0].rpartition(":")[2]
        ended = loopmark("drive", "tls_pingpong", "--certs", certificates(stranger), "--port", port)
        server.terminate()
        server.communicate(timeout=60)
    assert_refused(ended, "certificate: ", "--certs DIR", status=1)


def test_an_authority_that_is_none_is_named(loopmark: Run, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("junk")
    ended = loopmark("drive", "tls_pingpong", "--certs", tmp_path)
    assert_refused(ended, f"{authority} is no certificate in PEM")


# Certificates and the contract


@pytest.mark.parametrize("key", ["p256", "ed25519"])
def test_certificates_are_made_where_they_are_wanted(loopmark: Run, tmp_path: Path, key: str) -> None:
    ended = loopmark("certs", "--key", key, "--san", "myhost.example", tmp_path / "mine")
    assert ended.status == 0
    assert f"{key}.pem" in ended.out
    assert "myhost.example" in ended.out
    assert {"ca.pem", f"{key}.pem", f"{key}.key"} <= {path.name for path in (tmp_path / "mine").iterdir()}


def test_certificates_that_cannot_be_written_are_refused(loopmark: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_refused(loopmark("certs", tmp_path / "file" / "below"), "certificates")


def test_the_contract_is_checked_with_status_0_when_it_is_kept(loopmark: Run) -> None:
    ended = loopmark("check", "blocking")
    assert ended.status == 0, ended.out
    assert ended.err == ""


def test_the_contract_is_checked_with_status_1_when_it_is_broken(loopmark: Run, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from loopmark.backends.blocking import Blocking\n"
        "class Mine(Blocking):\n"
        "    features = Blocking.features - {'tls'}\n"
        "backends = {'mine': Mine}\n"
    )
    ended = loopmark("check", "mine", "--plugin", plugin)
    assert ended.status == 1, ended


@pytest.mark.parametrize("where", ["run", "connect", "__init__"])
def test_a_contender_that_ends_its_process_has_not_kept_the_contract(loopmark: Run, tmp_path: Path, where: str) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import os\nfrom loopmark.backends.blocking import Blocking\n"
        f"class Mine(Blocking):\n    def {where}(self, *args, **options):\n        os._exit(0)\n"
        "backends = {'mine': Mine}\n"
    )
    ended = loopmark("check", "mine", "--plugin", plugin)
    assert ended.status == 1, ended
    assert ended.err == "mine: its process ended in the middle, with status 0: nothing is proven\n"


def test_a_check_that_nobody_reads_ends_without_a_word() -> None:
    command = [sys.executable, "-m", "loopmark", "check", "blocking"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as check:
        assert check.stdout is not None
        assert check.stderr is not None
        assert check.stdout.readline()
        check.stdout.close()
        assert (check.stderr.read(), check.wait(60)) == ("", 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
def test_a_check_whose_findings_find_no_room_says_so() -> None:
    command = [sys.executable, "-m", "loopmark", "check", "blocking"]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert re.fullmatch(r"loopmark: the system refuses: .*No space left on device\n", done.stderr)


def test_a_check_ends_whatever_threads_a_contender_leaves(loopmark: Run, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import threading\nfrom loopmark.backends.blocking import Blocking\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "backends = {'mine': Blocking}\n"
    )
    assert loopmark("check", "mine", "--plugin", plugin).status == 0


def test_a_second_plugin_file_is_refused(loopmark: Run) -> None:
    for command in (["list"], ["check", "trio"], ["run"]):
        assert_refused(loopmark(*command, "--plugin", "a.py", "--plugin", "b.py"), "give one file")


def test_a_benchmark_that_cannot_be_loaded_keeps_no_other_from_the_list(loopmark: Run, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("benchmarks = {'mine': 7}\n")
    ended = loopmark("list", "--plugin", plugin)
    assert ended.status == 0
    assert "mine failed: mine: benchmarks:mine is a int, not a loopmark.case.Benchmark" in ended.out
    assert "tls_pingpong: " in ended.out


# The shell


def complete(*words: str) -> list[str]:
    environment = {
        **os.environ,
        "_LOOPMARK_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["loopmark", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_the_shell_completes_contenders() -> None:
    assert complete("run", "-b", "uv") == ["uvloop", "uvloop-protocol", "uvloop-sockets"]
    assert complete("run", "-b", "asyncio,tri") == ["asyncio,trio"]
    assert complete("run", "--baseline", "tri") == ["trio"]
    assert complete("check", "blo") == ["blocking"]


def test_the_shell_completes_commands_benchmarks_roles_and_options() -> None:
    assert complete("sho") == ["show"]
    assert complete("run", "-w", "tls_p") == ["tls_pingpong"]
    assert complete("run", "-w", "tls_echo:n") == ["tls_echo:nul"]
    assert complete("serve", "tcp_p") == ["tcp_pingpong"]
    assert complete("run", "--role", "server,c") == ["server,client"]
    assert complete("run", "--max") == ["--max-time"]


@pytest.mark.parametrize("command", [["list"], ["--help"], ["run", "--help"]])
def test_a_reader_that_has_gone_is_no_traceback(command: list[str]) -> None:
    with subprocess.Popen([*COMMAND, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode == 1
