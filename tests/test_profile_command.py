"""`loopmark profile` with real processes: both sides, threads, py-spy present, refused and missing, wrong words."""

import os
import re
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from loopmark import cli, pyspy
from loopmark.case import Case, Cores, Role
from loopmark.cli.profile import default_name, profile_command
from loopmark.errors import LoopmarkError, UnavailableError, UsageError
from loopmark.profiling import How, Processes, Wish
from loopmark.registry import registry
from loopmark.task import Order, Task
from loopmark.tls import Identity

SHORT = ["--seconds", "0.3", "-c", "4"]

REAL = pyspy.find()

PY_SPY = """#!/bin/sh
case "$*" in *--help*) echo '  -n, --native'; exit 0;; esac
while [ $# -gt 1 ]; do
  case "$1" in --output) out="$2";; --pid) pid="$2";; esac
  shift
done
kill -0 "$pid" || exit 3
echo '<title>SSLObject.do_handshake (ssl.py:949) (5 samples, 50%)</title><title>all (10 samples, 100%)</title>' > "$out"
"""

REFUSED = """#!/bin/sh
case "$*" in *--help*) exit 0;; esac
echo 'Error: Permission Denied: Try running again with elevated permissions' >&2
exit 1
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty directory, and no py-spy but a fake one."""
    (tmp_path / "here").mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    which = shutil.which
    monkeypatch.setattr("loopmark.pyspy.shutil.which", lambda name, path=None: None if path else which(name))


def install(tmp_path: Path, script: str) -> None:
    tool = tmp_path / "bin" / "py-spy"
    tool.write_text(script)
    tool.chmod(0o755)


def ran(*arguments: object) -> str:
    result = CliRunner().invoke(profile_command, [*map(str, arguments)], standalone_mode=False)
    if isinstance(result.exception, Exception):
        raise result.exception
    return " ".join(result.stdout.split())


def certificates(identity: Identity) -> list[str]:
    return ["--certs", str(identity.ca.parent)]


@pytest.mark.parametrize("side", ["server", "client"])
def test_a_side_of_asyncio_is_profiled_with_its_floor(identity: Identity, side: str) -> None:
    text = ran("tls_pingpong", "-b", "asyncio", "--side", side, *SHORT, *certificates(identity))
    assert re.search(r"\(floor\): [\d.]+ us of [\d.]+ us per connection, \d+ %", text)
    # Twice for each side: the first call wants the peer's bytes. TLS 1.3's client is done after its second.
    assert re.search(r"_ssl\._SSLSocket\.do_handshake [23]\.00 ", text)
    assert re.search(r"_run_once \(asyncio/base_events\.py:\d+\)", text)
    assert re.search(r"under it the " + side, text)
    assert str(Path(__file__).parents[1]) not in text
    assert "No flame graph: py-spy is not installed; type: pip install py-spy." in text
    assert list(Path.cwd().iterdir()) == []


def test_threads_have_no_table_and_the_rest_is_there() -> None:
    text = ran("tcp_pingpong", "-b", "blocking", *SHORT)
    assert "CPU time of the server, without a profiler" in text
    assert "No table of functions: blocking starts threads" in text


def test_a_client_without_a_loop_is_profiled_by_its_cpu_time() -> None:
    text = ran("tcp_pingpong", "-b", "blocking", "--side", "client", "--seconds", "0.3", "-c", "1")
    assert "_socket.socket.connect 1.00" in text
    assert "Times are CPU time" in text


def test_a_flame_graph_is_written_and_named(tmp_path: Path) -> None:
    install(tmp_path, PY_SPY)
    text = ran("tcp_pingpong", "-b", "asyncio", *SHORT)
    name = default_name("tcp_pingpong", "asyncio", "server")
    assert f"{name}: 10 samples by py-spy" in text
    assert Path(name).read_text().startswith("<title>")


def test_py_spy_without_permission_is_told_and_the_rest_is_printed(tmp_path: Path) -> None:
    install(tmp_path, REFUSED)
    text = ran("tcp_pingpong", "-b", "asyncio", "--side", "client", *SHORT)
    assert "No flame graph: py-spy may not read other processes here" in text
    assert "Functions under cProfile" in text


def test_a_file_that_exists_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, PY_SPY)
    monkeypatch.setattr(Processes, "run", None)
    Path("mine.svg").touch()
    with pytest.raises(UsageError, match=r"mine\.svg exists: give another name with --output FILE"):
        ran("tcp_pingpong", "--output", "mine.svg")


def test_an_output_without_py_spy_is_refused_with_the_cure() -> None:
    with pytest.raises(UnavailableError, match="pip install py-spy"):
        ran("tcp_pingpong", "--output", "mine.svg")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tls_pongping"], "unknown benchmark 'tls_pongping'"),
        (["tls_pingpong", "-b", "uvlop"], "unknown contender 'uvlop'"),
        (["tls_pingpong", "-b", "asyncio-sockets"], "has no tls"),
        (["getaddrinfo"], "getaddrinfo has no role server"),
        (["tls_pingpong", "--peer", "nobody"], "unknown contender 'nobody'"),
        (["tls_pingpong", "--seconds", "nan"], "'nan' is no number of seconds"),
    ],
)
def test_what_cannot_be_profiled_is_refused(arguments: list[str], words: str) -> None:
    with pytest.raises((LoopmarkError, click.UsageError), match=words):
        ran(*arguments)


def test_a_wrong_name_ends_the_command_with_status_2_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(sys, "argv", ["loopmark", "profile", "tls_pongping"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("loopmark: unknown benchmark")


def test_the_help_has_examples() -> None:
    text = CliRunner().invoke(profile_command, ["--help"]).output
    assert re.search(r"Examples:\n +loopmark profile ", text)


@pytest.mark.parametrize(
    ("benchmark", "contender", "name"),
    [
        ("tls_pingpong", "anyio+uvloop", "profile-tls_pingpong-anyio+uvloop-client.svg"),
        ("tcp_echo:1KiB", "trio", "profile-tcp_echo-1KiB-trio-client.svg"),
        ("../x", "y", "profile-..-x-y-client.svg"),
    ],
)
def test_the_default_name_is_a_file_of_this_directory(benchmark: str, contender: str, name: str) -> None:
    assert default_name(benchmark, contender, "client") == name


# Processes


def order(**changes: Any) -> Order:
    known = registry()
    case = Case(benchmark="tcp_pingpong", concurrency=2, role=Role.SERVER, peer="asyncio", cores=Cores.ANY, tls=None)
    task = Task(
        contender=known.contender("asyncio"), benchmark=known.benchmarks["tcp_pingpong"], case=case, identity=None
    )
    plain = Order(arm="asyncio", server=task, client=task, loops=0, warmups=0, values=0, at_once=2)
    return replace(plain, **changes)


def test_a_run_that_does_not_end_is_ended_at_its_deadline() -> None:
    with pytest.raises(LoopmarkError, match=r"profiling \(plain\) did not end within 0 s"):
        Processes().run(order(deadline=0.1), Wish(how=How.PLAIN, side="server", seconds=30.0))


def test_a_run_that_fails_says_which_it_was_and_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from loopmark.backends.blocking import Blocking\n"
        "class Broken(Blocking):\n"
        "    async def connect(self, address, *, tls, options):\n"
        "        raise ConnectionRefusedError('it burnt')\n"
        "backends = {'broken': Broken}\n"
    )
    contender = registry(broken).contender("broken")
    plain = order()
    task = Task(contender=contender, benchmark=plain.client.benchmark, case=plain.client.case, identity=None)
    with pytest.raises(LoopmarkError, match=r"profiling \(plain\): reset: ConnectionRefusedError: it burnt"):
        Processes().run(order(client=task), Wish(how=How.PLAIN, side="client", seconds=0.1))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nobody tells")
def test_the_kernels_part_is_told() -> None:
    answer = Processes().run(order(), Wish(how=How.PLAIN, side="client", seconds=0.5))
    assert answer["kernel"] is None or 0 < answer["kernel"] < 1
    assert len(answer["wall"]) == len(answer["cpu"])


def test_a_real_py_spy_makes_a_flame_graph_where_it_may(monkeypatch: pytest.MonkeyPatch, identity: Identity) -> None:
    if REAL is None:
        pytest.skip("py-spy is not installed: pip install py-spy")
    monkeypatch.setenv("PATH", f"{Path(REAL.path).parent}{os.pathsep}{os.environ['PATH']}")
    text = ran("tls_pingpong", "-b", "asyncio", "--seconds", "1", "-c", "4", *certificates(identity))
    if "may not read other processes" in text:
        pytest.skip("py-spy may not read other processes here")
    assert re.search(r"server\.svg: \d+ samples by py-spy", text)
    assert re.search(r"In do_handshake: \d+ of \d+ samples", text)
