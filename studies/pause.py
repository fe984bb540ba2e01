"""What a busy loop costs beside its own length: `python studies/pause.py [--seconds S]`.

One process makes TLS connections one after the other, its server on the same core as in the default campaign's second
table, and is busy before each for a while that is drawn anew. Its own clock tells apart what the loop took and what the
connection took after it. So a campaign that compares clients with different loops is held against this, and not
against the length of the loops alone.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from busy import LONG, SHORT
from loopmark import certs
from loopmark.case import Case, Cores, Role
from loopmark.peer import Handle, spawned
from loopmark.registry import registry
from loopmark.spi import Backend, TLSProfile
from loopmark.task import Task
from loopmark.tls import client_tls
from loopmark.traffic import Target, fetch
from tables import table

SPINS = (0.0, 0.1e-3, SHORT, LONG, 3e-3)
WARM_UP = 50


def measured(backend: Backend, target: Target, seconds: float) -> dict[float, list[tuple[float, float]]]:
    """Return, by length of the loop, the CPU seconds of the loop and of the connection after it, of each connection."""
    found: dict[float, list[tuple[float, float]]] = {spin: [] for spin in SPINS}
    random_order, clock = random.Random(1), time.thread_time

    async def connect(spin: float) -> tuple[float, float]:
        start = clock()
        while clock() < start + spin:
            pass
        middle = clock()
        await fetch(backend, target)
        return middle - start, clock() - middle

    async def run() -> None:
        for _ in range(WARM_UP):
            await connect(0.0)
        end = time.monotonic() + seconds
        while not found[0.0] or time.monotonic() < end:
            for spin in random_order.sample(SPINS, len(SPINS)):
                found[spin].append(await connect(spin))

    backend.run(run)
    return found


def _target(task: Task, server: Handle) -> Target:
    assert task.case.tls is not None
    assert task.identity is not None
    server.wait_until_ready()
    tls = client_tls(task.case.tls, task.identity)
    return Target(address=server.address, talk=task.conversation().talks[0], tls=tls, options=task.options)


def main(arguments: Sequence[str]) -> int:
    """Measure, and print a row for each length of the loop."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: %(default)s)")
    seconds = parser.parse_args(arguments).seconds
    known = registry()
    case = Case(
        benchmark="tls_pingpong", concurrency=1, role=Role.BOTH, peer=None, cores=Cores.SHARED, tls=TLSProfile()
    )
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    with tempfile.TemporaryDirectory() as directory:
        task = Task(
            contender=known.contender("asyncio"),
            benchmark=known.benchmarks[case.benchmark],
            case=case,
            identity=certs.ensure(Path(directory) / "certs"),
            cpu=cpu,
        )
        with spawned(task) as server:
            found = measured(task.contender.load(), _target(task, server), seconds)
    rows = [[f"{1e6 * fmean(part):.0f}" for part in zip(*both, strict=True)] for both in found.values()]
    total = [f"{1e6 * fmean(map(sum, both)):.0f}" for both in found.values()]
    counts = [str(len(both)) for both in found.values()]
    headers = ("connections", "the loop, us", "the connection after it, us", "together, us")
    print(table(headers, [[count, *row, both] for count, row, both in zip(counts, rows, total, strict=True)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
