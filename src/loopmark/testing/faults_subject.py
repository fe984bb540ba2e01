"""A server under attack, in a process of its own, and what is seen of it from outside."""

import dataclasses
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from loopmark.testing.ground import PING, BrokenContract
from loopmark.tls import Identity, client_tls

_PAUSE = 0.02
"""Seconds between two looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a server holds, and what it has told; None where the system does not say."""

    counts: Counts
    unfinished: int | None
    """Handshakes that were begun and not completed, by OpenSSL's own count; None without TLS."""
    descriptors: int | None
    threads: int | None
    coroutines: int
    """One for each task, and those that its main one waits for."""
    objects: int
    """Of those that the garbage collector knows, after a collection."""
    blocks: int
    """Of memory that is in use, up to 512 bytes each."""
    bytes: int | None
    """That are in use besides, by Python and by C."""
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

    def used(self) -> dict[str, int | None]:
        """Return what may be a little more after each fault, by name."""
        return {"objects": self.objects, "blocks of memory": self.blocks, "bytes of memory": self.bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A running server; the handle's process must not be asked by two at once."""

    target: Target
    loop: str
    """The class of its loop, as it tells."""
    handle: Handle
    log: Path
    idle: dict[str, int | None] = field(default_factory=dict)
    """What it holds when it has nothing to do, by name."""

    def state(self) -> State:
        """Look at it as it is now; raises ServerEndedError if it is gone."""
        counts = self.handle.ask("counts")
        held = self.handle.ask("held")
        return State(
            counts=Counts(**{each.name: counts[each.name] for each in dataclasses.fields(Counts)}),
            unfinished=counts["unfinished"],
            descriptors=procfs.descriptors(self.handle.pid),
            threads=procfs.threads(self.handle.pid),
            coroutines=held["coroutines"],
            objects=held["objects"],
            blocks=held["blocks"],
            bytes=held["bytes"],
            log=self.log.stat().st_size,
        )

    def settled(self, most: Mapping[str, int | None] | None = None) -> State:
        """Wait until it holds no more than when it was at rest, and uses at `most` so much, by name.

        Raises BrokenContract if that never comes.
        """
        end = time.monotonic() + self.target.patience
        while True:
            now = self.state()
            left = [*_beyond(self.idle, now.held()), *_beyond(most or {}, now.used())]
            if not left:
                return now
            if time.monotonic() > end:
                raise BrokenContract(f"it is left with {', '.join(left)}")
            time.sleep(_PAUSE)

    def at_rest(self) -> dict[str, int | None]:
        """Wait until it does nothing any more, and return what it holds then; raises BrokenContract if it goes on."""
        end = time.monotonic() + self.target.patience
        before = self.state().held()
        while time.monotonic() < end:
            time.sleep(_PAUSE)
            now = self.state().held()
            if now == before and not now["open connections"]:
                return now
            before = now
        raise BrokenContract(f"after one good client it never comes to rest, and has {before}")

    def has_ended(self) -> bool:
        """Tell whether it is there no more."""
        try:
            self.handle.ask("counts")
        except ServerEndedError:
            return True
        return False

    def obituary(self) -> str:
        """Say that it has ended, with the end of what it has written to standard error, all on one line."""
        words = _on_one_line(self.log)
        return f"the server has ended with: {words}" if words else "the server has ended without a word"


def _beyond(most: Mapping[str, int | None], now: Mapping[str, int | None]) -> list[str]:
    """Say what there is too much of; where either side is unknown, nobody can tell."""
    return [
        f"{now[name]} {name} instead of {limit}"
        for name, limit in most.items()
        if limit is not None and (count := now[name]) is not None and count > limit
    ]


def _on_one_line(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").split())[-200:]


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
                try:
                    handle.wait_until_ready()
                except ServerEndedError as error:
                    raise BrokenContract(
                        f"it does not start: {_on_one_line(log) or 'it ended without a word'}"
                    ) from error
                tls = client_tls(profile, identity) if profile else None
                target = Target(setting=setting, address=handle.address, tls=tls, pid=handle.pid, patience=patience)
                try:
                    subject = Subject(target=target, loop=_loop(target, handle), handle=handle, log=log)
                except ServerEndedError as error:
                    raise BrokenContract(f"it does not stand a good client: {_on_one_line(log)}") from error
                yield dataclasses.replace(subject, idle=subject.at_rest())
        finally:
            os.close(descriptor)


def _loop(target: Target, handle: Handle) -> str:
    """Ask which loop it runs on, which it can tell as long as it knows of a connection."""
    target.require_answer()
    before = handle.ask("counts")
    # Some libraries tell of a connection before its handshake, and others after it.
    grown = ["accepted"] if before["handshakes"] is None else ["accepted", "handshakes"]
    with target.converse() as peer:
        end = time.monotonic() + target.patience
        while any(handle.ask("counts")[name] == before[name] for name in grown):
            if time.monotonic() > end:
                raise BrokenContract("it has not told of a second connection")
        facts: dict[str, Any] = handle.ask("facts")
        peer.send(PING)
        peer.leave()
    return str(facts.get("loop", ""))
