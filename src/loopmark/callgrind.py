"""Valgrind's callgrind: how a program is put under it, the marks between which it counts, and the files that it writes.

A mark is a call of a C function that nothing else calls, in `loopmark.peer.mark`. At each, callgrind writes how many
instructions all threads of the program have executed since the mark before, into a file of its own. So counting starts
and ends at an exact instruction, without a signal, a debugger's rights or compiled code of ours.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from loopmark.errors import LoopmarkError, UnavailableError

MARK = "ctermid"
"""Every libc on Linux exports it, Python calls it in `os.ctermid` only, and it asks the kernel nothing."""

SLOWDOWN = 50
"""How many times longer something takes under callgrind, rounded up: deadlines are scaled by it."""


class CallgrindError(LoopmarkError):
    """Callgrind has not written what it should have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file: what was executed up to one mark, or up to the end."""

    number: int
    """Counted from 1."""
    instructions: int
    is_at_mark: bool


def version() -> str:
    """Return valgrind's version; raises UnavailableError, with the cure, where it cannot be used."""
    if not sys.platform.startswith("linux"):
        raise UnavailableError(f"--instructions needs Linux and valgrind, and this is {sys.platform}")
    found = shutil.which("valgrind")
    if found is None:
        raise UnavailableError(
            "--instructions needs valgrind, which is not installed; type: apt install valgrind (or dnf, pacman, apk)"
        )
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"valgrind does not run here: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout.strip().removeprefix("valgrind-")


def command(out: Path) -> tuple[str, ...]:
    """Return what to put before a program's command; parts are written beside `out`, with a number behind its name."""
    return ("valgrind", "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={out}", "--quiet")


def between_marks(out: Path) -> list[int]:
    """Return the instructions from each mark to the next; raises CallgrindError for files that are damaged."""
    parts = [part_of(path.read_text(errors="replace")) for path in out.parent.glob(f"{out.name}.*")]
    marked = sorted((part.number, part.instructions) for part in parts if part.is_at_mark)
    if [number for number, _ in marked] != list(range(1, len(marked) + 1)):
        raise CallgrindError(f"callgrind's parts are not complete: {[number for number, _ in marked]}")
    # Before the first mark lies the start of the program.
    return [instructions for _, instructions in marked[1:]]


def part_of(text: str) -> Part:
    """Read a file of callgrind's, format version 1, as https://valgrind.org/docs/manual/cl-format.html describes it.

    Raises CallgrindError when it is cut short, or counts something else than instructions.
    """
    if _field(text, "events").split() != ["Ir"]:
        raise CallgrindError(f"callgrind counted {_field(text, 'events')!r} instead of Ir")
    number, total = _field(text, "part"), _field(text, "totals")
    if not (_is_number(number) and _is_number(total)):
        raise CallgrindError(f"callgrind wrote part {number!r} with the total {total!r}")
    trigger = re.search(r"^desc: Trigger: (.*)$", text, re.MULTILINE)
    is_at_mark = trigger is not None and trigger[1].strip() == f"--dump-before={MARK}"
    return Part(number=int(number), instructions=int(total), is_at_mark=is_at_mark)


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}:(.*)$", text, re.MULTILINE)
    if found is None:
        raise CallgrindError(f"a file of callgrind's has no {name!r}: it is cut short, or of another format")
    return found[1].strip()


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 20
