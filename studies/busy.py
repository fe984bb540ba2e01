"""A plug-in with a known difference: asyncio's streams whose client is busy for a while before each connection.

`loopmark run --plugin studies/busy.py --baseline asyncio-short -b asyncio-long` must find DIFFERENCE seconds of client
CPU time between the two, and what a longer loop does to the caches of what comes after it (`pause.py`). Both are busy,
so that as much as possible of that is on both sides, and both read the same clock as often as they like.
"""

import asyncio
import time

from loopmark.backends.asyncio_streams import AsyncioStreams

from loopmark.spi import Address, ClientTLS, Connection, LoopFactory, Options

SHORT, LONG = 0.5e-3, 1e-3
"""Seconds of CPU time; all else that a client does for a connection takes about as long."""

DIFFERENCE = LONG - SHORT


class Busy(AsyncioStreams):  # type: ignore[misc]  # mypy does not follow the mounted directory
    """Is busy for so many seconds, by the clock of the thread's own CPU time: true at any speed of the machine."""

    def __init__(self, loop_factory: LoopFactory, seconds: float) -> None:
        super().__init__(loop_factory)
        self._seconds = seconds

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        """Be busy, then connect."""
        end = time.thread_time() + self._seconds
        while time.thread_time() < end:
            pass
        connection: Connection = await super().connect(address, tls=tls, options=options)
        return connection


backends = {
    "asyncio-short": lambda: Busy(asyncio.new_event_loop, SHORT),
    "asyncio-long": lambda: Busy(asyncio.new_event_loop, LONG),
}
