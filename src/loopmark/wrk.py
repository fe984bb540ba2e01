"""wrk as a second opinion on servers: a client in C, in no block, one server after the other, without any interval."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from loopmark.arms import Assign
from loopmark.case import Case, Role
from loopmark.errors import LoopmarkError
from loopmark.peer import spawned
from loopmark.record import COMPARED, CasePlan
from loopmark.spi import Address
from loopmark.task import Task

SECONDS = 2
"""How long it calls a server."""

_PATIENCE = 30.0
"""Seconds that a reply may take, and beyond its time that wrk itself may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What wrk says of a server."""

    rate: float
    """Requests per second, each on a connection of its own."""
    failed: int
    """Requests without a reply, or with one that is no success."""

    def __str__(self) -> str:
        return f"{self.rate:,.0f}{f' ({self.failed:,} failed)' if self.failed else ''}"


def second_opinion(plan: CasePlan, assign: Assign) -> str | None:
    """Let wrk call the servers of a case, and return what it says as a sentence.

    None where it is not installed, cannot do what the case wants, or where the benchmark has nothing for it.
    """
    program = shutil.which("wrk")
    if program is None or not _can_do(plan.case):
        return None
    told = []
    for arm in plan.arms:
        if arm.kind not in COMPARED:
            continue
        server, client, _ = assign(plan.case, arm)
        path = server.load_benchmark().second_opinion
        if not path:
            return None
        try:
            told.append(f"{arm.label} {_ask(program, server, client.cpu, path)}")
        except (LoopmarkError, subprocess.TimeoutExpired) as error:
            told.append(f"{arm.label} nothing ({type(error).__name__})")
    return (
        f"A second opinion on {plan.case.name}, of one server after the other and without intervals, in requests/s: "
        f"wrk -t 1 -c {plan.case.concurrency} -d {SECONDS}s, one connection for each request, says {', '.join(told)}."
    )


def call(
    program: str, address: Address, path: str, *, tls: bool, connections: int, seconds: int, cpu: int | None = None
) -> Opinion:
    """Call a server for a while, from one core if so wanted; raises LoopmarkError when wrk tells nothing."""
    url = f"http{'s' if tls else ''}://{address}{path}"
    command = (program, "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", f"{_PATIENCE:g}s")
    # A child is where its parent's thread was when it was started.
    before = os.sched_getaffinity(0) if cpu is not None else set()
    try:
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        process = subprocess.Popen(
            (*command, "-H", "Connection: close", url), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    finally:
        if cpu is not None:
            os.sched_setaffinity(0, before)
    with process:
        try:
            text, _ = process.communicate(timeout=seconds + _PATIENCE)
        finally:
            process.kill()
    return parse(text)


def parse(text: str) -> Opinion:
    """Read what wrk prints; raises LoopmarkError for anything else."""
    rate = re.search(r"^Requests/sec: +(\d+\.\d+)$", text, re.MULTILINE)
    if rate is None:
        raise LoopmarkError(f"wrk says {text.strip()[-200:]!r}")
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    failed = [int(number) for found in (broken, refused) if found for number in found.groups()]
    return Opinion(rate=float(rate[1]), failed=sum(failed))


def _can_do(case: Case) -> bool:
    """Tell whether wrk can: it resumes nothing, shows no certificate, and is in no network of ours."""
    special = case.tls is not None and (case.tls.resumed or case.tls.client_key is not None)
    return case.role is Role.SERVER and case.rtt is None and not special


def _ask(program: str, server: Task, cpu: int | None, path: str) -> Opinion:
    with spawned(server, stderr=subprocess.DEVNULL) as handle:
        handle.wait_until_ready()
        return call(
            program,
            handle.address,
            path,
            tls=server.case.tls is not None,
            connections=server.case.concurrency,
            seconds=SECONDS,
            cpu=cpu,
        )
