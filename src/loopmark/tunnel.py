"""The process that holds a link: two network namespaces, and between them a cable with a round-trip time.

`python -m loopmark.tunnel RTT PARENT_PID`, with the round-trip time in milliseconds, writes one JSON line when the link
is there, or why it cannot be, and then holds it. How it works:

* The namespaces have no names. They, their devices and all that waits in them are gone when nobody holds them any more:
  this process does, which dies with its parent, and so do the processes that have entered.
* The cable is a pair of virtual Ethernet devices with netem on either side, if the programs `ip` and `tc` are there and
  the kernel has netem. Else each namespace gets a TUN device, and this process is the cable: it takes packets out of
  the one and puts them into the other half the round-trip time later, never earlier.
* That relay is Python: good for some ten thousand packets a second, beyond which packets wait, and a little late.
"""

import ctypes
import fcntl
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

SERVER, CLIENT = "10.203.0.1", "10.203.0.2"
"""Addresses of the two ends. They exist in the two namespaces only, so that they can collide with nothing."""

_MASK = "255.255.255.252"
_CABLE = "cable"
_PR_SET_PDEATHSIG = 1
_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
_SIOCSIFTXQLEN = 0x8943
_IFF_UP = 1
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000
_QUEUE = 10_000
"""Packets that may wait in a device, or in netem, before more are dropped: far more than a burst has."""


class _CannotError(Exception):
    """Why there can be no link, as a part of a sentence."""


def _main() -> None:
    rtt = float(sys.argv[1])
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[2]):
        return
    # Ctrl-C is for the parent, with which this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        client = _new_namespace()
        server = _new_namespace()
        kind, ends = _cable(server, client, rtt)
    except _CannotError as error:
        _say({"error": str(error)})
        return
    _say({"kind": kind, "server": server, "client": client})
    if ends is None:
        while True:
            signal.pause()
    relay(*ends, rtt / 2000)


def _say(answer: dict[str, object]) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201  # the protocol with `loopmark.network`


def enter(namespace: int) -> None:
    """Move this process, which must have one thread, into a namespace of any kind."""
    _call("setns", namespace, 0)


def _new_namespace() -> int:
    """Move this process into a new network namespace that has nothing but a loopback; return a handle of it."""
    try:
        _call("unshare", _NEWNET)
    except PermissionError:
        _become_root_of_nothing()
        try:
            _call("unshare", _NEWNET)
        except OSError as error:
            raise _CannotError(f"this user may not make network namespaces ({error.strerror})") from error
    except OSError as error:
        raise _CannotError(f"this kernel makes no network namespaces ({error.strerror})") from error
    _up("lo")
    return os.open("/proc/self/ns/net", os.O_RDONLY)


def _become_root_of_nothing() -> None:
    """Enter a new user namespace, in which this user may do everything, but to new namespaces only."""
    user, group = os.geteuid(), os.getegid()
    try:
        _call("unshare", _NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError as error:
        raise _CannotError(
            f"this user may make neither network namespaces nor user namespaces ({error.strerror}): run it as root, or "
            "let the system have user namespaces"
        ) from error


def _cable(server: int, client: int, rtt: float) -> tuple[str, tuple[int, int] | None]:
    """Join the namespaces; return the kind of cable, and its two ends if it is ours to relay."""
    try:
        _join_with_netem(server, client, rtt)
    except _CannotError as netem:
        try:
            return "TUN relay", (_tun(server, SERVER), _tun(client, CLIENT))
        except _CannotError as tun:
            raise _CannotError(f"no netem: {netem}; no TUN relay: {tun}") from tun
    return "netem", None


def _join_with_netem(server: int, client: int, rtt: float) -> None:
    enter(server)
    # The other end of the pair is born where this process is.
    _run(client, "ip", "link", "add", _CABLE, "type", "veth", "peer", "name", _CABLE, "netns", str(os.getpid()))
    try:
        for namespace, address in ((server, SERVER), (client, CLIENT)):
            delay = ("netem", "delay", f"{rtt / 2:g}ms", "limit", str(_QUEUE))
            _run(namespace, "tc", "qdisc", "add", "dev", _CABLE, "root", *delay)
            enter(namespace)
            _number(_CABLE, address)
    except _CannotError:
        _run(client, "ip", "link", "delete", _CABLE)
        raise


def _run(namespace: int, *command: str) -> None:
    try:
        done = subprocess.run(
            command,
            preexec_fn=partial(enter, namespace),  # safe: there is one thread
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise _CannotError(f"cannot run {command[0]} ({error.strerror}), which the package iproute2 has") from error
    if done.returncode:
        words = " ".join(done.stderr.split()) or f"status {done.returncode}"
        raise _CannotError(f"{' '.join(command[:2])}: {words.removeprefix('Error: ').rstrip('.')}")


def _tun(namespace: int, address: str) -> int:
    """Make a TUN device; what the kernel sends into it is read here, and what is written here arrives from it."""
    enter(namespace)
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", _CABLE.encode(), _IFF_TUN | _IFF_NO_PI))
        _number(_CABLE, address)
    except OSError as error:
        raise _CannotError(f"/dev/net/tun: {error.strerror or error}") from error
    return tun


def _number(device: str, address: str) -> None:
    """Give a device of the current namespace its address, and switch it on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for request, number in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, _MASK)):
            fcntl.ioctl(
                sock, request, struct.pack("16sHH4s16x", device.encode(), sock.family, 0, socket.inet_aton(number))
            )
        # Only the system's own root may do this; for others it stays at the system's choice, mostly 500.
        with suppress(PermissionError):
            fcntl.ioctl(sock, _SIOCSIFTXQLEN, struct.pack("16si20x", device.encode(), _QUEUE))
    _up(device)


def _up(device: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16sH22x", device.encode(), 0))
        flags = struct.unpack_from("16xH", answer)[0] | _IFF_UP
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", device.encode(), flags))


def relay(one: int, other: int, delay: float) -> NoReturn:
    """Pass packets between two TUN devices, each `delay` seconds after it was read."""
    gc.disable()  # nothing here goes in circles
    # What was read from each end, with the time at which it is due at the opposite one.
    under_way: tuple[deque[tuple[float, bytes]], ...] = (deque(), deque())
    while True:
        dues = [packets[0][0] for packets in under_way if packets]
        left = max(0.0, min(dues) - time.monotonic()) if dues else None
        readable, _, _ = select.select((one, other), (), (), left)
        for end, packets in zip((one, other), under_way, strict=True):
            if end in readable:
                _take(end, packets, delay)
        now = time.monotonic()
        for end, packets in zip((other, one), under_way, strict=True):
            while packets and packets[0][0] <= now:
                os.write(end, packets.popleft()[1])


def _take(end: int, packets: deque[tuple[float, bytes]], delay: float) -> None:
    """Read all packets that are there."""
    while True:
        try:
            packet = os.read(end, 65536)
        except BlockingIOError:
            return
        packets.append((time.monotonic() + delay, packet))


def _call(function: str, *arguments: int) -> None:
    """Call what `os` has from Python 3.12 on only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    _main()
