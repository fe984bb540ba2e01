"""Read processes and the machine from outside: clocks, counters, memory, placement.

Linux tells most of it. Elsewhere psutil fills in what it can; what nobody can tell is None, and the caller says so. A
process that is gone raises ProcessLookupError. Sums over threads hold those that still live.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    import psutil

PROC = Path("/proc")
CPUS = Path("/sys/devices/system/cpu")

Process: TypeAlias = int | Literal["self"]
Number = TypeVar("Number", int, float)


def cpu_clock(pid: int) -> Callable[[], float]:
    """Return a clock of another process's CPU time, user and system, in seconds.

    On Linux it has nanoseconds, costs the other process nothing, and counts its exited threads. Reading it raises
    ProcessLookupError once the process is gone, and so does this call. Elsewhere it is psutil's, mostly in 10 ms steps,
    and raises PermissionError where that is kept from us.
    """
    if not _has_proc():

        def ask() -> float:
            seconds = _from_psutil(pid, lambda process: sum(process.cpu_times()[:2]))
            if seconds is None:
                raise PermissionError(f"the system does not tell the CPU time of process {pid}")
            return seconds

        ask()
        return ask
    # The clock's number as clock_getcpuclockid(3) makes it: the inverted pid, then 2 for the scheduler's own count.
    clock = ((~pid) << 3) | 2

    def read() -> float:
        try:
            return time.clock_gettime(clock)
        except OSError as error:
            raise ProcessLookupError(f"no process {pid}") from error

    read()
    return read


def minor_faults(pid: Process) -> int | None:
    """Count page faults served without disk, since the start."""
    stat = _read(pid, "stat")
    # Field 10 of proc_pid_stat(5). The second is the name in parentheses, which may hold anything.
    return None if stat is None else int(stat.rpartition(")")[2].split()[7])


def context_switches(pid: Process) -> tuple[int, int] | None:
    """Count voluntary and involuntary switches of all threads."""
    voluntary = involuntary = 0
    found = False
    for status in _tasks(pid, "status"):
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        if "voluntary_ctxt_switches" in fields:
            found = True
            voluntary += int(fields["voluntary_ctxt_switches"])
            involuntary += int(fields["nonvoluntary_ctxt_switches"])
    return (voluntary, involuntary) if found else None


def run_delay(pid: Process) -> float | None:
    """Sum the seconds that all threads were runnable but waited for a core."""
    delays = [int(schedstat.split()[1]) for schedstat in _tasks(pid, "schedstat")]
    return sum(delays) / 1e9 if delays else None


def private_kib(pid: Process) -> float | None:
    """Return the memory that would be free if the process ended, in KiB."""
    if _has_proc():
        rollup = _read(pid, "smaps_rollup")
        if not rollup:
            return None
        lines = (line.split() for line in rollup.splitlines())
        return float(sum(int(line[1]) for line in lines if line[0] in ("Private_Clean:", "Private_Dirty:")))
    kib = _from_psutil(pid, lambda process: process.memory_full_info().uss // 1024)
    return None if kib is None else float(kib)


def threads(pid: Process = "self") -> int | None:
    """Count the threads that the kernel knows, those of C libraries included."""
    if _has_proc():
        _must_exist(pid)
        return len(list((PROC / f"{pid}/task").iterdir()))
    return _from_psutil(pid, lambda process: process.num_threads())


def is_still(pid: int) -> bool:
    """Tell whether a process is stopped, or does nothing more at all; only for where there is /proc."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    # The name, in parentheses, may have anything in it.
    return stat.rpartition(")")[2].split()[0] in "TtZX"


def descriptors(pid: Process = "self") -> int | None:
    """Count open descriptors; None where they are kept from us."""
    if _has_proc():
        _must_exist(pid)
        with suppress(PermissionError):
            return sum(1 for _ in (PROC / f"{pid}/fd").iterdir())
        return None
    return _from_psutil(pid, lambda process: process.num_fds())


def listen_overflows(pid: Process = "self") -> int | None:
    """Count connections that the kernel dropped because an accept queue was full.

    For the whole network namespace of a process, since it began. Overflows count twice, as drops too: only a change
    means something.
    """
    try:
        lines = (PROC / f"{pid}/net/netstat").read_text().splitlines()
    except OSError:
        return None
    names, values = (line.split()[1:] for line in lines if line.startswith("TcpExt:"))
    fields = dict(zip(names, values, strict=True))
    return int(fields["ListenOverflows"]) + int(fields["ListenDrops"])


def affinity() -> frozenset[int] | None:
    """Return the logical CPUs that this thread may run on."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def pin(cpus: frozenset[int]) -> bool:
    """Keep this process, with all of its threads, on some logical CPUs; False where that cannot be done.

    Raises OSError when none of them may be used.
    """
    if not hasattr(os, "sched_setaffinity"):
        return False
    for thread in (PROC / "self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cpus)
    return True


def core_pair(root: Path = CPUS, allowed: frozenset[int] | None = None) -> tuple[int, int] | None:
    """Choose a logical CPU on each of two physical cores, for a pair of processes that talk; None if there are not two.

    Out of those allowed (by default: to this thread), behind one last-level cache where possible, and rather not on the
    core of CPU 0, which tends to serve interrupts. Where the system hides its cores, every logical CPU counts as one.
    """
    allowed = affinity() if allowed is None else allowed
    cores: dict[frozenset[int], int] = {}
    for cpu in sorted(allowed or ()):
        if _text(root / f"cpu{cpu}/online") != "0":
            cores.setdefault(_siblings(root, cpu), cpu)
    caches = {cpu: _cache(root, cpu) for cpu in cores.values()}
    busy = {cpu for core, cpu in cores.items() if 0 in core}

    def badness(pair: tuple[int, int]) -> tuple[bool, bool, tuple[int, int]]:
        return caches[pair[0]] != caches[pair[1]], not busy.isdisjoint(pair), pair

    return min(combinations(sorted(cores.values()), 2), key=badness, default=None)


def _siblings(root: Path, cpu: int) -> frozenset[int]:
    """Return the logical CPUs of the same physical core."""
    listed = _text(root / f"cpu{cpu}/topology/thread_siblings_list")
    return _cpu_list(listed) | {cpu} if listed else frozenset({cpu})


def _cache(root: Path, cpu: int) -> frozenset[int] | str | None:
    """Return who shares the last-level cache, or else the package, that this CPU belongs to."""
    levels = [(int(_text(index / "level") or 0), index) for index in root.glob(f"cpu{cpu}/cache/index*")]
    shared = _text(max(levels)[1] / "shared_cpu_list") if levels else None
    return _cpu_list(shared) if shared else _text(root / f"cpu{cpu}/topology/physical_package_id")


def _cpu_list(text: str) -> frozenset[int]:
    """Parse the kernel's `0-3,8`."""
    spans = (part.partition("-") for part in text.split(","))
    return frozenset(cpu for first, _, last in spans for cpu in range(int(first), int(last or first) + 1))


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _has_proc() -> bool:
    return (PROC / "self/stat").exists()


def _read(pid: Process, name: str) -> str | None:
    """Read a process's file; None if the system has no such file or does not show it."""
    try:
        # Names of processes are bytes, in any encoding.
        return (PROC / f"{pid}/{name}").read_text(errors="replace")
    except (FileNotFoundError, PermissionError):
        _must_exist(pid)
        return None


def _tasks(pid: Process, name: str) -> Iterator[str]:
    """Read a file of every thread; those that end meanwhile are left out."""
    tasks = list((PROC / f"{pid}/task").glob("*"))
    if not tasks:
        _must_exist(pid)
    for task in tasks:
        text = _text(task / name)
        if text is not None:
            yield text


def _must_exist(pid: Process) -> None:
    if _has_proc() and not (PROC / str(pid)).exists():
        raise ProcessLookupError(f"no process {pid}")


def _from_psutil(pid: Process, read: "Callable[[psutil.Process], Number]") -> Number | None:
    """Read with psutil; None if the system does not allow it."""
    import psutil  # noqa: PLC0415 - only needed off Linux, and slow to import

    try:
        return read(psutil.Process(None if pid == "self" else pid))
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError(f"no process {pid}") from error
    except psutil.AccessDenied:
        return None
