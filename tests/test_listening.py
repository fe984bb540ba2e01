"""What the kernel tells of a listening socket."""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from loopmark import procfs
from loopmark.listening import read_address, read_backlog, read_drops
from loopmark.spi import Address, Server

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=2) as listener:
        yield listener


def overflow(listener: socket.socket) -> None:
    """Connect more often than the accept queue has room for, and let nobody accept."""
    with ExitStack() as stack:
        for _ in range(6):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())


def reset(listener: socket.socket) -> None:
    """Send a reset of a connection that never was, as one arrives when both sides have aborted."""
    to, source = listener.getsockname(), socket.inet_aton("127.0.0.1")

    def segment(checksum: int) -> bytes:
        return struct.pack("!HHIIBBHHH", 1, to[1], 0, 0, 5 << 4, 0x04, 0, checksum, 0)

    # RFC 9293, section 3.1: over the segment and a header of addresses, protocol and length.
    summed = source + source + struct.pack("!HH", socket.IPPROTO_TCP, len(segment(0))) + segment(0)
    total = sum(struct.unpack(f"!{len(summed) // 2}H", summed))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    with socket.socket(type=socket.SOCK_RAW, proto=socket.IPPROTO_TCP) as raw:
        raw.sendto(segment(~total & 0xFFFF), to)


def test_an_address_is_read_off_the_socket(listener: socket.socket) -> None:
    assert read_address(Server(listeners=(listener,))) == Address(*listener.getsockname())


@linux
def test_reading_leaves_the_socket_open(listener: socket.socket) -> None:
    assert (read_backlog(listener), read_drops(listener)) == (2, 0)
    assert listener.fileno() >= 0
    assert (read_backlog(listener), read_drops(listener)) == (2, 0)


@linux
def test_what_a_full_accept_queue_drops_is_counted_for_its_own_socket_only(listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        before = procfs.listen_overflows()
        overflow(listener)
        assert (read_drops(listener) or 0) > 0
        assert procfs.listen_overflows() != before
        assert read_drops(other) == 0


@linux
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root may send a bare reset")
def test_a_reset_that_comes_too_late_counts_like_a_dropped_connection(listener: socket.socket) -> None:
    reset(listener)
    assert read_drops(listener) == 1


@linux
def test_sockets_for_datagrams_have_neither() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        assert (read_backlog(datagrams), read_drops(datagrams)) == (None, None)


def test_off_linux_nobody_tells_them(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert (read_backlog(listener), read_drops(listener)) == (None, None)
