"""The processes of one arm: forked from the block's interpreter, or fresh ones; told to go on, stopped, and ended."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from loopmark import caller, floor, network, procfs
from loopmark.lastwords import LastWords
from loopmark.peer import Handle, die_with_parent, serve
from loopmark.task import Order, to_json
from loopmark.turns import Pauses, Turns

SLICE = 0.02
"""Seconds for which an arm runs while others wait in the middle of their values.

In longer ones the machine changes; shorter ones begin so often with cold caches that who has the most code pays for it,
and the more so the more others there are. See docs/method.md for what was measured.
"""


class ArmProcesses:
    """The processes of one arm: forked, or fresh interpreters."""

    def __init__(self, order: Order, others: "Sequence[ArmProcesses]") -> None:
        self.logs: dict[str, LastWords]
        self._tokens: int
        self._lines: int
        self.label = order.arm
        self.link: str | None = None
        self.seconds = 0.0
        self._deadline = order.deadline
        self._left = order.deadline
        self._client: subprocess.Popen[bytes] | None = None
        self.serving: int | None = None
        """The process that serves, as the client tells; with a program that is not ours it is none of our children."""
        self._children: tuple[int, ...] = ()
        self._pauses = Pauses()
        self.is_sliced = False
        """Whether it ever took a value in slices."""
        self._stopped = 0.0
        self._others = [pipe for other in others for pipe in (other._tokens, other._lines)]
        self._others += [pipe for other in others for log in other.logs.values() for pipe in log.descriptors]
        with contextlib.ExitStack() as stack:
            self.logs = {side: stack.enter_context(contextlib.closing(LastWords())) for side in ("server", "client")}
            start = self._start_fresh if order.fresh else self._fork_floor if order.floor else self._fork
            self._tokens, self._lines = start(order, stack)
            self._stack = stack.pop_all()
        self._heard = b""

    @property
    def can_pause(self) -> bool:
        """Tell whether all that works for it can be stopped at any moment, and nothing is lost by that."""
        return bool(self._children)

    def pause(self) -> None:
        """Stop its processes, and wait until they have."""
        for pid in self._workers():
            _signal(pid, signal.SIGSTOP)
        for pid in self._workers():
            if pid not in self._children:
                while not procfs.is_still(pid):
                    pass
                continue
            # Who has died meanwhile is seen, and left to those who wait for its end.
            seen = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if seen is not None and seen.si_code == os.CLD_STOPPED:
                os.waitid(os.P_PID, pid, os.WSTOPPED)
        self._stopped = time.perf_counter()

    def resume(self) -> None:
        """Let them go on, the server first."""
        self._pauses.add(time.perf_counter() - self._stopped)
        for pid in self._workers()[::-1]:
            _signal(pid, signal.SIGCONT)

    def _workers(self) -> tuple[int, ...]:
        """Return who does an arm's work: of a program that is not ours it is the worker, which its client tells of."""
        if self.serving is None or self.serving in self._children:
            return self._children
        return (self._children[0], self.serving)

    def go(self) -> None:
        """Give the client its turn."""
        with contextlib.suppress(BrokenPipeError):  # what has become of it is read from its report
            os.write(self._tokens, b".")

    def listen(self, logs: Sequence[LastWords], seconds: float | None = None) -> dict[str, Any]:
        """Return what the client tells next; its last words if it tells nothing or a failure.

        That it tells nothing yet is no failure within so many `seconds`, if they are given; the answer is empty then.
        Meanwhile all logs are read, so that nobody has to wait who writes into them.
        """
        answer = self._next_line(logs, self._left if seconds is None else min(seconds, self._left))
        if self._client is not None and "metadata" in answer:
            answer["metadata"]["layout"] = "fresh processes"
        if "error" in answer:
            if self._client is not None:
                # Its last words may come after its report's end.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._client.wait(timeout=1.0)
            words = {side: log.line() for side, log in self.logs.items()}
            answer["error"] = "; ".join([answer["error"], *(f"{side}: {line}" for side, line in words.items() if line)])
        return answer

    def end(self) -> None:
        """End its processes and wait for them."""
        self._stack.close()

    def _fork(self, order: Order, stack: contextlib.ExitStack) -> tuple[int, int]:
        asked, ask = os.pipe()
        answered, answer = os.pipe()
        waited, tokens = os.pipe()
        lines, tell = os.pipe()

        def server() -> None:
            for unused in (ask, answered, waited, tokens, lines, tell):
                os.close(unused)
            network.enter(order.server.namespace)
            serve(order.server, os.fdopen(asked, "rb"), os.fdopen(answer, "wb"))

        def client() -> None:
            for unused in (asked, answer, tokens, lines):
                os.close(unused)
            network.enter(order.client.namespace)
            handle = Handle(questions=os.fdopen(ask, "wb"), answers=os.fdopen(answered, "rb"))
            turns = Turns(waited, os.fdopen(tell, "w"), self._pauses)
            caller.report(turns, lambda: caller.fulfil(order, handle, turns))

        stack.callback(os.close, tokens)
        stack.callback(os.close, lines)
        serving = stack.enter_context(forked(server, self.logs["server"], self._others))
        calling = stack.enter_context(forked(client, self.logs["client"], self._others))
        # A network would go on while we stand still.
        if order.client.case.rtt is None:
            self._children = (calling, serving)
        for theirs in (asked, ask, answered, answer, waited, tell):
            os.close(theirs)
        return tokens, lines

    def _fork_floor(self, order: Order, stack: contextlib.ExitStack) -> tuple[int, int]:
        """Let one process have both sides' part, in memory."""
        waited, tokens = os.pipe()
        lines, tell = os.pipe()

        def both() -> None:
            os.close(tokens)
            os.close(lines)
            turns = Turns(waited, os.fdopen(tell, "w"), self._pauses)
            caller.report(turns, lambda: floor.fulfil(order, turns))

        stack.callback(os.close, tokens)
        stack.callback(os.close, lines)
        self._children = (stack.enter_context(forked(both, self.logs["client"], self._others)),)
        os.close(waited)
        os.close(tell)
        return tokens, lines

    def _start_fresh(self, order: Order, stack: contextlib.ExitStack) -> tuple[int, int]:
        """Let new interpreters do it, with their own malloc settings unless the order pins them.

        The client starts the server, which writes into the client's log.
        """
        environment = {
            name: value for name, value in os.environ.items() if order.pinned or not name.startswith("MALLOC_")
        }
        role = "loopmark.floor" if order.floor else "loopmark.caller"
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", role, to_json(order), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.logs["client"].writer,
            env=environment,
            bufsize=0,
        )
        self._client = process
        assert process.stdin is not None
        assert process.stdout is not None
        stack.callback(process.stdout.close)
        stack.callback(process.stdin.close)
        stack.callback(process.wait)
        stack.callback(process.kill)
        return process.stdin.fileno(), process.stdout.fileno()

    def _next_line(self, logs: Sequence[LastWords], seconds: float) -> dict[str, Any]:
        """Read one line; when the scheduler goes away meanwhile, so does this process."""
        start = time.monotonic()
        while b"\n" not in self._heard:
            left = start + seconds - time.monotonic()
            if left <= 0:
                self._left -= seconds
                return {} if self._left > 0 else {"error": f"did not end within {self._deadline:g} s"}
            readable, _, _ = select.select([self._lines, sys.stdin.fileno(), *logs], [], [], left)
            for log in logs:
                if log in readable:
                    log.read()
            if sys.stdin.fileno() in readable:
                # Commands come one at a time: this can only be the end.
                raise SystemExit(1)
            if self._lines in readable:
                part = os.read(self._lines, 65536)
                if not part:
                    return {"error": "the client's process ended without a report"}
                self._heard += part
        self._left = self._deadline
        line, _, self._heard = self._heard.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # a worker that has gone is for its keeper to see
        os.kill(pid, number)


@contextlib.contextmanager
def forked(body: Callable[[], None], log: LastWords, unused: Sequence[int]) -> Iterator[int]:
    """Fork a child that closes `unused` and runs `body`; it is ended, and waited for, on leaving."""
    if (threads := procfs.threads()) not in (None, 1):
        raise RuntimeError(f"{threads} threads in the block's interpreter: forking it is not safe")
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pid = os.fork()
    if pid == 0:
        _be_child(body, log, unused, parent)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _be_child(body: Callable[[], None], log: LastWords, unused: Sequence[int], parent: int) -> NoReturn:
    try:
        die_with_parent(parent)
        for pipe in unused:
            os.close(pipe)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        os.dup2(log.writer, 1)
        os.dup2(log.writer, 2)
        body()
    except BaseException as error:  # noqa: BLE001  # the child must never return into the parent's code
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)
