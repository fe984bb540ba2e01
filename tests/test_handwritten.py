"""The hand-written yardsticks do the same work: without that their comparison with the contenders says nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from loopmark import store
from loopmark.registry import names_in

BY_HAND = Path(__file__).parent / "handwritten"
PLUGIN = BY_HAND / "yardsticks.py"
NAMES = names_in(PLUGIN)["backends"]


def campaign(results: Path, *options: str) -> tuple[str, Path]:
    """Run one block with yardsticks; return what was printed, and the campaign's directory."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "loopmark",
            "run",
            "--fast",
            "--blocks",
            "1",
            "--no-progress",
            "-b",
            "asyncio",
            "--plugin",
            str(PLUGIN),
            "--results",
            str(results),
            *options,
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = results.iterdir()
    return done.stdout, path


def test_there_is_one_for_every_contender() -> None:
    assert len(NAMES) == 11


@pytest.mark.parametrize("concurrency", ["1", "10"])
def test_over_tcp_each_is_served_and_serves(concurrency: str, tmp_path: Path) -> None:
    options = ["-w", "tcp_pingpong", "-c", concurrency, "--role", "server,client,both", "--hidden", ",".join(NAMES)]
    printed, path = campaign(tmp_path, *options)
    measured = [set(block.measurements) for block in store.load(path).blocks]
    assert measured == [{"asyncio", "asyncio.twin", *NAMES}] * 3
    assert "hand-" not in printed


def test_over_tls_each_is_served_and_serves(tmp_path: Path) -> None:
    names = [name for name in NAMES if not name.endswith("-sockets")]
    options = ["-w", "tls_pingpong", "-c", "1", "--role", "server,client,both", "--hidden", ",".join(names)]
    _, path = campaign(tmp_path, *options)
    measured = [set(block.measurements) for block in store.load(path).blocks]
    assert measured == [{"asyncio", "asyncio.twin", "floor", *names}] * 3
