"""A round-trip time between client and server: each lives in a network namespace, and a link joins the two.

Loopback hides what every round trip of a handshake, an upgrade or a close costs its users. `Link` makes the two
namespaces, in a process of its own (`loopmark.tunnel`), so that whoever wants a link stays single-threaded and where it
is; a process of an arm moves into its side with `enter` before it does anything else.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from loopmark import tunnel
from loopmark.errors import UsageError

SERVER, CLIENT = tunnel.SERVER, tunnel.CLIENT
"""The numeric addresses of the two sides."""


class Link:
    """Two namespaces joined by a cable with a round-trip time of `rtt` milliseconds; a context manager.

    Raises UsageError when this machine cannot have one. Everything is gone after leaving the context, or when this
    process ends, however it ends; processes that have entered keep their namespace until they end, too.
    """

    kind: str
    """What the cable is: `netem` or `TUN relay`."""

    server: str
    client: str
    """The two namespaces, as `enter` takes them."""

    def __init__(self, rtt: float) -> None:
        self.rtt = rtt

    def __enter__(self) -> Self:
        if not sys.platform.startswith("linux"):
            raise UsageError("--rtt needs network namespaces, which only Linux has: run without it")
        self._holder = subprocess.Popen(
            [sys.executable, "-P", "-m", "loopmark.tunnel", repr(self.rtt), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        try:
            self._read()
        except BaseException:
            self._end()
            raise
        return self

    def _read(self) -> None:
        assert self._holder.stdout is not None
        answer = json.loads(self._holder.stdout.readline() or '{"error": "the process that holds it ended"}')
        if "error" in answer:
            raise UsageError(f"no link with a round-trip time can be made: {answer['error']}; run without --rtt")
        self.kind = answer["kind"]
        self.server, self.client = (f"/proc/{self._holder.pid}/fd/{answer[side]}" for side in ("server", "client"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()


def enter(namespace: str | None) -> None:
    """Move this process, which must have one thread, into one side of a link that is still held; None: stay.

    Sockets that are already open stay where they were made.
    """
    if namespace is None:
        return
    network = os.open(namespace, os.O_RDONLY)
    # Who made a link without being root did so as the root of another user namespace, which comes first.
    user = Path(namespace).parents[1] / "ns/user"
    if user.stat().st_ino != Path("/proc/self/ns/user").stat().st_ino:
        holder = os.open(user, os.O_RDONLY)
        tunnel.enter(holder)
        os.close(holder)
    tunnel.enter(network)
    os.close(network)
