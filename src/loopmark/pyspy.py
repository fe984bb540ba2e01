"""py-spy, a sampling profiler: how it is found and called, what its refusals mean, and what its flame graph counts.

It is another program that reads a process from outside, so nothing is called more slowly for being a Python function.
"""

import html
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loopmark.errors import DamagedError

RATE = 100
"""Samples per second. Each stops the process for a moment, with native frames for up to some milliseconds."""

MISSING = "py-spy is not installed; type: pip install py-spy"

_PERMISSION = re.compile(r"permission denied|operation not permitted|requires root|as root|EPERM", re.IGNORECASE)
_HANDSHAKE = re.compile(r"(?:\w+\.)?do_handshake \(ssl\.py(?::\d+)?\)")
_OURS = re.compile(r"_Answers\.run \(loopmark/peer\.py(?::\d+)?\)")
"""The thread that answers our questions. It waits, but being stopped for a sample makes it run for a moment."""

_BOX = re.compile(r"<title>([^<]*) \(([\d,]+) samples, [\d.]+%\)</title>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """An installed py-spy."""

    path: str
    is_native: bool
    """Whether it was built to see the frames of compiled code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a flame graph says in numbers: samples of what is profiled, and those of them within a TLS handshake."""

    samples: int
    handshake: int


def find() -> Tool | None:
    """Return the py-spy of the path, or the one that is installed beside this interpreter; None without one."""
    path = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if path is None:
        return None
    done = subprocess.run([path, "record", "--help"], capture_output=True, text=True, check=False)
    return Tool(path=path, is_native="--native" in done.stdout)


def command(tool: Tool, out: Path, seconds: float, *, native: bool) -> tuple[str, ...]:
    """Return how to sample for so long, in whole seconds, into an SVG file; a process's id is to be added."""
    words = [tool.path, "record", "--function", "--rate", str(RATE), "--duration", str(max(1, round(seconds)))]
    return (*words, *(["--native"] if native else []), "--output", str(out), "--pid")


def refusal(words: str) -> str:
    """Turn what py-spy wrote when it failed into one sentence that says what to do."""
    if not _PERMISSION.search(words):
        told = next((line.strip() for line in words.splitlines() if line.strip()), "it did not say why")
        return f"py-spy failed: {told.removeprefix('Error: ')[:200]}"
    if sys.platform == "darwin":
        return "py-spy may not read other processes here: run this command with sudo"
    return (
        "py-spy may not read other processes here (ptrace): run this command as root, in a container started with "
        "--cap-add SYS_PTRACE, or type: sudo sysctl kernel.yama.ptrace_scope=0"
    )


def is_refused(words: str) -> bool:
    """Tell whether it failed for lack of permission, which no other option changes."""
    return bool(_PERMISSION.search(words))


def counted(svg: str) -> Counted:
    """Count the samples of a flame graph; raises DamagedError for something else.

    A handshake is what is below `do_handshake` of the standard library's ssl module, however it was reached.
    """
    boxes = list(_boxes(svg))
    total = next((samples for name, samples in boxes if name == "all"), None)
    if total is None:
        raise DamagedError("py-spy has not written a flame graph")
    handshake, ours = (
        sum(samples for name, samples in boxes if place.fullmatch(name)) for place in (_HANDSHAKE, _OURS)
    )
    return Counted(samples=total - ours, handshake=handshake)


def _boxes(svg: str) -> Iterator[tuple[str, int]]:
    """Yield each box's function, with its place in parentheses, and the samples in which it was on the stack."""
    for name, samples in _BOX.findall(svg):
        yield html.unescape(name), int(samples.replace(",", ""))
