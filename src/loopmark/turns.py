"""How the client of an arm is told to go on: one value at a time, so that the arms of a block can take turns.

The block writes one byte for every value that it wants and one for the end, the client one JSON line for all that it
has done: its proof, each value, and at the end all of its readings.
"""

import json
import os
from typing import Any, TextIO


class Turns:
    """The client's end. Waiting costs nothing: the process sleeps in `read`."""

    def __init__(self, tokens: int, lines: TextIO) -> None:
        self._tokens = tokens
        self._lines = lines

    def wait(self) -> None:
        """Wait for the next turn; when the block has gone there is none, and nobody to tell."""
        if not os.read(self._tokens, 1):
            os._exit(1)

    def tell(self, answer: dict[str, Any]) -> None:
        """Say what was done."""
        self._lines.write(json.dumps(answer) + "\n")
        self._lines.flush()
