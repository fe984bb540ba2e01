"""How the client of an arm is told to go on: one value at a time, so that the arms of a block can take turns.

The block writes one byte for every value that it wants and one for the end, the client one JSON line for all that it
has done: its proof, each value, and at the end all of its readings. While several arms take a value at the same time,
in slices, the block stops all but one of them; how long an arm was stopped is in memory that both share.
"""

import json
import mmap
import os
import struct
import time
from typing import Any, TextIO


class Pauses:
    """Seconds for which an arm was stopped, in memory that its processes share with the block that forks them."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, struct.calcsize("d"))

    @property
    def seconds(self) -> float:
        """All of them so far."""
        (seconds,) = struct.unpack_from("d", self._memory)
        return float(seconds)

    def add(self, seconds: float) -> None:
        """Add a pause; nobody may run who reads them."""
        struct.pack_into("d", self._memory, 0, self.seconds + seconds)


class Turns:
    """The client's end. Waiting costs nothing: the process sleeps in `read`."""

    def __init__(self, tokens: int, lines: TextIO, pauses: Pauses | None = None) -> None:
        self._tokens = tokens
        self._lines = lines
        self._pauses = pauses

    def wait(self) -> None:
        """Wait for the next turn; when the block has gone there is none, and nobody to tell."""
        if not os.read(self._tokens, 1):
            os._exit(1)

    def tell(self, answer: dict[str, Any]) -> None:
        """Say what was done."""
        self._lines.write(json.dumps(answer) + "\n")
        self._lines.flush()

    def clock(self) -> float:
        """Return a wall clock's seconds that stands still while the arm is stopped."""
        if self._pauses is None:
            return time.perf_counter()
        while True:
            stopped = self._pauses.seconds
            now = time.perf_counter()
            # Else it was stopped between the two.
            if self._pauses.seconds == stopped:
                return now - stopped
