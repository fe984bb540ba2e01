"""nginx as a reference: a server that is no contender, in the same blocks, under the same client, with equal settings.

`serve` takes the place of `loopmark.peer.serve`: the same channel, the same answers. What is its own:

* The process that is told, and measured, is nginx's one worker. The worker itself says who it is, with every status.
* It is counted by nginx's stub_status, on a listener of its own, less what asking has cost. nginx counts no handshakes.
  That there was one for each connection follows from the replies, which came through TLS; that it was a full one from
  the client's `session_reused`, and from the trace.
* Its OpenSSL is the one that nginx runs with. It is a part of the transport's name, and not judged.
* It shares nothing of the memory layout that the contenders of a block have in common: it is another program.
"""

import json
import os
import re
import select
import shutil
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from loopmark import procfs
from loopmark.errors import FactsError
from loopmark.listening import read_backlog, read_drops
from loopmark.nginx_setup import find, prepare
from loopmark.peer import ServerEndedError, place
from loopmark.references import Program, ending, kept
from loopmark.spi import Address
from loopmark.task import Task

_TIMEOUT = 10.0
"""Seconds until an nginx that does not tell its status counts as failed; mostly those of its start."""

_LAST_WORDS = 3
"""Lines of the error log that are told when nginx fails."""

_STATUS = re.compile(
    r"X-Worker: (?P<worker>\d+)\r\n.*"
    r"Active connections: (?P<active>\d+)\s+server accepts handled requests\s+"
    r"(?P<accepts>\d+) (?P<handled>\d+) (?P<requests>\d+)\s+"
    r"Reading: (?P<reading>\d+) Writing: (?P<writing>\d+)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What stub_status tells, the question's own connection included; `worker` is a process id."""

    worker: int
    active: int
    accepts: int
    handled: int
    requests: int
    reading: int
    writing: int


def serve(task: Task, control: BinaryIO, answers: BinaryIO) -> None:
    """Play the server until the control channel ends; raises ServerEndedError when nginx ends before."""
    program, build = find()
    # Before anything is started, since all that is started inherits it.
    place(task.cpu)
    with ExitStack() as stack:
        # Port 0 means nothing to nginx. These listen already; it takes them over as it does when it is upgraded.
        listener = stack.enter_context(_listen(Address(task.host, task.port), task.options.backlog))
        status = stack.enter_context(_listen(Address("127.0.0.1", 0), 511))
        addresses = (_address(listener), _address(status))
        directory = Path(tempfile.mkdtemp(prefix="loopmark-nginx-"))
        try:
            prepare(directory, task, build, *addresses)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        log = directory / "error.log"
        words = stack.enter_context(log.open(errors="replace"))
        over = stack.enter_context(
            kept(
                Program(
                    command=(program, "-p", f"{directory}/", "-c", "nginx.conf", "-e", log.name),
                    environment={**os.environ, "NGINX": f"{listener.fileno()};{status.fileno()};"},
                    sockets=(listener, status),
                    directory=directory,
                    log=log,
                )
            )
        )
        # Or the first question would wait for an nginx that has failed to start.
        status.close()
        try:
            server = Nginx(addresses[1], listener, over)
            ready = {"host": addresses[0].host, "port": addresses[0].port, "pid": server.worker, "counted": True}
            facts = {"loop": "nginx", "transport": str(build), "backlog": read_backlog(listener)}
            if task.cpu is not None and os.sched_getaffinity(server.worker) != {task.cpu}:
                raise FactsError(f"nginx's worker is not on core {task.cpu}")
            server.answer(control, answers, ready, facts)
        except (OSError, ServerEndedError) as error:
            raise ServerEndedError(f"nginx ended: {_last_words(words.read(), directory) or error}") from error


class Nginx:
    """An nginx that runs, and what it tells of itself."""

    def __init__(self, status: Address, listener: socket.socket, over: int) -> None:
        self._address = status
        # Kept open beside nginx's own: what it drops is told to those only who have it.
        self._listener = listener
        self._asked = 0
        self.worker = self._status().worker
        self._ends = [over, *ending(self.worker)]

    def answer(self, control: BinaryIO, answers: BinaryIO, ready: dict[str, Any], facts: dict[str, Any]) -> None:
        """Answer one line per line until there is no more; raises ServerEndedError when nginx ends."""
        told: dict[str, Callable[[], dict[str, Any]]] = {
            "counts": self.counts,
            "settle": self.counts,  # it has no garbage to collect
            "facts": lambda: facts,
            "mark": dict,
        }
        answer = ready
        while True:
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()
            # Who asks waits for the answer, so that a buffer never hides a second question.
            readable, _, _ = select.select([control.fileno(), *self._ends], [], [])
            if readable != [control.fileno()]:
                raise ServerEndedError("one of its processes is gone")
            question = control.readline().strip().decode()
            if not question:
                return
            answer = told[question]()

    def counts(self) -> dict[str, Any]:
        """Return the counters as `loopmark.ledger` has them, without what the questions have added to them."""
        now = self._status()
        if now.worker != self.worker:
            raise ServerEndedError(f"its worker is {now.worker} now, and was {self.worker}")
        refused = now.accepts - now.handled
        return {
            "accepted": now.accepts - self._asked,
            "served": now.requests - now.reading - now.writing - (self._asked - 1),
            "exchanged": 0,
            "open": now.active - 1,
            "faults": {"other": refused} if refused else {},
            "handshakes": None,
            "drops": read_drops(self._listener),
            "overflows": procfs.listen_overflows(),
            "collections": 0,
        }

    def _status(self) -> Status:
        self._asked += 1
        with socket.create_connection(self._address, timeout=_TIMEOUT) as sock, sock.makefile("rb") as reply:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            # To the end of the stream, by when nginx has put this connection out of its count.
            return parse_status(reply.read().decode())


def parse_status(text: str) -> Status:
    """Read an answer of the status listener; raises ServerEndedError for anything else."""
    found = _STATUS.search(text)
    if found is None:
        raise ServerEndedError(f"its status is {text[:200]!r}")
    return Status(**{name: int(number) for name, number in found.groupdict().items()})


def _last_words(log: str, directory: Path) -> str:
    """Return the last lines of an error log, without what is no error and where the directory was."""
    lines = [line.replace(f"{directory}/", "").strip() for line in log.splitlines() if "[notice]" not in line]
    return "; ".join(lines[-_LAST_WORDS:])


def _listen(address: Address, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return socket.create_server(address, family=family, backlog=backlog)


def _address(listener: socket.socket) -> Address:
    return Address(*listener.getsockname()[:2])
