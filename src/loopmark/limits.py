"""Checks, before anything runs, that this machine can do what is asked of it."""

import resource

import psutil

from loopmark import procfs
from loopmark.errors import UsageError

SPARE_DESCRIPTORS = 64
"""What a process has open besides its connections."""

CONNECTION_KIB = 600
"""Memory of one TLS connection on both sides: asyncio's buffer of 256 KiB twice, and what belongs to it."""

BASE_MIB = 300
"""Memory of the processes themselves."""


def check(concurrency: int) -> None:
    """Raise UsageError when the asked concurrency cannot work; raise the soft limit of descriptors where allowed.

    Child processes inherit the limit.
    """
    _check_descriptors(concurrency + SPARE_DESCRIPTORS)
    _check_memory(BASE_MIB + concurrency * CONNECTION_KIB // 1024)


def cores() -> tuple[int, int] | None:
    """Return the cores of client and server, the same one twice on one core, None where a process cannot be pinned."""
    allowed = procfs.affinity()
    if not allowed:
        return None
    return procfs.core_pair() or (min(allowed), min(allowed))


def _check_descriptors(needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UsageError(
            f"{needed} open files are needed for that many connections, and the hard limit is {hard}: "
            f"ask for fewer connections, or raise the limit (ulimit -Hn {needed})"
        )
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{needed} open files are needed for that many connections, and the limit of {soft} cannot be raised "
            f"({error}); type: ulimit -n {needed}"
        ) from error


def _check_memory(needed_mib: int) -> None:
    available_mib = psutil.virtual_memory().available >> 20
    if available_mib < needed_mib:
        raise UsageError(
            f"about {needed_mib} MiB of memory are needed for that many connections, and {available_mib} MiB are "
            "available: ask for fewer connections"
        )
