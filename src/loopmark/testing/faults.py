"""Whether a server stands what bad peers and a short system do to it, to be run: `loopmark check --faults NAME`.

Each fault is committed many times against a server in a process of its own, in every setting that it has a meaning in.
After that the next good client is served, nothing is left behind, little was logged, and the server's own account is
right. How a bad peer is known: `docs/robustness.md`.
"""

from collections.abc import Callable, Collection
from contextlib import ExitStack

from loopmark import limits
from loopmark.errors import LoopmarkError, UsageError
from loopmark.registry import Contender
from loopmark.spi import Backend, Feature
from loopmark.testing.contract import Finding, Status
from loopmark.testing.endpoint import PATIENCE
from loopmark.testing.faults_conversation import CONVERSATIONS
from loopmark.testing.faults_ground import DEADLINES, Fault, Setting, Target, Told
from loopmark.testing.faults_handshake import HANDSHAKES
from loopmark.testing.faults_renegotiation import RENEGOTIATIONS
from loopmark.testing.faults_resources import MOST, RESOURCES
from loopmark.testing.faults_subject import State, Subject, under_attack
from loopmark.testing.ground import BrokenContract, NotApplicable, expect
from loopmark.tls import Identity

FAULTS: tuple[Fault, ...] = (*HANDSHAKES, *CONVERSATIONS, *RENEGOTIATIONS, *RESOURCES)
"""All of them, in the order in which they are committed."""

REPETITIONS = 20

LOG = 8192
"""Bytes that a fault may bring into a server's log, however often it is repeated."""

_WARM_UP = 5
"""How many these are, when there are few repetitions."""

NO_SETTING = "the backend has none of its settings"

HANDSHAKE = "failed handshake"
"""The kind of those that a library drops and tells nobody of; OpenSSL has counted that they were begun."""

_LEFT = {"objects": (100, 0.1), "blocks of memory": (8000, 0.5), "bytes of memory": (512 * 1024, 256.0)}
"""What may be left after a fault, at all and per repetition: free lists, the source of a first traceback."""

_SESSION = 1200
"""Bytes for the session of a TLS 1.2 handshake that no fault broke off: OpenSSL keeps 20,480 of them, and no more.

Python has no switch for that cache.
"""


def check_faults(
    contender: Contender,
    backend: Backend,
    identity: Identity,
    *,
    only: Collection[str] | None = None,
    repetitions: int = REPETITIONS,
    patience: float = PATIENCE,
    report: Callable[[Finding], None] = lambda _: None,
) -> list[Finding]:
    """Commit every fault, or those named in `only`; return a finding for each, in the order of `FAULTS`.

    `backend` is the contender, loaded, for its features. A server has failed that has not answered, dropped a peer or
    cleaned up after `patience` seconds. `report` is called with each finding as soon as it is there. Raises UsageError
    for an unknown name, and where this system does not allow that many connections.
    """
    known = [each.name for each in FAULTS]
    if unknown := set(only or ()) - set(known):
        raise UsageError(f"unknown fault {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    limits.check(DEADLINES.backlog + MOST)
    findings = []
    with ExitStack() as stack:
        subjects = _Subjects(contender, identity, patience, stack)
        for fault in FAULTS:
            if only is None or fault.name in only:
                findings.append(_check(fault, subjects, _settings(backend), repetitions))
                report(findings[-1])
    return findings


def _settings(backend: Backend) -> list[Setting]:
    needs = {
        Setting.PLAIN: Feature.TCP,
        Setting.TLS_1_2: Feature.TLS,
        Setting.TLS_1_3: Feature.TLS,
        Setting.UPGRADE: Feature.START_TLS,
    }
    return [setting for setting, feature in needs.items() if feature in backend.features]


class _Subjects:
    """One server for each setting, started when it is needed, and again where one has ended."""

    def __init__(self, contender: Contender, identity: Identity, patience: float, stack: ExitStack) -> None:
        self._contender, self._identity, self._patience, self._stack = contender, identity, patience, stack
        self._running: dict[Setting, Subject] = {}

    def __getitem__(self, setting: Setting) -> Subject:
        if setting not in self._running:
            self._running[setting] = self._stack.enter_context(
                under_attack(self._contender, setting, self._identity, self._patience)
            )
        return self._running[setting]

    def forget(self, setting: Setting) -> str:
        """Have the next one start a new server, as this one is not what it was; return its end, if it came to one."""
        subject = self._running.pop(setting, None)
        return f"; {subject.obituary()}" if subject and subject.has_ended() else ""


def _check(fault: Fault, subjects: _Subjects, can: list[Setting], repetitions: int) -> Finding:
    """Commit it in one setting after the other, up to the first in which something is wrong."""
    status, reasons = Status.NOT_APPLICABLE, dict[str, list[str]]()
    for setting in can:
        if setting not in fault.settings:
            continue
        try:
            reasons.setdefault(_commit(fault, subjects[setting], repetitions), []).append(setting)
        except NotApplicable as error:
            reasons.setdefault(str(error), []).append(setting)
        except (BrokenContract, LoopmarkError, OSError, EOFError) as error:
            said = str(error) if isinstance(error, BrokenContract) else f"{type(error).__name__}: {error}"
            return _finding(fault, Status.FAILED, f"{said} ({setting}{subjects.forget(setting)})")
        else:
            status = Status.OK
    if len(reasons) > 1:
        return _finding(fault, status, "; ".join(f"{why} ({', '.join(where)})" for why, where in reasons.items()))
    return _finding(fault, status, next(iter(reasons), NO_SETTING))


def _finding(fault: Fault, status: Status, reason: str) -> Finding:
    return Finding(clause=fault.name, promise=fault.promise, status=status, reason=reason)


def _commit(fault: Fault, subject: Subject, repetitions: int) -> str:
    """Commit it, and look at the server before and after; return what the server's account says."""
    target = subject.target
    count = max(repetitions, fault.least(target))
    # What the first ones bring into memory stays, and is no leak. A few slow ones do without.
    thorough = repetitions > REPETITIONS
    if thorough or not fault.slow:
        _attack(fault, target, fault.at_once if thorough else _WARM_UP)
    target.require_answer()
    before = subject.settled()
    _attack(fault, target, count)
    target.require_answer()
    is_kept = fault.told is Told.SERVED and target.setting is Setting.TLS_1_2
    after = subject.settled(_most(before, count, count * _SESSION if is_kept else 0))
    logged = after.log - before.log
    expect(logged <= LOG, f"{count} times are {logged} bytes in the log")
    return _account(fault, before, after, count)


def _attack(fault: Fault, target: Target, count: int) -> None:
    try:
        fault.attack(target, count)
    finally:
        target.hang_up()


def _most(before: State, count: int, sessions: int) -> dict[str, int | None]:
    """Return what may be used after so many repetitions, by name; `sessions` are bytes that OpenSSL keeps of them."""
    most: dict[str, int | None] = {}
    for name, used in before.used().items():
        once, each = _LEFT[name]
        most[name] = None if used is None else used + once + int(count * each)
    if (memory := most["bytes of memory"]) is not None:
        most["bytes of memory"] = memory + sessions
    return most


def _account(fault: Fault, before: State, after: State, count: int) -> str:
    """Hold the server's counters against what was done; return what they say of it."""
    faults = {
        kind: more
        for kind, number in after.counts.faults.items()
        if (more := number - before.counts.faults.get(kind, 0))
    }
    total = sum(faults.values())
    unfinished = (after.unfinished or 0) - (before.unfinished or 0)
    said = ", ".join(f"{number} {kind}" for kind, number in faults.items()) or "nothing"
    served = after.counts.served - before.counts.served
    match fault.told:
        case Told.FAULT:
            expect(total == count, f"of {count} faults the server tells {said}")
        case Told.LIBRARY:
            expect(
                total == count or (not total and unfinished == count),
                f"of {count} faults the server tells {said}, and OpenSSL {unfinished} unfinished handshakes",
            )
        case Told.ANY:
            expect(total + unfinished > 0, f"of {count} faults the server tells nothing")
        case Told.SERVED:
            expect(not total, f"{count} conversations came to their end, and the server tells {said}")
            expect(served > count, f"of {count} conversations {served - 1} are counted as served")
            return "served"
    expect(set(faults) <= fault.kinds, f"the server tells {said}, and not {' or '.join(sorted(fault.kinds))}")
    return f"counted as {' and '.join(sorted(faults)) or HANDSHAKE}"
