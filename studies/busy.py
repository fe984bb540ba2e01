"""A plug-in with a known difference: asyncio's streams whose client is busy for a while before each connection.

`loopmark run --plugin studies/busy.py --baseline asyncio-idle -b asyncio-busy` must find BUSY seconds of client CPU
time between the two, which differ by an empty loop and in nothing else.

The loop reads no clock: `docs/studies.md` has what was found of one that did.
"""

import asyncio
import time

from loopmark.backends.asyncio_streams import AsyncioStreams

from loopmark.spi import Address, ClientTLS, Connection, LoopFactory, Options

BUSY = 1e-3
"""Seconds of CPU time; about as much as all else that a client does."""

TIMED, REPEATED = 30_000, 30
"""Turns of a loop, about as many as one will have, and how often it is timed: some thirty milliseconds in all."""


def turns(seconds: float) -> int:
    """Return how many turns of the empty loop take so many seconds of CPU time, in this process and at this speed."""
    start = time.thread_time()
    for _ in range(REPEATED):
        _spin(TIMED)
    return round(seconds * TIMED * REPEATED / (time.thread_time() - start))


def _spin(count: int) -> None:
    for _ in range(count):
        pass


class Busy(AsyncioStreams):  # type: ignore[misc]  # mypy does not follow the mounted directory
    """Is busy for so many seconds; with 0 the same code has nothing to do."""

    def __init__(self, loop_factory: LoopFactory, seconds: float) -> None:
        super().__init__(loop_factory)
        self._turns = turns(seconds)

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        """Be busy, then connect."""
        _spin(self._turns)
        connection: Connection = await super().connect(address, tls=tls, options=options)
        return connection


backends = {
    "asyncio-idle": lambda: Busy(asyncio.new_event_loop, 0.0),
    "asyncio-busy": lambda: Busy(asyncio.new_event_loop, BUSY),
}
