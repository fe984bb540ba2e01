"""However a campaign ends, its finished blocks are kept and no process of it is left."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from loopmark import store
from loopmark.record import Campaign
from loopmark.tls import Identity

MARK = "LOOPMARK_TEST_MARK"
# Few connections a value, so that blocks are short and nothing has to be calibrated again.
TINY = ["-c", "1", "-n", "3", "--role", "both"]
LONG = ["-b", "blocking", *TINY, "--fast", "--blocks", "10000", "--max-time", "10000"]

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

    def __init__(self, results: Path, identity: Identity, *arguments: str) -> None:
        self.results = results
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "loopmark", "run", "-w", "tcp_pingpong", *arguments),
                *("--results", str(results), "--certs", str(identity.ca.parent)),
            ],
            env={**os.environ, MARK: self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for_blocks(self, count: int) -> None:
        """Read progress until as many blocks are complete."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            count -= ": block " in line
            if count == 0:
                return
        raise AssertionError("the campaign ended early")

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

    def blocks(self) -> list[psutil.Process]:
        """Find the interpreter of the block that runs now, if there is one at this moment."""
        found = []
        for process in psutil.Process(self.process.pid).children():
            try:
                if "loopmark.block" in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def stored(self) -> Campaign:
        (path,) = self.results.iterdir()
        assert not list(path.glob(".*"))
        return store.load(path)

    def assert_gone(self) -> None:
        _, alive = psutil.wait_procs(self.living(), timeout=60)
        assert not alive


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path, identity: Identity) -> Iterator[Start]:
    started: list[Running] = []

    def start(*arguments: str) -> Running:
        started.append(Running(tmp_path / "results", identity, *arguments))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        for process in running.living():
            process.kill()
        running.process.communicate()


def assert_kept(campaign: Campaign, least: int) -> None:
    """All blocks are whole, and without gaps."""
    assert len(campaign.blocks) >= least
    assert [block.index for block in campaign.blocks] == list(range(len(campaign.blocks)))
    assert all(len(block.measurements) == 3 for block in campaign.blocks)


def interrupt(running: Running) -> None:
    running.process.send_signal(signal.SIGINT)


def interrupt_all(running: Running) -> None:
    """What a terminal does on Ctrl-C: everybody in the foreground group gets it."""
    os.killpg(running.process.pid, signal.SIGINT)


def terminate(running: Running) -> None:
    running.process.send_signal(signal.SIGTERM)


def hang_up(running: Running) -> None:
    running.process.send_signal(signal.SIGHUP)


@pytest.mark.parametrize("end", [interrupt, interrupt_all, terminate, hang_up])
@pytest.mark.parametrize("blocks", [1, 3])
def test_an_interrupt_keeps_every_finished_block_and_leaves_nobody(
    start: Start, end: Callable[[Running], None], blocks: int
) -> None:
    running = start(*LONG)
    running.wait_for_blocks(blocks)
    end(running)
    status, out, err = running.end()
    assert status == 130
    assert out.splitlines()[-1].startswith("results: ")
    assert "Traceback" not in err
    campaign = running.stored()
    assert campaign.ended == "interrupted"
    assert_kept(campaign, blocks)
    running.assert_gone()


def test_an_interrupt_before_anything_runs_leaves_nothing(start: Start) -> None:
    running = start("--plugin", "/dev/null/none.py")
    assert running.end()[0] == 2
    assert not running.results.exists()
    running.assert_gone()


def test_a_scheduler_that_is_killed_leaves_nobody_and_a_readable_campaign(start: Start) -> None:
    running = start(*LONG)
    running.wait_for_blocks(1)
    family = psutil.Process(running.process.pid).children(recursive=True)
    running.process.kill()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    running.end()
    running.assert_gone()
    (path,) = running.results.iterdir()
    campaign = store.load(path)
    assert campaign.ended == "running"
    assert_kept(campaign, 1)


def test_a_scheduler_that_is_killed_in_a_field_block_leaves_nobody(start: Start) -> None:
    # Without --fast every seventh block runs in fresh processes.
    running = start("-b", "blocking", *TINY, "--max-time", "10000")
    running.wait_for_blocks(6)
    fresh: list[psutil.Process] = []
    while not fresh:
        fresh = [process for process in running.living() if "loopmark.peer" in command(process)]
    running.process.kill()
    running.end()
    _, alive = psutil.wait_procs(fresh, timeout=60)
    assert not alive
    running.assert_gone()


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_block_interpreter_that_is_killed_ends_the_campaign_with_its_blocks(start: Start) -> None:
    running = start(*LONG)
    running.wait_for_blocks(1)
    found: list[psutil.Process] = []
    while not found:
        found = running.blocks()
    found[0].kill()
    status, out, _ = running.end()
    assert status == 1
    assert out.splitlines()[-1].startswith("results: ")
    campaign = running.stored()
    assert campaign.ended == "the block's interpreter died with exit status -9"
    assert_kept(campaign, 1)
    running.assert_gone()


@pytest.fixture
def mortal(tmp_path: Path) -> Callable[[int], str]:
    """A plug-in whose contenders kill their process in their first runs."""

    def write(lives: int) -> str:
        path = tmp_path / "mortal.py"
        path.write_text(PLUGIN.replace("LIVES", str(lives)))
        return str(path)

    return write


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_process_that_is_killed_fails_its_arm_in_that_block_only(
    start: Start, mortal: Callable[[int], str], side: str
) -> None:
    running = start("-b", side, "--plugin", mortal(1), *TINY, "--fast", "--blocks", "2")
    status, _, _ = running.end()
    campaign = running.stored()
    (dropped,) = campaign.dropped
    assert f": {side}: the {side}'s process ended" in dropped
    assert (campaign.ended, len(campaign.blocks), campaign.outcomes) == ("done", 2, [])
    assert status == 0
    running.assert_gone()


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_process_that_is_killed_again_retires_its_arm_only(
    start: Start, mortal: Callable[[int], str], side: str
) -> None:
    running = start("-b", side, "--plugin", mortal(2), *TINY, "--fast", "--blocks", "2")
    status, _, _ = running.end()
    campaign = running.stored()
    assert [(outcome.arm, outcome.status) for outcome in campaign.outcomes][:1] == [(side, "retired")]
    assert campaign.ended == "done"
    assert all(set(block.measurements) == {"asyncio", "asyncio.twin"} for block in campaign.blocks)
    assert status == 1
    running.assert_gone()
