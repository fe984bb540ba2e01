"""What does it cost to send a file? By the kernel's sendfile or, as `copy`, read and written in pieces.

The file is made in the user's cache when a server opens its first conversation, which is never timed. Later nobody
looks at it again: a backend that cannot read all of it tells of a fault, and other content does not pass the client's
comparison.
"""

import tempfile
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import platformdirs

from loopmark.case import Benchmark, Conversation, Role
from loopmark.service import HANG_UP, PIECE, File, FixedRequest, Reply, Talk, Then
from loopmark.spi import Feature

REQUEST = b"SEND"
SIZES = {"20KiB": 20 * 1024, "10MiB": 10 * 1024 * 1024}


class SendFile(FixedRequest):
    """Answers the one right request with a file."""

    def __init__(self, file: File) -> None:
        super().__init__(REQUEST)
        self._file = file

    def answer(self) -> Reply:
        """Answer with the file; nothing is served yet."""
        return Reply(b"", Then.CLOSE, self._file)

    def sent(self) -> None:
        """Count the conversation as served, now that all of the file is on its way."""
        self.finish(HANG_UP)


def content(size: int) -> bytes:
    """Return what is in a file: a cycle as long as a prime, so that pieces in the wrong place are seen."""
    cycle = bytes(range(251))
    return (cycle * (size // len(cycle) + 1))[:size]


CONTENTS = {name: content(size) for name, size in SIZES.items()}
"""The one copy of each in a process, to write and to compare with."""


def prepare(path: Path, right: bytes) -> None:
    """Have this content in a file; any number of processes may do so at once. Raises OSError where that cannot be."""
    if _has(path, right):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch, path.name)
        made.write_bytes(right)
        # In one step: nobody ever finds a part of it.
        made.replace(path)


def _has(path: Path, right: bytes) -> bool:
    # Not all at once: that would be memory which the server seems to need.
    pieces = (right[start : start + PIECE] for start in range(0, len(right), PIECE))
    with suppress(FileNotFoundError), path.open("rb") as file:
        return all(file.read(PIECE) == piece for piece in pieces) and not file.read(1)
    return False


@cache
def _file(name: str, *, zero_copy: bool) -> File:
    right = CONTENTS[name]
    path = platformdirs.user_cache_path("loopmark") / "files" / f"{name}.bin"
    # Where it cannot be made, no backend can open it: the server will count faults, not numbers.
    with suppress(OSError):
        prepare(path, right)
    return File(str(path), len(right), zero_copy)


def _serve(name: str, *, zero_copy: bool) -> SendFile:
    return SendFile(_file(name, zero_copy=zero_copy))


def _conversation(name: str, *, zero_copy: bool) -> Conversation:
    return Conversation(
        service=partial(_serve, name, zero_copy=zero_copy),
        talks=(Talk(parts=(REQUEST,), reply=CONTENTS[name], reply_size=None),),
        needs=frozenset({Feature.SENDFILE if zero_copy else Feature.FILES}),
    )


BENCHMARK = Benchmark(
    name="sendfile",
    question="What does it cost to send a file: connect, request, the whole file, close?",
    conversations={
        f"{'' if zero_copy else 'copy-'}{name}": _conversation(name, zero_copy=zero_copy)
        for zero_copy in (True, False)
        for name in SIZES
    },
    tls=None,
    # A client holds each file that is on its way.
    concurrencies=(1, 10),
    bursts=(),
    usual=((1, (Role.SERVER,)),),
)
