"""The server's role in a process of its own, and the handle by which its client knows it.

The process writes one line when it is ready, answers questions on a control channel, and ends when that channel does.
A thread that is blocked in `read` looks after this, at no cost to the loop while it is measured.
"""

import contextlib
import ctypes
import dataclasses
import gc
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import CoroutineType
from typing import Any, BinaryIO, NoReturn

from loopmark import network, procfs, tls
from loopmark.errors import FactsError, LoopmarkError
from loopmark.ledger import Ledger
from loopmark.listening import read_address, read_backlog, read_drops
from loopmark.spi import Address, Answer, Backend, Facts, LoopFactory, Server
from loopmark.task import Task, task_from, to_json


class ServerEndedError(LoopmarkError):
    """The server's process ended by itself, for whatever reason; that fails its arm, but contradicts no fact."""


def serve(task: Task, control: BinaryIO, answers: BinaryIO) -> NoReturn:
    """Play the server until the control channel ends; never returns."""
    try:
        play = task.contender.backend.load() if task.contender.reference else _serve
        play(task, control, answers)
    except BaseException:  # noqa: BLE001  # the process ends here, and its last words are read by the client
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)


def _serve(task: Task, control: BinaryIO, answers: BinaryIO) -> None:
    # First of all, as on the other side: libraries that are mapped after the same steps lie at the same addresses.
    backend = task.contender.load()
    conversation = task.conversation()
    ledger = Ledger(conversation.service)
    context = None
    if task.case.tls is not None:
        assert task.identity is not None
        context = tls.server_context(task.case.tls, task.identity)
    loops = LoopWitness(backend)
    # Only now, so that the two sides of an arm can import at the same time, each on a core.
    place(task.cpu)

    async def main() -> None:
        address = Address(task.host, task.port)
        if conversation.answer is not None:
            serving = backend.serve_datagrams(_counted(conversation.answer, ledger), ledger.note, address)
        else:
            serving = backend.serve(ledger.accept, address, tls=context, options=task.options)
        async with serving as server:
            answering = _Answers(ledger, server, context, loops, control, answers, counted=not backend.yardstick)
            threading.Thread(target=answering.run, daemon=True).start()
            while True:
                await backend.sleep(3600.0)

    backend.run(main)


def _counted(answer: Answer, ledger: Ledger) -> Answer:
    """Count what is answered, the same way for all: datagrams have no service to do so."""
    exchanged = ledger.exchanged

    def count(data: bytes) -> bytes | None:
        reply = answer(data)
        if reply is not None:
            exchanged()
        return reply

    return count


class LoopWitness:
    """Sees which loops a backend really makes with the factory it was given, without importing asyncio."""

    def __init__(self, backend: Backend) -> None:
        self.made: list[str] = []
        self.factory = backend.loop_factory
        if self.factory is not None:
            backend.loop_factory = self._recording(self.factory)

    def _recording(self, factory: LoopFactory) -> LoopFactory:
        def make() -> Any:
            loop = factory()
            self.made.append(f"{type(loop).__module__}.{type(loop).__qualname__}")
            return loop

        return make

    def check(self, running: str) -> None:
        """Raise FactsError unless the loop that runs is of the class that the factory makes."""
        if self.factory is None:
            return
        if not self.made:
            raise FactsError(f"runs on {running} without having asked the given factory for a loop")
        if self.made[-1] != running:
            raise FactsError(f"runs on {running}, but the factory made {self.made[-1]}")


class _Answers:
    def __init__(
        self,
        ledger: Ledger,
        server: Server,
        context: ssl.SSLContext | None,
        loops: LoopWitness,
        control: BinaryIO,
        answers: BinaryIO,
        *,
        counted: bool,
    ) -> None:
        self._counted = counted
        self._ledger = ledger
        self._server = server
        self._context = context
        self._loops = loops
        self._control = control
        self._answers = answers

    def run(self) -> NoReturn:
        """Answer one line per line until there is no more; then end the process, whatever it is doing."""
        asked = {
            "counts": self._counts,
            "facts": self._facts,
            "held": _held,
            "settle": self._settle,
            "mark": self._mark,
        }
        try:
            self._say(self._ready())
            for line in self._control:
                question = line.strip().decode()
                self._say(asked[question]())
        except BrokenPipeError:
            pass
        except BaseException:  # noqa: BLE001  # the client sees the channel end and reads our last words
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(0)

    def _say(self, answer: dict[str, Any]) -> None:
        self._answers.write(json.dumps(answer).encode() + b"\n")
        self._answers.flush()

    def _ready(self) -> dict[str, Any]:
        address = read_address(self._server)
        return {"host": address.host, "port": address.port, "pid": os.getpid(), "counted": self._counted}

    def _counts(self) -> dict[str, Any]:
        counters = {"handshakes": tls.handshakes, "resumptions": tls.resumptions, "unfinished": tls.unfinished}
        collections = sum(generation["collections"] for generation in gc.get_stats())
        return {
            **dataclasses.asdict(self._ledger.counts()),
            **{name: None if self._context is None else read(self._context) for name, read in counters.items()},
            "drops": read_drops(self._server.listeners[0]),
            "overflows": procfs.listen_overflows(),
            "collections": collections,
        }

    def _facts(self) -> dict[str, Any]:
        facts = self._shaken()
        if facts is not None:
            self._loops.check(facts.loop)
        return {
            **(dataclasses.asdict(facts) if facts else {}),
            "backlog": read_backlog(self._server.listeners[0]),
            "openssl": ssl.OPENSSL_VERSION,
        }

    def _shaken(self) -> Facts | None:
        """Read the newest connection's facts once its handshake is over, to its library, too; None before the first.

        OpenSSL counts a handshake a moment before it calls it done. Until then libraries raise, or know no version.
        """
        for _ in range(1_000):
            with contextlib.suppress(Exception):
                facts = self._ledger.facts()
                if facts is None or self._context is None or facts.tls_version is not None:
                    return facts
            time.sleep(0.001)
        return self._ledger.facts()

    def _settle(self) -> dict[str, Any]:
        settle()
        return self._counts()

    def _mark(self) -> dict[str, Any]:
        mark()
        return {}


def _held() -> dict[str, Any]:
    """Count what lives: coroutines, of which every task has one, all that the garbage collector knows, and memory.

    Memory that is in use, not what the process has of the system, which says more about malloc than about leaks:
    pymalloc's blocks of up to 512 bytes, and the bytes of larger ones and of C's, None where malloc does not tell.
    """
    gc.collect()
    living = gc.get_objects()
    return {
        "coroutines": sum(type(each) is CoroutineType for each in living),
        "objects": len(living),
        "blocks": sys.getallocatedblocks(),
        "bytes": _allocated(),
    }


class _Mallinfo2(ctypes.Structure):
    """What glibc's mallinfo2(3) tells, in its order; bytes, or numbers."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _allocated() -> int | None:
    try:
        read = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    read.restype = _Mallinfo2
    told = read()
    allocated: int = told.uordblks + told.hblkhd
    return allocated


def settle() -> None:
    """Collect what the start left behind, and keep it out of later collections."""
    gc.collect()
    gc.freeze()


def mark() -> None:
    """Settle, and let callgrind know that a count starts or ends here; outside of callgrind the call does nothing."""
    settle()
    os.ctermid()  # callgrind.MARK


def place(cpu: int | None) -> None:
    """Put this process on one core, for good; None leaves it where it is."""
    if cpu is not None and not procfs.pin(frozenset({cpu})):
        raise FactsError(f"this system cannot put a process on core {cpu}")


def die_with_parent(parent: int) -> None:
    """Let the kernel end this process when its parent ends; `parent` closes the gap before the call.

    Elsewhere than on Linux a thread looks whether the parent is still there.
    """
    if sys.platform.startswith("linux"):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    else:
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch_parent(parent: int) -> NoReturn:
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(0.5)
    os._exit(1)


@dataclass(slots=True, kw_only=True)
class Handle:
    """A server in another process, as its client sees it. Closing the channel ends the server."""

    questions: BinaryIO
    answers: BinaryIO
    address: Address = field(default=Address("", 0))  # a named tuple cannot change
    pid: int = 0
    counted: bool = True
    """False for a hand-written yardstick, which knows no services."""

    def wait_until_ready(self) -> None:
        """Read the ready line; raises ServerEndedError when the server ended instead."""
        ready = self._read()
        self.address = Address(ready["host"], ready["port"])
        self.pid = ready["pid"]
        self.counted = ready["counted"]

    def ask(self, question: str) -> dict[str, Any]:
        """Ask for `counts`, `facts` or `held`, tell to `settle` or `mark`; raises ServerEndedError if it is gone."""
        try:
            self.questions.write(question.encode() + b"\n")
            self.questions.flush()
        except OSError as error:
            raise ServerEndedError("the server's process ended") from error
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self.answers.readline()
        if not line:
            raise ServerEndedError("the server's process ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the server."""
        with contextlib.suppress(OSError):
            self.questions.close()
        self.answers.close()


@contextlib.contextmanager
def spawned(task: Task, *, stderr: int | None = None, under: Sequence[str] = ()) -> Iterator[Handle]:
    """Start a server in a fresh interpreter, `under` another program; it is ended, and waited for, on leaving."""
    process = subprocess.Popen(
        [*under, sys.executable, "-P", "-m", "loopmark.peer", to_json(task), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    handle = Handle(questions=process.stdin, answers=process.stdout)  # type: ignore[arg-type]  # buffered pipes are
    try:
        yield handle
    finally:
        handle.close()
        try:
            process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _main() -> NoReturn:
    die_with_parent(int(sys.argv[2]))
    task = task_from(sys.argv[1])
    network.enter(task.namespace)
    serve(task, sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    _main()
