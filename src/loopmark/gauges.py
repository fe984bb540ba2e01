"""What is read around the timed part of a value, on both sides and from the client's process: clocks, and memory."""

import os
import time
from collections.abc import Callable

from loopmark import procfs
from loopmark.errors import FactsError
from loopmark.peer import Handle, settle
from loopmark.traffic import Stopwatch


class Clocks:
    """Reads the clocks of both sides around what is timed."""

    def __init__(
        self,
        wall_clock: Callable[[], float],
        server_clock: Callable[[], float],
        resting: Callable[[int], float],
        at_rest: Callable[[], float],
    ) -> None:
        self._wall_clock = wall_clock
        self._server_clock = server_clock
        self._resting = resting
        self._at_rest = at_rest
        self._server_end: float | None = None
        self.server_cpu = 0.0

    def start(self, connections: int) -> None:
        """Start when the server has so many connections open, and is at rest."""
        self._server_start = self._resting(connections)
        # First and last is the wall clock, so that no CPU time lies outside of it, however long a reading takes.
        self._wall = self._wall_clock()
        self._cpu = time.process_time()

    def stop(self) -> None:
        """Stop the client's clocks, and see what the server has used so far."""
        self.client_cpu = time.process_time() - self._cpu
        self.server_so_far = self._server_clock() - self._server_start
        self.wall = self._wall_clock() - self._wall

    def rest(self) -> None:
        """Stop the server's clock once it is at rest; only the first call does."""
        if self._server_end is None:
            # Without asking for counts, whose answer would be charged to the server.
            self._server_end = self._at_rest()
            self.server_cpu = self._server_end - self._server_start


class Memory:
    """Reads the private memory of both processes before and after what is looked at, both rid of their garbage."""

    def __init__(self, server: Handle, settled: Callable[[int], object], concurrency: int) -> None:
        self._server = server
        self._settled = settled
        self._concurrency = concurrency
        self._readings: list[dict[str, float]] = []

    def around(self, watch: Stopwatch) -> Stopwatch:
        """Return a watch that also reads memory, outside of what is timed."""

        def start(connections: int) -> None:
            self._read(connections)
            watch.start(connections)

        def rest() -> None:
            watch.rest()
            self._read(self._concurrency)

        return Stopwatch(start=start, stop=watch.stop, rest=rest)

    def grown(self) -> dict[str, float]:
        """Return by how many bytes each side has grown; nothing where nothing was read."""
        if not self._readings:
            return {}
        before, after = self._readings
        return {side: after[side] - before[side] for side in before}

    def _read(self, connections: int) -> None:
        self._settled(connections)
        self._server.ask("settle")
        settle()
        found = {}
        for side, pid in (("client", os.getpid()), ("server", self._server.pid)):
            kib = procfs.private_kib(pid)
            if kib is None:
                raise FactsError(f"the private memory of the {side}'s process cannot be read on this system")
            found[side] = 1024 * kib
        self._readings.append(found)


def untimed() -> Stopwatch:
    """Return a watch that takes no time."""

    def ignore(*_: int) -> None:
        pass

    return Stopwatch(start=ignore, stop=ignore, rest=ignore)
