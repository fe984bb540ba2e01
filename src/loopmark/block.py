"""One interpreter per block. Both processes of every arm are forked from it, and so share one random memory layout.

`python -m loopmark.block PARENT_PID` reads commands, one JSON line each, and answers each with one line: `start` an
arm, let it take its next `turn`, `finish` it. All arms of a block may be alive at once; only the one whose turn it is
does anything. The interpreter imports what every arm needs anyway and nothing else: no event loop runs here, and no
thread.
"""

import asyncio  # noqa: F401  # preloaded for all, as a part of the standard library
import contextlib
import gc
import json
import os
import select
import signal
import ssl  # noqa: F401  # preloaded for all
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from pyperf._collect_metadata import collect_metadata

from loopmark import caller, floor, network, procfs
from loopmark.errors import LoopmarkError
from loopmark.lastwords import LastWords
from loopmark.peer import Handle, die_with_parent, serve
from loopmark.task import Order, order_from, to_json
from loopmark.turns import Turns


def _main() -> None:
    die_with_parent(int(sys.argv[1]))
    # pyperf asks the system many questions when its first run is stored; most answers are kept.
    collect_metadata()
    gc.collect()
    gc.freeze()
    block = Block()
    print("ready", flush=True)  # noqa: T201  # the protocol with the scheduler
    for line in sys.stdin:
        print(json.dumps(block.obey(json.loads(line))), flush=True)  # noqa: T201


class Block:
    """The arms of a block that are alive, by label."""

    def __init__(self) -> None:
        self._arms: dict[str, _Arm] = {}
        self._link: network.Link | None = None

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do one command; the answer is what the arm's client tells, or `{"error": sentence}`: the arm is gone then."""
        start = time.monotonic()
        match command:
            case {"start": text}:
                try:
                    order = self._apart(order_from(text))
                except LoopmarkError as error:
                    return {"error": str(error), "seconds": time.monotonic() - start}
                arm = _Arm(order, others=list(self._arms.values()))
                arm.link = self._link.kind if self._link and order.client.namespace else None
                self._arms[arm.label] = arm
            case {"turn": label} | {"finish": label}:
                arm = self._arms[label]
                arm.go()
            case _:
                raise ValueError(f"no such command: {command}")
        answer = arm.listen([log for each in self._arms.values() for log in each.logs.values()])
        if arm.link is not None and isinstance(answer.get("facts"), dict):
            answer["facts"]["equal"]["link"] = arm.link
        arm.seconds += time.monotonic() - start
        if "error" in answer or "finish" in command:
            del self._arms[arm.label]
            arm.end()
        return {**answer, "seconds": arm.seconds}

    def _apart(self, order: Order) -> Order:
        """Put the two sides of an arm into the network that its case wants, the same one for all arms of the block."""
        rtt = order.client.case.rtt
        if rtt is None or order.floor:
            return order
        if self._link is None:
            # Left to itself: it ends with this process.
            self._link = network.Link(rtt).__enter__()
        return replace(
            order,
            server=replace(order.server, namespace=self._link.server, host=network.SERVER),
            client=replace(order.client, namespace=self._link.client),
        )


class _Arm:
    """The processes of one arm: forked, or fresh interpreters."""

    def __init__(self, order: Order, others: "list[_Arm]") -> None:
        self.logs: dict[str, LastWords]
        self._tokens: int
        self._lines: int
        self.label = order.arm
        self.link: str | None = None
        self.seconds = 0.0
        self._deadline = order.deadline
        self._client: subprocess.Popen[bytes] | None = None
        self._others = [pipe for other in others for pipe in (other._tokens, other._lines)]
        self._others += [pipe for other in others for log in other.logs.values() for pipe in log.descriptors]
        with contextlib.ExitStack() as stack:
            self.logs = {side: stack.enter_context(contextlib.closing(LastWords())) for side in ("server", "client")}
            start = self._start_fresh if order.fresh else self._fork_floor if order.floor else self._fork
            self._tokens, self._lines = start(order, stack)
            self._stack = stack.pop_all()
        self._heard = b""

    def go(self) -> None:
        """Give the client its turn."""
        with contextlib.suppress(BrokenPipeError):  # what has become of it is read from its report
            os.write(self._tokens, b".")

    def listen(self, logs: Sequence[LastWords]) -> dict[str, Any]:
        """Return what the client tells next; its last words if it tells nothing or a failure.

        Meanwhile all logs are read, so that nobody has to wait who writes into them.
        """
        answer = self._next_line(logs)
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
            turns = Turns(waited, os.fdopen(tell, "w"))
            caller.report(turns, lambda: caller.fulfil(order, handle, turns))

        stack.callback(os.close, tokens)
        stack.callback(os.close, lines)
        stack.enter_context(_forked(server, self.logs["server"], self._others))
        stack.enter_context(_forked(client, self.logs["client"], self._others))
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
            turns = Turns(waited, os.fdopen(tell, "w"))
            caller.report(turns, lambda: floor.fulfil(order, turns))

        stack.callback(os.close, tokens)
        stack.callback(os.close, lines)
        stack.enter_context(_forked(both, self.logs["client"], self._others))
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

    def _next_line(self, logs: Sequence[LastWords]) -> dict[str, Any]:
        """Read one line; when the scheduler goes away meanwhile, so does this process."""
        end = time.monotonic() + self._deadline
        while b"\n" not in self._heard:
            left = end - time.monotonic()
            if left <= 0:
                return {"error": f"did not end within {self._deadline:g} s"}
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
        line, _, self._heard = self._heard.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def _forked(body: Callable[[], None], log: LastWords, unused: Sequence[int]) -> Iterator[int]:
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


if __name__ == "__main__":
    _main()
