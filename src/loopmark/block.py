"""One interpreter per block. Both processes of every arm are forked from it, and so share one random memory layout.

`python -m loopmark.block PARENT_PID` reads orders, one JSON line each, and answers each with one line. It imports what
every arm needs anyway and nothing else: no event loop runs here, and no thread.
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
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import IO, Any, BinaryIO, NoReturn

from pyperf._collect_metadata import collect_metadata

from loopmark import procfs
from loopmark.caller import report
from loopmark.peer import Handle, die_with_parent, serve
from loopmark.task import Order, order_from, to_json


def _main() -> None:
    die_with_parent(int(sys.argv[1]))
    # pyperf asks the system many questions when its first run is stored; most answers are kept.
    collect_metadata()
    gc.collect()
    gc.freeze()
    print("ready", flush=True)  # noqa: T201  # the protocol with the scheduler
    for line in sys.stdin:
        print(json.dumps(run_arm(order_from(line))), flush=True)  # noqa: T201


def run_arm(order: Order) -> dict[str, Any]:
    """Run both processes of an arm to their end, and return the client's report or `{"error": sentence}`."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as server_log, tempfile.TemporaryFile() as client_log:
        run = _run_fresh if order.fresh else _run_forked
        answer = run(order, server_log, client_log)
        if "error" in answer:
            words = [_last_words("server", server_log), _last_words("client", client_log)]
            answer["error"] = "; ".join([answer["error"], *filter(None, words)])
    answer["seconds"] = time.monotonic() - start
    return answer


def _run_forked(order: Order, server_log: BinaryIO, client_log: BinaryIO) -> dict[str, Any]:
    asked, ask = os.pipe()
    answered, answer = os.pipe()
    reported, tell = os.pipe()

    def server() -> None:
        for unused in (ask, answered, reported, tell):
            os.close(unused)
        serve(order.server, os.fdopen(asked, "rb"), os.fdopen(answer, "wb"))

    def client() -> None:
        for unused in (asked, answer, reported):
            os.close(unused)
        handle = Handle(questions=os.fdopen(ask, "wb"), answers=os.fdopen(answered, "rb"))
        # No `with`: the pipe's end is taken for this process's, and the last words of a failure come before that.
        pipe = os.fdopen(tell, "w")
        json.dump(report(order, handle), pipe)
        pipe.close()

    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reported)
        stack.enter_context(_forked(server, server_log))
        stack.enter_context(_forked(client, client_log))
        for theirs in (asked, ask, answered, answer, tell):
            os.close(theirs)
        return _await_report(reported, order.deadline)


def _run_fresh(order: Order, server_log: BinaryIO, client_log: BinaryIO) -> dict[str, Any]:
    """Let new interpreters do it; with their own malloc settings unless the order pins them."""
    del server_log  # the client starts the server, which writes into the client's
    environment = {name: value for name, value in os.environ.items() if order.pinned or not name.startswith("MALLOC_")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "loopmark.caller", to_json(order), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=client_log,
        env=environment,
    )
    assert process.stdout is not None
    try:
        answer = _await_report(process.stdout.fileno(), order.deadline)
        if "error" in answer:
            # Its last words may come after its report's end.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1.0)
        return answer
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def _forked(body: Callable[[], None], log: IO[bytes]) -> Iterator[int]:
    """Fork a child that runs `body`; it is ended, and waited for, on leaving."""
    if (threads := procfs.threads()) not in (None, 1):
        raise RuntimeError(f"{threads} threads in the block's interpreter: forking it is not safe")
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pid = os.fork()
    if pid == 0:
        _child(body, log, parent)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _child(body: Callable[[], None], log: IO[bytes], parent: int) -> NoReturn:
    try:
        die_with_parent(parent)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        body()
    except BaseException as error:  # noqa: BLE001  # the child must never return into the parent's code
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)


def _await_report(descriptor: int, deadline: float) -> dict[str, Any]:
    """Read a report to its end; when the scheduler goes away meanwhile, so does this process."""
    end = time.monotonic() + deadline
    text = b""
    while (left := end - time.monotonic()) > 0:
        readable, _, _ = select.select([descriptor, sys.stdin.fileno()], [], [], left)
        if sys.stdin.fileno() in readable:
            # Orders come one at a time: this can only be the end.
            raise SystemExit(1)
        if descriptor in readable:
            part = os.read(descriptor, 65536)
            if not part:
                break
            text += part
    else:
        return {"error": f"did not end within {deadline:g} s"}
    try:
        answer: dict[str, Any] = json.loads(text)
    except ValueError:
        return {"error": "the client's process ended without a report"}
    return answer


def _last_words(side: str, log: IO[bytes]) -> str | None:
    """Return the last line that a process wrote to its standard error."""
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - 4096))
    lines = log.read().decode(errors="replace").strip().splitlines()
    return f"{side}: {lines[-1]}" if lines else None


if __name__ == "__main__":
    _main()
