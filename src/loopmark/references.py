"""Keeps a server that is not ours: a program with processes of its own, none of which may outlive the one that asked.

That a kernel kills a child with its parent reaches the program's first process only, and not those that it forks. So
there is a keeper between the two, a small process that does nothing but wait:

* It starts the program in its own process group, which a kill of the group reaches as a whole, forks under way among
  them. It is not the group of whoever asked: who ends a block kills that one, and must not reach the keeper.
* A pipe from whoever asked to the keeper ends when that process does, even by SIGKILL. The keeper then removes the
  directory and kills the group, itself included. It does the same when the program's first process ends.
* Another pipe, the other way round, ends with the keeper. If it was the keeper who was killed, whoever asked kills the
  group, adopts what the keeper left behind (as a subreaper, where there is such a thing), and waits for it.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from loopmark.peer import die_with_parent

LINUX = sys.platform.startswith("linux")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program to keep.

    It inherits the sockets under their own numbers. What it prints is appended to `log`. Its `directory` is removed
    together with it.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    sockets: Sequence[socket.socket]
    directory: Path
    log: Path


@contextlib.contextmanager
def kept(program: Program) -> Iterator[int]:
    """Run a program; on leaving, all of its processes are gone. Yields a descriptor that becomes readable when it ends.

    This process must have no other children and no threads.
    """
    adopt_orphans()
    lifeline, hold = os.pipe()
    over, alive = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        _be_keeper(program, lifeline, alive)
    # Both sides do it, so that it is done whoever comes first.
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(keeper, keeper)
    for theirs in (lifeline, alive):
        os.close(theirs)
    try:
        yield over
    finally:
        # As long as the keeper lives, it completes what is begun here, whatever happens to this process.
        shutil.rmtree(program.directory, ignore_errors=True)
        # Until it is waited for, its number is nobody else's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(keeper, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()
        os.close(hold)
        os.close(over)


def adopt_orphans() -> None:
    """Make this process the parent of what its children leave behind; on Linux only."""
    if LINUX:
        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def ending(pid: int) -> list[int]:
    """Return a descriptor that becomes readable when a process ends; none where the system has no such thing."""
    try:
        return [os.pidfd_open(pid)] if hasattr(os, "pidfd_open") else []
    except ProcessLookupError:
        raise
    except OSError:  # a kernel before 5.3
        return []


def _be_keeper(program: Program, lifeline: int, alive: int) -> NoReturn:
    try:
        os.setpgid(0, 0)
        _keep(program, lifeline, alive)
    except BaseException:  # noqa: BLE001  # this process must never return into its parent's code
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        shutil.rmtree(program.directory, ignore_errors=True)
        os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)


def _keep(program: Program, lifeline: int, alive: int) -> None:
    """Start the program, and wait until it or the parent has ended."""
    sockets = [each.fileno() for each in program.sockets]
    _let_go_except(lifeline, alive, *sockets)
    keeper = os.getpid()
    with program.log.open("ab") as log:
        process = subprocess.Popen(
            program.command,
            env=program.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=sockets,
            preexec_fn=(lambda: die_with_parent(keeper)) if LINUX else None,  # noqa: PLW1509  # there are no threads here
        )
    # Else who calls a program that has ended would wait in the queue of a socket that is still open here.
    for each in sockets:
        os.close(each)
    select.select([lifeline, *ending(process.pid)], [], [])


def _let_go_except(*kept_open: int) -> None:
    """Close what was inherited: above all the channels of whoever asked, which must end with that process."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nowhere, standard)
    start = 3
    for each in sorted(kept_open):
        os.closerange(start, each)
        start = each + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))
