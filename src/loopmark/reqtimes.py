"""Requests one by one, each with a clock and a verdict of its own: what people look at, and nothing to compare with.

The clocks cost something on the timed path. Values that are compared come from `loopmark.traffic`, which has none.
"""

import time
from collections import Counter

from loopmark.errors import FactsError, Kind, kind_of
from loopmark.http1 import read_response
from loopmark.spi import Backend
from loopmark.timings import Timings
from loopmark.traffic import Target, conversing


async def request_timings(backend: Backend, target: Target, *, connections: int, concurrency: int) -> Timings:
    """Make `connections` HTTP requests, `concurrency` at a time, each on a new connection; failures are counted.

    The target's talks take turns.
    """
    talks = [(conversing(backend, target, talk), talk) for talk in (target.talk, *target.others)]
    work = iter(range(connections))
    clock = time.perf_counter
    right: list[tuple[float, int]] = []
    statuses: list[int] = []
    failed: list[Kind] = []

    async def worker() -> None:
        for number in work:
            converse, talk = talks[number % len(talks)]
            start = clock()
            try:
                reply = await converse()
                end = clock()
                response = read_response(reply)
                statuses.append(response.status)
                if reply != talk.reply:
                    talk.check(reply)
            except Exception as error:  # noqa: BLE001  # a backend lets any exception of its library fly
                failed.append(kind_of(error))
            else:
                right.append((end - start, len(response.body)))

    begin = clock()
    await backend.gather(*[worker] * concurrency)
    wall = clock() - begin
    if (made := len(right) + len(failed)) != connections:
        raise FactsError(f"gather returned after {made} of {connections} requests")
    return Timings(
        concurrency=concurrency,
        wall=wall,
        seconds=tuple(seconds for seconds, _ in right),
        lengths=tuple(length for _, length in right),
        statuses=Counter(statuses),
        failed=Counter(map(str, failed)),
    )
