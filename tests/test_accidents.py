"""However a campaign ends, its finished blocks are kept and no process of it is left."""

import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests import driven
from tests.campaigns import fake_campaign

from loopmark import store
from loopmark.record import Campaign
from loopmark.tls import Identity

ROOT = Path(__file__).parents[1]
MARK = "LOOPMARK_TEST_MARK"
REAL = (sys.executable, "-m", "loopmark")
DRIVEN = (sys.executable, str(Path(driven.__file__)))
# Few connections a value, so that blocks are short and nothing has to be calibrated again.
TINY = ["-w", "tcp_pingpong", "-c", "1", "-n", "3", "--role", "both", "--fast"]
LONG = [*TINY, "--blocks", "10000", "--max-time", "10000"]
SECOND = 1.0
"""How long a process may live that nobody wants any more."""

PLUGIN = """
import os, signal
from pathlib import Path
from loopmark.backends.blocking import Blocking

def die():
    with (Path(__file__).parent / "deaths").open("a+") as deaths:
        deaths.seek(0)
        if len(deaths.read()) < LIVES:
            deaths.write("x")
            deaths.flush()
            os.kill(os.getpid(), signal.SIGKILL)

class Client(Blocking):
    async def connect(self, address, *, tls, options):
        die()
        return await super().connect(address, tls=tls, options=options)

class Server(Blocking):
    def serve(self, *given, **options):
        die()
        return super().serve(*given, **options)

backends = {"client": Client, "server": Server}
"""


class Running:
    """A campaign in a process group of its own; a mark in their environment tells all of its processes."""

    def __init__(self, directory: Path, command: Sequence[str], environment: dict[str, str], **settings: Any) -> None:
        self.directory = directory
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            command,
            **{
                "env": {**os.environ, MARK: self.mark, "GATES_AT": str(directory), **environment},
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                "start_new_session": True,
                **settings,
            },
        )

    def wait_for_blocks(self, count: int) -> None:
        """Read progress until as many blocks are complete."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            count -= ": block " in line
            if count == 0:
                return
        raise AssertionError("the campaign ended early")

    def reach_somebody(self, gate: str) -> tuple[int, int]:
        """Wait until a process has come to a gate; return its id and that of its server, 0 if it knows none yet."""
        with os.fdopen(os.open(self.directory / "reached", os.O_RDWR), buffering=1) as reached:
            while not select.select([reached], [], [], 0.05)[0]:
                assert self.process.poll() is None, self.end()
            name, pid, server = reached.readline().split()
        assert name == gate
        return int(pid), int(server)

    def reach(self, gate: str) -> dict[str, psutil.Process]:
        """Wait until a process has come to a gate; return who is who then."""
        pid, server = self.reach_somebody(gate)
        known = {"scheduler": psutil.Process(self.process.pid)}
        blocks = [each for each in known["scheduler"].children() if "loopmark.block" in each.cmdline()]
        if blocks and pid != self.process.pid:
            (known["block"],) = blocks
            known["client"] = psutil.Process(pid)
            others = [each for each in known["block"].children() if each.pid != pid]
            # Before a client knows its server, these two are alone.
            (known["server"],) = [each for each in others if server in (0, each.pid)]
        return known

    def go(self, gate: str) -> None:
        """Let whoever waits at a gate pass."""
        (self.directory / f"go-{gate}").write_bytes(b".")

    def end(self) -> tuple[int, str, str]:
        """Wait for its end, however it comes; also all processes that hold its output must have ended."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def living(self) -> list[psutil.Process]:
        """Find every process that has the mark."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    @property
    def path(self) -> Path:
        """The one campaign's directory."""
        (path,) = (self.directory / "results").iterdir()
        return path

    def stored(self) -> Campaign:
        assert not list(self.path.glob(".*"))
        return store.load(self.path)

    def assert_gone(self) -> None:
        """Nobody is left, or is about to end within a second."""
        assert_ended(self.living())


def assert_ended(processes: Sequence[psutil.Process]) -> None:
    """All end within a second; one that nobody has waited for yet has ended, too."""
    end = time.monotonic() + SECOND
    while alive := [each for each in processes if is_alive(each)]:
        assert time.monotonic() < end, alive


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path, identity: Identity) -> Iterator[Start]:
    """Start a campaign: the driven command, unless `command` says otherwise, with gates."""
    started: list[Running] = []
    plugin = tmp_path / "gated.py"
    plugin.write_text(driven.PLUGIN.format(tests=str(Path(driven.__file__).parent)))
    os.mkfifo(tmp_path / "reached")

    def start(
        *arguments: str,
        gates: str = "",
        command: Sequence[str] = DRIVEN,
        under: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        **settings: Any,
    ) -> Running:
        for gate in gates.split():
            os.mkfifo(tmp_path / f"go-{gate.partition('@')[0]}")
        where = [] if "--continue" in arguments else ["--results", str(tmp_path / "results")]
        whom = ["--plugin", str(plugin)] if command == DRIVEN and "--plugin" not in arguments else []
        whom += ["--baseline", "gated", "-b", "gated"] if command == DRIVEN and where else []
        line = [*under, *command, "run", *whom, *where, "--certs", str(identity.ca.parent), *arguments]
        started.append(Running(tmp_path, line, {"GATES": gates, **(environment or {})}, **settings))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        for process in running.living():
            process.kill()
        running.process.communicate()


def assert_kept(campaign: Campaign, least: int, arms: int = 2) -> None:
    """All blocks are whole, and without gaps but for those that a busy machine has spoilt."""
    spoilt = [int(each.partition("block ")[2].partition(" ")[0]) for each in campaign.dropped]
    known = sorted([*spoilt, *(block.index for block in campaign.blocks)])
    assert known == list(range(len(known)))
    assert len(known) >= least
    assert all(len(block.measurements) == arms for block in campaign.blocks)


def assert_files_agree(running: Running) -> None:
    """Every pyperf file has the blocks of the campaign, no more and no fewer."""
    campaign = running.stored()
    for file in running.path.glob("gated*.json"):
        for benchmark in json.loads(file.read_text())["benchmarks"]:
            assert len(benchmark["runs"]) == len(campaign.blocks)


# Killed, in every phase

IN_BLOCKS = ["start@3", "proof@3", "values@3", "finish@3"]
EVERYWHERE = ["calibration@1", *IN_BLOCKS]


def name(gate: str) -> str:
    return gate.partition("@")[0]


@pytest.mark.parametrize("victim", ["client", "server"])
@pytest.mark.parametrize("gate", EVERYWHERE, ids=name)
def test_who_is_killed_fails_its_arm_in_that_block_only(start: Start, gate: str, victim: str) -> None:
    running = start(*TINY, "--blocks", "2", gates=gate)
    who = running.reach(name(gate))
    who[victim].kill()
    if victim == "server":
        running.go(name(gate))
    status, _, err = running.end()
    campaign = running.stored()
    assert (status, campaign.ended, len(campaign.blocks), campaign.outcomes) == (0, "done", 2, []), err
    assert len(campaign.dropped) == (gate in IN_BLOCKS)
    for sentence in campaign.dropped:
        # A connection that is being made breaks before anybody asks how the server is.
        words = f"the {victim}'s process ended" + ("|reset: |eof: " if victim == "server" else "")
        assert re.search(rf": gated(\.twin)?: ({words})", sentence)
    running.assert_gone()


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed: apt install nginx-light")
@pytest.mark.parametrize("victim", ["worker", "master"])
@pytest.mark.parametrize("gate", ["proof@3", "values@3", "finish@3"], ids=name)
def test_an_nginx_that_is_killed_fails_its_arm_in_that_block_only(start: Start, gate: str, victim: str) -> None:
    page = ["-w", "https_static", "-c", "1", "-n", "3", "--role", "server", "--peer", "gated", "--fast"]
    running = start(*page, "--blocks", "2", gates=gate, environment={"GATE_SERVER": "nginx"})
    _, worker = running.reach_somebody(name(gate))
    nginx = {"worker": psutil.Process(worker)}
    nginx["master"] = nginx["worker"].parents()[0]
    nginx[victim].kill()
    assert_ended(list(nginx.values()))
    running.go(name(gate))
    status, _, err = running.end()
    campaign = running.stored()
    assert (status, campaign.ended, len(campaign.blocks), campaign.outcomes) == (0, "done", 2, []), err
    (sentence,) = campaign.dropped
    assert re.search(r": nginx: (the server's process ended|reset: |eof: )", sentence)
    assert_kept(campaign, 2, arms=4)
    running.assert_gone()


@pytest.mark.parametrize("gate", EVERYWHERE, ids=name)
def test_a_block_interpreter_that_is_killed_ends_the_campaign_with_its_blocks(start: Start, gate: str) -> None:
    running = start(*LONG, gates=gate)
    who = running.reach(name(gate))
    family = who["block"].children(recursive=True)
    who["block"].kill()
    assert_ended(family)
    status, out, _ = running.end()
    assert status == 1
    assert out.splitlines()[-1].startswith("results: ")
    campaign = running.stored()
    assert campaign.ended == "the block's interpreter died with exit status -9"
    assert_kept(campaign, int(gate in IN_BLOCKS))
    running.assert_gone()


@pytest.mark.parametrize("gate", [*EVERYWHERE, "between@2", "saving@3"], ids=name)
def test_a_scheduler_that_is_killed_leaves_nobody_and_a_campaign_that_can_go_on(start: Start, gate: str) -> None:
    running = start(*TINY, "--blocks", "3", gates=gate)
    running.reach(name(gate))
    family = running.living()
    running.process.kill()
    assert_ended(family)
    running.end()
    running.assert_gone()
    campaign = store.load(running.path)
    assert campaign.ended == "running"
    assert_kept(campaign, int(gate != "calibration@1"))

    again = start("--continue", str(running.path))
    status, out, err = again.end()
    assert (status, out.splitlines()[-1]) == (0, f"results: {running.path}"), err
    campaign = again.stored()
    assert (campaign.ended, len(campaign.blocks)) == ("done", 3)
    assert_kept(campaign, 3)
    assert_files_agree(again)


def test_a_scheduler_that_is_killed_in_a_field_block_leaves_nobody(start: Start) -> None:
    # Without --fast every seventh block runs in fresh processes.
    running = start(*[each for each in LONG if each != "--fast"])
    running.wait_for_blocks(6)
    fresh: list[psutil.Process] = []
    while not fresh:
        fresh = [process for process in running.living() if "loopmark.peer" in command(process)]
    running.process.kill()
    running.end()
    assert_ended(fresh)
    running.assert_gone()


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def mortal(tmp_path: Path) -> Callable[[int], str]:
    """A plug-in whose contenders kill their process in their first runs."""

    def write(lives: int) -> str:
        path = tmp_path / "mortal.py"
        path.write_text(PLUGIN.replace("LIVES", str(lives)))
        return str(path)

    return write


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_process_that_is_killed_again_retires_its_arm_only(
    start: Start, mortal: Callable[[int], str], side: str
) -> None:
    running = start("-b", side, "--plugin", mortal(2), *TINY, "--blocks", "2", command=REAL)
    status, _, _ = running.end()
    campaign = running.stored()
    assert [(outcome.arm, outcome.status) for outcome in campaign.outcomes][:1] == [(side, "retired")]
    assert campaign.ended == "done"
    assert all(set(block.measurements) == {"asyncio", "asyncio.twin"} for block in campaign.blocks)
    assert status == 1
    running.assert_gone()


# Interrupted, once and again


def interrupt(running: Running) -> None:
    running.process.send_signal(signal.SIGINT)


def interrupt_all(running: Running) -> None:
    """What a terminal does on Ctrl-C: everybody in the foreground group gets it."""
    os.killpg(running.process.pid, signal.SIGINT)


def terminate(running: Running) -> None:
    running.process.send_signal(signal.SIGTERM)


def hang_up(running: Running) -> None:
    running.process.send_signal(signal.SIGHUP)


ENDS = [interrupt, interrupt_all, terminate, hang_up]


@pytest.mark.parametrize("end", [interrupt_all, terminate])
def test_an_interrupt_keeps_every_finished_block_and_leaves_nobody(
    start: Start, end: Callable[[Running], None]
) -> None:
    running = start("-b", "blocking", *LONG, command=REAL)
    running.wait_for_blocks(1)
    end(running)
    status, out, err = running.end()
    assert status == 130
    assert out.splitlines()[-1].startswith("results: ")
    assert "Traceback" not in err
    campaign = running.stored()
    assert campaign.ended == "interrupted"
    assert_kept(campaign, 1, arms=3)
    running.assert_gone()


@pytest.mark.parametrize("end", ENDS)
def test_whatever_else_comes_while_it_ends_and_saves_is_no_matter(start: Start, end: Callable[[Running], None]) -> None:
    if end is hang_up and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        pytest.skip("hang-ups are ignored here, as under nohup, and so they are by what is started")
    running = start(*LONG, gates="values@3 ending@3 last@3")
    for gate in ("values", "ending", "last"):
        running.reach(gate)
        end(running)
        if gate != "values":
            end(running)
            running.go(gate)
    status, out, err = running.end()
    assert (status, "Traceback" in err) == (130, False), err
    assert out.splitlines()[-1].startswith("results: ")
    campaign = running.stored()
    assert campaign.ended == "interrupted"
    assert_kept(campaign, 1)
    assert_files_agree(running)
    running.assert_gone()


@pytest.mark.parametrize("gate", ["between@2", "saving@3"], ids=name)
def test_an_interrupt_between_blocks_or_while_saving_keeps_all_files_whole(start: Start, gate: str) -> None:
    running = start(*LONG, gates=gate)
    running.reach(name(gate))
    interrupt(running)
    status, _, err = running.end()
    assert (status, "Traceback" in err) == (130, False), err
    assert running.stored().ended == "interrupted"
    assert_kept(running.stored(), 1)
    assert_files_agree(running)


def test_a_hail_of_interrupts_leaves_no_traceback_and_no_half_file(start: Start) -> None:
    running = start(*LONG, gates="values@3")
    running.reach("values")
    while running.process.poll() is None:
        interrupt(running)
    status, _, err = running.end()
    # At the very end Python gives signals back to the system, whose answer is to end at once.
    assert status in (130, -signal.SIGINT)
    assert "Traceback" not in err
    assert_kept(running.stored(), 1)
    assert_files_agree(running)
    running.assert_gone()


def test_a_refusal_leaves_nothing(start: Start) -> None:
    running = start("--plugin", "/dev/null/none.py", command=REAL)
    assert running.end()[0] == 2
    assert not (running.directory / "results").exists()
    running.assert_gone()


# A system that refuses


def one_line(running: Running) -> str:
    """Return the one complaint, beside lines of progress, with which a campaign has ended."""
    status, _, err = running.end()
    assert status in (1, 2)
    assert "Traceback" not in err
    (line,) = [each for each in err.splitlines() if " at most " not in each]
    return line


def mounted(options: str, results: Path) -> list[str]:
    """Return what runs a command with `results` on a file system of its own, which is copied to `kept` in the end.

    Skips where the machine lets nobody have one.
    """
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run([*own, "mount -t tmpfs none /tmp"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets nobody mount a file system of his own")
    results.mkdir()
    mount = f"mount -t tmpfs -o {options} none '{results}'"
    return [*own, f"{mount} && \"$@\"; status=$?; cp -r '{results}' '{results.parent}/kept'; exit $status", "sh"]


def test_a_disk_that_gets_full_ends_the_campaign_with_one_line_and_whole_files(start: Start, tmp_path: Path) -> None:
    running = start(*LONG, under=mounted("size=64k", tmp_path / "results"))
    line = one_line(running)
    assert re.fullmatch(r"loopmark: cannot write results to .*: No space left on device", line)
    (path,) = (tmp_path / "kept").iterdir()
    assert not list(path.glob(".*"))
    assert_kept(store.load(path), 1)
    for file in path.iterdir():
        json.loads(file.read_text())


def test_files_that_may_not_grow_any_more_are_kept_as_they_were(start: Start) -> None:
    running = start(*LONG, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000)))
    assert one_line(running).endswith(": File too large")
    assert_kept(running.stored(), 1)
    assert_files_agree_or_lag(running)


def assert_files_agree_or_lag(running: Running) -> None:
    """A pyperf file may be of the block before: it is whole all the same."""
    for file in running.path.glob("gated*.json"):
        for benchmark in json.loads(file.read_text())["benchmarks"]:
            assert len(running.stored().blocks) - len(benchmark["runs"]) in (0, 1)


def test_results_that_are_read_only_are_refused_before_anything_is_measured(start: Start, tmp_path: Path) -> None:
    line = one_line(start(*LONG, under=mounted("ro", tmp_path / "results")))
    assert "cannot write results to" in line
    assert line.endswith("Read-only file system; name another directory with --results DIR")


def test_an_output_that_is_full_is_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    store.write(tmp_path, fake_campaign(blocks=1))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*REAL, "compare", str(tmp_path)], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (1, "loopmark: the system refuses: [Errno 28] No space left on device\n")


def assert_done(running: Running) -> Campaign:
    status, _, err = running.end()
    campaign = running.stored()
    assert (status, campaign.ended, len(campaign.blocks)) == (0, "done", 2), err
    assert campaign.outcomes == []
    running.assert_gone()
    return campaign


def test_a_log_that_is_full_ends_no_campaign(start: Start) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        assert_done(start(*TINY, "--blocks", "2", stderr=full))


# Surroundings


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(start: Start, closed: str) -> None:
    assert_done(start(*TINY, "--blocks", "2", under=["sh", "-c", f'exec "$@" {closed}', "sh"]))


def test_a_clock_that_is_set_back_and_forth_changes_no_duration(start: Start) -> None:
    campaign = assert_done(start(*TINY, "--blocks", "2", environment={"CLOCK": "steps"}))
    spent = [block.seconds for block in campaign.blocks]
    spent += [each.seconds for block in campaign.blocks for each in block.measurements.values()]
    spent += [one for block in campaign.blocks for each in block.measurements.values() for one in each.wall]
    assert all(0 < seconds < 3600 for seconds in [*spent, campaign.seconds])


def test_no_module_takes_durations_from_the_clock_of_the_day() -> None:
    found = {
        str(path.relative_to(ROOT))
        for directory in ("src", "backends", "benchmarks")
        for path in (ROOT / directory).rglob("*.py")
        if re.search(r"\btime\.time(_ns)?\b|\bfrom time import\b", path.read_text())
    }
    assert found == set()


PLAIN = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("environment", [{}, PLAIN, {"HOME": "/dev/null/none", "XDG_CACHE_HOME": "/dev/null/none"}])
def test_paths_and_labels_may_have_any_letters_in_any_locale_and_home(
    start: Start, tmp_path: Path, identity: Identity, environment: dict[str, str]
) -> None:
    odd = tmp_path / "Läufe für 'alle' \u4e16"
    shutil.copytree(identity.ca.parent, odd / "certs ü")
    plugin = odd / "mein plug-in é.py"
    shutil.copy(tmp_path / "gated.py", plugin)
    # Of options that are given twice the last one counts.
    given = ["--results", str(odd / "results"), "--certs", str(odd / "certs ü"), "--plugin", str(plugin)]
    shutil.rmtree(tmp_path / "results", ignore_errors=True)
    options = ["-w", "tls_pingpong", *TINY[2:], "--blocks", "1", "--label", "Prüfung \u4e16", *given]
    running = start(*options, environment=environment)
    status, out, err = running.end()
    assert status == 0, err
    (path,) = (odd / "results").iterdir()
    assert out.splitlines()[-1] == f"results: {path}"
    for names in (environment, {}):
        shown = subprocess.run(
            [*REAL, "show", str(path)], env={**os.environ, **names}, capture_output=True, timeout=60, check=True
        )
        assert b"Pr" in shown.stdout
        assert shown.stderr == b""


def test_a_checkout_may_lie_anywhere(start: Start, tmp_path: Path) -> None:
    checkout = tmp_path / "Schleifen & Märkte \u4e16"
    for part in ("src", "backends", "benchmarks"):
        shutil.copytree(ROOT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", checkout)
    # Ahead of the installed one.
    ahead = [sys.executable, "-P", "-c", "import loopmark; print(loopmark.__file__)"]
    environment = {"PYTHONPATH": str(checkout / "src")}
    told = subprocess.run(ahead, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    assert told.stdout.startswith(str(checkout))
    assert_done(start(*TINY, "--blocks", "2", environment=environment))
