"""A plug-in with a known difference: asyncio's streams whose client keeps the CPU busy for a while per connection.

`loopmark run --plugin studies/busy.py -b asyncio-busy` must find BUSY seconds of client CPU time more than asyncio's.
"""

import asyncio
import time

from loopmark.backends.asyncio_streams import AsyncioStreams

from loopmark.spi import Address, ClientTLS, Connection, Options

BUSY = 50e-6
"""Seconds of CPU time."""


class Busy(AsyncioStreams):  # type: ignore[misc]  # mypy does not follow the mounted directory
    """Loops by the thread's own CPU clock, so that it takes the same on a slow day and on a fast one."""

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        """Be busy, then connect."""
        end = time.thread_time() + BUSY
        while time.thread_time() < end:
            pass
        connection: Connection = await super().connect(address, tls=tls, options=options)
        return connection


backends = {"asyncio-busy": lambda: Busy(asyncio.new_event_loop)}
