"""What the two processes of an arm use besides CPU time; read from the client's process."""

import gc
import os
from collections.abc import Sequence
from typing import Any

from loopmark import procfs
from loopmark.peer import Handle, settle


class Readings:
    """What client and server have used besides CPU time, between `settle` and `result`."""

    def __init__(self, server: Handle) -> None:
        self._server = server
        self._pids = {"client": os.getpid(), "server": server.pid}
        self._ready = {side: procfs.private_kib(pid) for side, pid in self._pids.items()}

    def settle(self) -> None:
        """Settle the heaps of both processes, and start to count."""
        settle()
        self._collections = {"client": _collections(), "server": self._server.ask("settle")["collections"]}
        self._before = {side: _usage(pid) for side, pid in self._pids.items()}

    def result(self, connections: int) -> dict[str, Any]:
        """Return each side's figures as `record.Side` has them."""
        counts = self._server.ask("counts")
        after = {side: _usage(pid) for side, pid in self._pids.items()}
        collections = {"client": _collections(), "server": counts["collections"]}
        sides = {}
        for side, pid in self._pids.items():
            faults, voluntary, involuntary, delay = (
                None if old is None or new is None else (new - old) / connections
                for old, new in zip(self._before[side], after[side], strict=True)
            )
            private, ready = procfs.private_kib(pid), self._ready[side]
            sides[side] = {
                "minor_faults": faults,
                "voluntary_switches": voluntary,
                "involuntary_switches": involuntary,
                "run_delay": delay,
                "collections": collections[side] - self._collections[side],
                "private_kib": None if private is None or ready is None else private - ready,
            }
        return sides


def _usage(pid: int) -> Sequence[float | None]:
    voluntary, involuntary = procfs.context_switches(pid) or (None, None)
    return procfs.minor_faults(pid), voluntary, involuntary, procfs.run_delay(pid)


def _collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())
