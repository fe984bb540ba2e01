"""Runs arms in real processes: a fresh interpreter per block, ended with all that it has started."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from loopmark.arms import BlockDiedError
from loopmark.task import Order, to_json

# Pinned for all processes of a block; see docs/method.md. The threshold for trimming alone is not enough.
PINNED_MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}


class Interpreters:
    """The executor of real campaigns; one block at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def open_block(self) -> None:
        """Start the block's interpreter, in a session of its own, so that an interrupt reaches the scheduler only."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "loopmark.block", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **PINNED_MALLOC},
            start_new_session=True,
        )
        self._read()

    def start(self, order: Order) -> dict[str, Any]:
        """Let an arm start and prove its work."""
        return self._ask({"start": to_json(order)})

    def round(self, arms: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Let arms take their next values."""
        return self._ask({"round": arms})

    def finish(self, arm: str) -> dict[str, Any]:
        """Take an arm's readings and end it."""
        return self._ask({"finish": arm})

    def close_block(self) -> None:
        """Kill the block's whole session: nothing in it has anything left to say."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        # Last of all: what an interrupt keeps from being done is done when this is called again.
        self._process = None

    def _ask(self, command: Mapping[str, object]) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None
        answer: dict[str, Any] = json.loads(self._read())
        return answer

    def _read(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        return line

    def _died(self) -> BlockDiedError:
        assert self._process is not None
        return BlockDiedError(f"the block's interpreter died with exit status {self._process.wait()}")
