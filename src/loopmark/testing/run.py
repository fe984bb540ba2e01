"""The contract's clauses about `Backend.run`, `sleep` and `gather`."""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import copy
import threading
import time
from typing import Any

from loopmark.errors import Kind
from loopmark.testing.endpoint import Endpoint
from loopmark.testing.ground import (
    JOBS,
    PING,
    PONG,
    BrokenContract,
    Clause,
    Ground,
    NotApplicable,
    Where,
    both_ways,
    clause,
    expect,
    failure,
    leaves,
    pong,
)


@clause(Where.UNASKED)
def run_returns_the_value(at: Ground) -> None:
    """`run` returns what the coroutine returned."""
    value = object()

    async def main() -> object:
        return value

    expect(at.backend.run(main) is value, "run returned something else than the coroutine")


@clause(Where.UNASKED)
def run_lets_exceptions_through(at: Ground) -> None:
    """`run` raises what the coroutine raised, as it is."""
    failure = LookupError("planned")

    async def main() -> None:
        raise failure

    raised: Exception | None = None
    try:
        at.backend.run(main)
    except Exception as error:  # noqa: BLE001  # what is raised is the finding
        raised = error
    expect(raised is failure, f"run raised {raised!r} instead of {failure!r}")


@clause(Where.ONCE)
def run_makes_a_fresh_loop(at: Ground) -> None:
    """Every `run` makes a loop of its own with the factory that was given, uses it, and closes it."""
    factory = at.backend.loop_factory
    if factory is None:
        raise NotApplicable("the backend is not given a loop factory")
    loops: list[Any] = []

    def make() -> object:
        loops.append(factory())
        return loops[-1]

    backend = copy.copy(at.backend)
    backend.loop_factory = make
    told: list[str] = []

    async def main() -> None:
        connection = await backend.connect(server.address, tls=at.client_tls(), options=at.options)
        told.append(connection.facts().loop)
        await connection.exchange((PING,), None, 1)
        await connection.close()

    with at.reference_server(pong) as server:
        for _ in range(2):
            backend.run(main)
    expect(len(loops) == 2, f"two runs asked the factory for {len(loops)} loops")
    expect(loops[0] is not loops[1], "two runs used the same loop")
    expect(all(loop.is_closed() for loop in loops), "a loop was not closed")
    names = [f"{type(loop).__module__}.{type(loop).__qualname__}" for loop in loops]
    expect(told == names, f"the loop is told as {told[0]}, and the factory made a {names[0]}")


@clause(Where.UNASKED)
def sleep_lets_others_run(at: Ground) -> None:
    """While one job sleeps, another one runs."""
    steps: list[str] = []

    async def wait() -> None:
        end = time.monotonic() + at.patience
        while not steps and time.monotonic() < end:
            await at.backend.sleep(0.001)
        steps.append("waited")

    async def work() -> None:
        steps.append("worked")

    at.backend.run(lambda: at.backend.gather(wait, work))
    expect(steps == ["worked", "waited"], f"nothing ran beside a job that slept for {at.patience:g} s")


@clause(Where.ALL)
@both_ways
def gather_runs_all_at_once(at: Ground) -> None:
    """`gather` runs all its jobs at once: a server that answers nobody before everybody has asked is satisfied."""
    everybody = threading.Barrier(JOBS)

    def withhold(peer: Endpoint) -> None:
        peer.read(len(PING))
        try:
            everybody.wait(at.patience / 2)
        except threading.BrokenBarrierError:
            raise BrokenContract(f"{server.peak} connections were open instead of {JOBS}") from None
        peer.send(PONG)
        peer.finish()

    replies: list[bytes] = []

    async def main() -> None:
        tls = at.client_tls()

        async def job() -> None:
            replies.append(await at.visit(server.address, tls=tls))

        await at.backend.gather(*[job] * JOBS)

    with at.reference_server(withhold) as server:
        at.backend.run(main)
    expect(replies == [PONG] * JOBS, f"{JOBS} jobs returned {replies}")
    expect(server.peak == JOBS, f"{server.peak} connections were open at once instead of {JOBS}")


@clause(Where.ALL)
@both_ways
def gather_raises_the_first_failure(at: Ground) -> None:
    """The first job that fails ends the others, wherever they wait, and `gather` raises what it raised."""
    asked = threading.Semaphore(0)
    ended: list[int] = []

    def never_answer(peer: Endpoint) -> None:
        peer.read(len(PING))
        asked.release()
        peer.read_to_end()

    async def main() -> tuple[Exception | None, int]:
        tls = at.client_tls()

        async def wait() -> None:
            try:
                await at.visit(server.address, tls=tls)
            finally:
                ended.append(1)

        async def fail() -> None:
            for _ in range(JOBS):
                while not asked.acquire(blocking=False):
                    await at.backend.sleep(0.001)
            raise _Planned

        try:
            await at.backend.gather(*[wait] * JOBS, fail)
        except Exception as error:  # noqa: BLE001  # libraries wrap it, each in its own way
            return error, len(ended)
        return None, len(ended)

    with at.reference_server(never_answer) as server:
        error, count = at.backend.run(main)
    expect(error is not None, "gather swallowed a job's failure")
    raised = next(leaves(error))
    expect(isinstance(raised, _Planned), f"gather raised {type(raised).__name__}, which was not the first failure")
    expect(count == JOBS, f"{JOBS - count} of {JOBS} other jobs outlived the failure")


@clause(Where.ONCE)
@both_ways
def within_ends_what_takes_too_long(at: Ground) -> None:
    """`within` returns what its job does, and ends one that takes too long, alone or in `gather`, as a timeout."""
    value = object()

    async def quick() -> object:
        return value

    def never_answer(peer: Endpoint) -> None:
        peer.read_to_end()

    async def wait() -> None:
        await at.visit(server.address)

    async def wait_together() -> None:
        await at.backend.gather(*[wait] * JOBS)

    found = at.backend.run(lambda: at.backend.within(at.patience, quick))
    expect(found is value, "within returned something else than its job")
    with at.reference_server(never_answer) as server:
        for job in (wait, wait_together):
            error = failure(at.backend, lambda: at.backend.within(_BRIEFLY, job), "a job that never ends has ended")  # noqa: B023  # run at once
            expect(error.kind is Kind.TIMEOUT, f"a job that took too long is told as {error}")


_BRIEFLY = 0.1
"""Seconds for a job that never ends."""


class _Planned(Exception):  # noqa: N818  # it is no accident
    """The failure that a job is made to have."""


CLAUSES: tuple[Clause, ...] = (
    run_returns_the_value,
    run_lets_exceptions_through,
    run_makes_a_fresh_loop,
    sleep_lets_others_run,
    gather_runs_all_at_once,
    gather_raises_the_first_failure,
    within_ends_what_takes_too_long,
)
