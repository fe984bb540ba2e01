"""What every API level of asyncio shares: how a loop is run, and how things are awaited together."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cached_property
from typing import Any, ClassVar

from loopmark.spi import Backend, Feature, Limiter, Main, T

_MESSAGES = 20
"""How many different ones a loop logs while it serves."""


class AsyncioBase(Backend):
    """A backend on an asyncio-compatible loop.

    `api` is what its API level can do, `wants` which of the loop's methods that takes where not every loop has it.
    """

    api: ClassVar[frozenset[Feature]]
    wants: ClassVar[Mapping[Feature, str]] = {}

    @cached_property
    def features(self) -> frozenset[Feature]:  # type: ignore[override]  # computed once, when somebody asks
        """What the API has, less what the loop lacks."""
        with closing((self.loop_factory or asyncio.new_event_loop)()) as loop:
            return self.api - {feature for feature, method in self.wants.items() if _is_missing(loop, method)}

    def require(self, feature: Feature) -> None:
        """Raise NotImplementedError if the running loop lacks what this feature takes."""
        method = self.wants[feature]
        if _is_missing(asyncio.get_running_loop(), method):
            raise NotImplementedError(f"this loop has no {method}")

    def run(self, main: Main[T], /) -> T:
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            return runner.run(main())

    async def gather(self, *jobs: Main[None]) -> None:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def within(self, seconds: float, job: Main[T]) -> T:
        async with asyncio.timeout(seconds):
            return await job()

    def limiter(self, slots: int, /) -> Limiter:
        return asyncio.Semaphore(slots)


@contextmanager
def told_once() -> Iterator[None]:
    """Let the running loop tell once of what goes wrong again and again.

    Out of descriptors, asyncio tries to accept a whole backlog of connections at once, and logs each failure.
    """
    told = set[str]()

    def tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        message = str(context.get("message"))
        # Some messages have an address in them.
        if message not in told and len(told) < _MESSAGES:
            told.add(message)
            loop.default_exception_handler(context)

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(tell)
    try:
        yield
    finally:
        loop.set_exception_handler(None)


def _is_missing(loop: asyncio.AbstractEventLoop, method: str) -> bool:
    """Call a method of two arguments in vain: loops have methods that only raise NotImplementedError."""
    # Its first step is enough, and that needs no loop that runs.
    with closing(getattr(loop, method)(None, 1)) as coroutine:
        try:
            coroutine.send(None)
        except NotImplementedError:
            return True
        except Exception:  # noqa: BLE001  # it complains about its arguments, and so is there
            return False
    return False
