"""What a process writes to its standard error: however much it is, only the end is kept, and no disk is needed."""

import os

KEPT = 4096
"""Bytes."""

_READS = 16
_PART = 65536


class LastWords:
    """A pipe for the standard error of a process; it must be read now and then, or who writes very much has to wait.

    Both ends stay open here, so that the pipe has no end before it is closed.
    """

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._end = b""

    @property
    def descriptors(self) -> tuple[int, int]:
        """What the process of somebody else must not keep open."""
        return self._reader, self.writer

    def fileno(self) -> int:
        """Return what becomes readable when there is something to read."""
        return self._reader

    def read(self) -> None:
        """Read what is there, or the first MiB of it: some never stop."""
        for _ in range(_READS):
            try:
                part = os.read(self._reader, _PART)
            except BlockingIOError:
                return
            self._end = (self._end + part)[-KEPT:]

    def line(self) -> str | None:
        """Return the last line so far."""
        self.read()
        lines = self._end.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else None

    def close(self) -> None:
        """Close both ends."""
        for each in self.descriptors:
            os.close(each)
