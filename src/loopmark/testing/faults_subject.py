"""A server under attack, in a process of its own, and what is seen of it from outside."""

import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loopmark import procfs
from loopmark.case import Case, Cores, Role
from loopmark.ledger import Counts
from loopmark.peer import Handle, ServerEndedError, spawned
from loopmark.registry import Contender, registry
from loopmark.task import Task
from loopmark.testing.faults_ground import DEADLINES, Setting, Target
from loopmark.testing.ground import BrokenContract
from loopmark.tls import Identity, client_tls


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a server holds, and what it has told; None where the system does not say."""

    counts: Counts
    handshakes: int | None
    descriptors: int | None
    threads: int | None
    coroutines: int
    """One for each task, and those that its main one waits for."""
    objects: int
    """Of those that the garbage collector knows, after a collection."""
    memory_kib: float | None
    log: int
    """Bytes on standard error."""

    def held(self) -> dict[str, int | None]:
        """Return what must be the same after each fault, by name."""
        return {
            "open connections": self.counts.open,
            "descriptors": self.descriptors,
            "threads": self.threads,
            "coroutines": self.coroutines,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A running server; the handle's process must not be asked by two at once."""

    target: Target
    loop: str
    """The class of its loop, as it tells."""
    handle: Handle
    log: Path

    def state(self) -> State:
        """Look at it as it is now; raises ServerEndedError if it is gone."""
        counts = self.handle.ask("counts")
        held = self.handle.ask("held")
        return State(
            counts=Counts(**{each.name: counts[each.name] for each in dataclasses.fields(Counts)}),
            handshakes=counts["handshakes"],
            descriptors=procfs.descriptors(self.handle.pid),
            threads=procfs.threads(self.handle.pid),
            coroutines=held["coroutines"],
            objects=held["objects"],
            memory_kib=procfs.private_kib(self.handle.pid),
            log=self.log.stat().st_size,
        )

    def settled(self, before: State | None = None, *, objects: int = 0) -> State:
        """Wait until it holds no more than `before`, by default no connection, and so many `objects` more at most.

        Raises BrokenContract if that never comes.
        """
        end = time.monotonic() + self.target.patience
        while True:
            now = self.state()
            left = _left(before, now, objects)
            if not left:
                return now
            if time.monotonic() > end:
                raise BrokenContract(f"it is left with {', '.join(left)}")
            time.sleep(0.01)

    def has_ended(self) -> bool:
        """Tell whether it is there no more."""
        try:
            self.handle.ask("counts")
        except ServerEndedError:
            return True
        return False

    def obituary(self) -> str:
        """Say that it has ended, with the end of what it has written to standard error, all on one line."""
        words = " ".join(self.log.read_text(errors="replace").split())[-200:]
        return f"the server has ended with: {words}" if words else "the server has ended without a word"


def _left(before: State | None, now: State, objects: int) -> list[str]:
    if before is None:
        return [f"{now.counts.open} open connections"] if now.counts.open else []
    was = before.held()
    left = [
        f"{count} {name} instead of {was[name]}"
        for name, count in now.held().items()
        if count is not None and count > (was[name] or 0)
    ]
    more = now.objects - before.objects
    return [*left, f"{more} more objects"] if more > objects else left


@contextmanager
def under_attack(contender: Contender, setting: Setting, identity: Identity, patience: float) -> Iterator[Subject]:
    """Start a server; it is ended, and waited for, on leaving."""
    profile = setting.profile
    benchmark = "tcp_pingpong" if profile is None else "tls_pingpong"
    task = Task(
        contender=contender,
        benchmark=registry().benchmarks[benchmark],
        case=Case(benchmark=benchmark, concurrency=1, role=Role.BOTH, peer=None, cores=Cores.ANY, tls=profile),
        identity=identity if profile else None,
        options=dataclasses.replace(DEADLINES, go_ahead=setting.go_ahead),
    )
    with TemporaryDirectory() as directory:
        log = Path(directory, "stderr")
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            with spawned(task, stderr=descriptor) as handle:
                handle.wait_until_ready()
                tls = client_tls(profile, identity) if profile else None
                target = Target(setting=setting, address=handle.address, tls=tls, pid=handle.pid, patience=patience)
                yield Subject(target=target, loop=_loop(target, handle), handle=handle, log=log)
        finally:
            os.close(descriptor)


def _loop(target: Target, handle: Handle) -> str:
    """Ask which loop it runs on, which it can tell as long as it knows of a connection."""
    target.require_answer()
    accepted = handle.ask("counts")["accepted"]
    with target.converse():
        end = time.monotonic() + target.patience
        while handle.ask("counts")["accepted"] == accepted:
            if time.monotonic() > end:
                raise BrokenContract("it has not told of a second connection")
        facts: dict[str, Any] = handle.ask("facts")
    return str(facts.get("loop", ""))
