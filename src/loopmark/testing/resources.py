"""What a backend holds of the system: descriptors, threads, sockets; read off the process, not asked from it."""

import gc
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loopmark.spi import Address
from loopmark.testing.ground import BrokenContract, NotApplicable

_DESCRIPTORS = Path("/dev/fd")
"""Linux, macOS and the BSDs have it."""


@contextmanager
def nothing_left() -> Iterator[None]:
    """Raise BrokenContract if descriptors, threads or unclosed objects are left behind."""
    gc.collect()
    descriptors, threads = len(_open_descriptors()), set(threading.enumerate())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield
        left = [thread.name for thread in threading.enumerate() if thread not in threads]
        if left:
            raise BrokenContract(f"threads are left: {', '.join(left)}")
        if (more := len(_open_descriptors()) - descriptors) > 0:
            raise BrokenContract(f"{more} descriptors are left open")
        gc.collect()
    unclosed = [str(each.message) for each in caught if issubclass(each.category, ResourceWarning)]
    if unclosed:
        raise BrokenContract(f"{len(unclosed)} objects were not closed, among them: {unclosed[0]}")


def own_socket(*, remote: Address | None = None, local: Address | None = None) -> socket.socket:
    """Find a TCP connection of this process by its ends, behind its owner's back; the caller closes the duplicate.

    Raises BrokenContract when there is none, NotApplicable where a process cannot list its descriptors.
    """
    if not _DESCRIPTORS.is_dir():
        raise NotApplicable("this system does not list a process's descriptors")
    for descriptor in _open_descriptors():
        with suppress(OSError), duplicate(descriptor) as sock:
            if _is(remote, sock.getpeername()) and _is(local, sock.getsockname()):
                # Not `sock.dup()`: that would make the connection a blocking one, for its owner, too.
                return socket.socket(fileno=os.dup(descriptor))
    raise BrokenContract(f"there is no connection from {local or 'here'} to {remote or 'anywhere'}")


@contextmanager
def duplicate(descriptor: int) -> Iterator[socket.socket]:
    """Open another handle on a socket; raises OSError for what is none."""
    copy = os.dup(descriptor)
    try:
        sock = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    with sock:
        yield sock


def _is(wanted: Address | None, name: tuple[object, ...]) -> bool:
    return wanted is None or name[:2] == wanted


def _open_descriptors() -> list[int]:
    return [int(name) for name in os.listdir(_DESCRIPTORS)] if _DESCRIPTORS.is_dir() else []  # noqa: PTH208  # numbers
