"""What the kernel tells of a listening socket: where it is, its backlog, and the connections that it has dropped.

Sockets are read over a duplicate, because some libraries hand out look-alikes of sockets.
"""

import os
import socket
import struct
import sys

from loopmark.spi import Address, Server

# struct tcp_info: tcpi_sacked holds a listening socket's backlog (net/ipv4/tcp.c, tcp_get_info).
_TCPI_SACKED = struct.Struct("=28xI")

# SO_MEMINFO and SK_MEMINFO_DROPS, which Python does not name (asm-generic/socket.h, linux/sock_diag.h).
_SO_MEMINFO = 55
_DROPS = struct.Struct("=32xI")


def read_address(server: Server) -> Address:
    """Read where a server listens, off its first socket."""
    host, port = server.listeners[0].getsockname()[:2]
    return Address(host, port)


def read_backlog(listener: socket.socket) -> int | None:
    """Read the backlog that the kernel gave a listening socket; None off Linux, and for datagrams."""
    if not sys.platform.startswith("linux"):
        return None
    return _read(listener, socket.IPPROTO_TCP, socket.TCP_INFO, _TCPI_SACKED)


def read_drops(listener: socket.socket) -> int | None:
    """Count the packets that the kernel has dropped at a socket, those that a full accept queue turned away among them.

    Of this socket alone: who else has a full queue on the machine is no matter. Of a listening one also resets that
    come once their connection is gone, as when both sides abort (net/ipv4/tcp_input.c, tcp_rcv_state_process): a full
    queue moves `loopmark.procfs.listen_overflows`, too. None off Linux, and for datagrams.
    """
    if not sys.platform.startswith("linux"):
        return None
    return _read(listener, socket.SOL_SOCKET, _SO_MEMINFO, _DROPS)


def _read(listener: socket.socket, level: int, option: int, struct_: struct.Struct) -> int | None:
    with socket.socket(fileno=os.dup(listener.fileno())) as duplicate:
        if duplicate.type is not socket.SOCK_STREAM:
            return None
        number: int = struct_.unpack(duplicate.getsockopt(level, option, struct_.size))[0]
    return number
