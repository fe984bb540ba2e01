"""The contract for backends, to be run: every clause in every setting that applies, under a deadline.

A clause is a function in one of the modules beside this one; its name and its docstring say what it asks.
The checker needs no test framework, so that anybody can point it at a backend: `loopmark check NAME`.
"""

import socket
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from loopmark.errors import LoopmarkError, UsageError
from loopmark.spi import Backend, Feature, TLSProfile
from loopmark.testing import (
    closes,
    connects,
    datagrams,
    exchanges,
    files,
    halves,
    honest,
    lasting,
    lookups,
    run,
    serves,
    survives,
    upgrades,
)
from loopmark.testing.endpoint import PATIENCE
from loopmark.testing.ground import BrokenContract, Clause, Ground, NotApplicable, Where, leaves
from loopmark.tls import VERSIONS, Identity

CLAUSES: tuple[Clause, ...] = (
    *run.CLAUSES,
    *honest.CLAUSES,
    *connects.CLAUSES,
    *exchanges.CLAUSES,
    *serves.CLAUSES,
    *survives.CLAUSES,
    *lasting.CLAUSES,
    *closes.CLAUSES,
    *upgrades.CLAUSES,
    *halves.CLAUSES,
    *files.CLAUSES,
    *datagrams.CLAUSES,
    *lookups.CLAUSES,
)
"""All of the contract, in the order in which it is checked."""

DEADLINE = 10.0
"""Seconds that one clause may take in one setting."""

_IPV4, _IPV6 = "127.0.0.1", "::1"


class Status(StrEnum):
    """What came of checking a clause."""

    OK = "ok"
    FAILED = "FAILED"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of one clause: `promise` is what it asks, `reason` why it failed or does not apply."""

    clause: str
    promise: str
    status: Status
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.clause}: {self.status}" + (f": {self.reason}" if self.reason else "")


class ContractError(LoopmarkError):
    """A backend does not keep the contract; the text lists every violated clause."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = [each for each in findings if each.status is Status.FAILED]
        super().__init__("\n".join(f"{each.clause}: {each.reason}\n    {each.promise}" for each in self.findings))


def check_backend(
    backend: Backend,
    identity: Identity,
    *,
    clauses: Sequence[Clause] = CLAUSES,
    only: Collection[str] | None = None,
    deadline: float = DEADLINE,
    report: Callable[[Finding], None] = lambda _: None,
) -> list[Finding]:
    """Check every clause, or those named in `only`; return a finding for each, in the order of `clauses`.

    `report` is called with each finding as soon as it is there. A clause that does not come to its end within
    `deadline` seconds has failed; what it started may go on in daemon threads. Raises UsageError for an unknown name.
    """
    known = [each.name for each in clauses]
    if unknown := set(only or ()) - set(known):
        raise UsageError(f"unknown clause {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    findings = []
    for clause in clauses:
        if only is None or clause.name in only:
            findings.append(_check(clause, _grounds(clause, backend, identity, deadline), deadline))
            report(findings[-1])
    return findings


def require_kept(findings: Iterable[Finding]) -> None:
    """Raise ContractError if any clause has failed."""
    error = ContractError(findings)
    if error.findings:
        raise error


def _check(clause: Clause, grounds: Iterable[Ground | str], deadline: float) -> Finding:
    """Check in one setting after the other, up to the first in which it fails."""
    status, reasons = Status.NOT_APPLICABLE, dict[str, None]()
    for ground in grounds:
        if isinstance(ground, str):
            reasons[ground] = None
            continue
        match _raised(clause, ground, deadline):
            case None:
                status = Status.OK
            case NotApplicable() as error:
                reasons[str(error)] = None
            case BrokenContract() as error:
                status, reasons = Status.FAILED, {f"{error} ({ground})": None}
                break
            case error:
                said = " ".join(str(error).split())
                status, reasons = Status.FAILED, {f"{type(error).__name__}: {said} ({ground})": None}
                break
    return Finding(clause=clause.name, promise=clause.promise, status=status, reason="; ".join(reasons))


def _raised(clause: Clause, ground: Ground, deadline: float) -> BaseException | None:
    """Run a clause in a thread of its own, so that a backend that hangs cannot hang the checker; return what it raises.

    That may be anything, also what is no Exception. What is raised here is for whoever runs the checker: an interrupt.
    """
    raised: list[BaseException] = []

    def work() -> None:
        try:
            clause.check(ground)
        except BaseException as error:  # noqa: BLE001  # it is returned in the caller's thread
            raised.append(error)

    thread = threading.Thread(target=work, name=clause.name, daemon=True)
    thread.start()
    thread.join(deadline)
    if thread.is_alive():
        tried = "".join(f", at {what}" for what in ground.trying)
        return BrokenContract(f"it did not come to its end within {deadline:g} s{tried}")
    if not raised:
        return None
    # What a clause said in one of several jobs may come in a group.
    return next((each for each in leaves(raised[0]) if isinstance(each, BrokenContract)), raised[0])


def _grounds(clause: Clause, backend: Backend, identity: Identity, deadline: float) -> Iterator[Ground | str]:
    """Yield the settings in which a clause is checked, and why not in others."""
    if clause.needs is not None and clause.needs not in backend.features:
        yield f"the backend has no {clause.needs}"
        return
    bare = Ground(backend=backend, identity=identity, profile=None, host=_IPV4, patience=min(PATIENCE, deadline / 2))
    plain = [bare] if Feature.TCP in backend.features else []
    profiles = [TLSProfile(version=version) for version in VERSIONS] if Feature.TLS in backend.features else []
    secure = [replace(bare, profile=profile) for profile in profiles]
    upgraded = [each.upgraded() for each in secure] if Feature.START_TLS in backend.features else []
    every = plain + secure + upgraded[-1:]
    match clause.where:
        case Where.UNASKED:
            yield bare
        case Where.ONCE_PLAIN:
            yield from _or_why_not(plain, "the backend has no plain TCP")
        case Where.TLS:
            yield from _or_why_not([*secure, *upgraded[-1:]], "the backend has no TLS")
        case Where.UPGRADES:
            yield from upgraded
        case Where.ONCE_TLS:
            yield from _or_why_not([*secure[-1:], *upgraded[-1:]], "the backend has no TLS")
        case Where.ONCE:
            yield from (plain + secure)[-1:]
        case Where.ALL:
            yield from every
        case Where.FAMILIES:
            yield from _on_both(every)
        case Where.DATAGRAMS:
            yield from _on_both([replace(bare, datagrams=True)])


def _or_why_not(grounds: Sequence[Ground], reason: str) -> Sequence[Ground | str]:
    return grounds or [reason]


def _on_both(grounds: Sequence[Ground]) -> Iterator[Ground | str]:
    yield from grounds
    if _has_ipv6():
        yield from (replace(each, host=_IPV6) for each in grounds)
    else:
        yield "this machine has no IPv6 loopback address"


def _has_ipv6() -> bool:
    with suppress(OSError), socket.create_server((_IPV6, 0), family=socket.AF_INET6):
        return True
    return False
