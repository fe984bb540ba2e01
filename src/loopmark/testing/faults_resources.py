"""Faults of the system: a server that has no descriptors left, and one whose accept queue overflows."""

# a fault's docstring says what happens

import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from loopmark import procfs
from loopmark.errors import Kind
from loopmark.testing.faults_ground import BATCH, BOTH, DEADLINES, Fault, Target, Told, fault
from loopmark.testing.ground import NotApplicable, expect

SPARE = 4
"""Descriptors that a server still has when it is to run out of them."""

MOST = BATCH
"""Peers that it has none for; more of them change nothing."""

EXHAUSTED = 0.3
"""Seconds for which a server has no descriptors: longer than the pauses after which servers try again."""

_ABANDONED = (Kind.EOF, Kind.RESET, Kind.TIMEOUT)


@fault(*_ABANDONED, settings=BOTH, told=Told.ANY, slow=True)
def no_descriptors(to: Target, count: int) -> None:
    """Peers connect, and the server has no descriptor for most of them; then they go, and it has some again."""
    for _ in range(0, count, BATCH):
        with _few_descriptors(to.pid), ExitStack() as stack:
            for _ in range(SPARE + MOST):
                stack.enter_context(socket.create_connection(to.address, timeout=to.patience))
            time.sleep(EXHAUSTED)
        to.require_answer()


@fault(*_ABANDONED, settings=BOTH, told=Told.ANY, slow=True)
def full_accept_queue(to: Target, count: int) -> None:
    """While the server stands still, more peers connect than its accept queue holds."""
    for _ in range(0, count, BATCH):
        before = procfs.listen_overflows(to.pid)
        with ExitStack() as stack:
            os.kill(to.pid, signal.SIGSTOP)
            try:
                # The queue takes one more than its length.
                for _ in range(DEADLINES.backlog + 1 + MOST):
                    peer = stack.enter_context(socket.socket(to.family))
                    peer.setblocking(False)
                    peer.connect_ex(to.address)
            finally:
                os.kill(to.pid, signal.SIGCONT)
        after = procfs.listen_overflows(to.pid)
        expect(after is None or before != after, "no accept queue has overflowed")
        to.require_answer()


@contextmanager
def _few_descriptors(pid: int) -> Iterator[None]:
    """Leave a process a few more descriptors than it has, and give it all of them back in the end."""
    if not hasattr(resource, "prlimit"):
        raise NotApplicable("this system does not let anybody change another process's limits")
    held = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir())
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (held + 1 + SPARE, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


RESOURCES: tuple[Fault, ...] = (no_descriptors, full_accept_queue)
