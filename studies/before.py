"""A plug-in with every contender as it was before its backend was hardened against faults, to be a hidden arm.

The old modules are the repository's own, put where LOOPMARK_BEFORE says:
`git archive 49cba35 backends | tar --extract --directory "$LOOPMARK_BEFORE"`. The core around them is today's,
but for the loop that makes the connections of a client.
"""

import importlib
import os
import sys
from collections.abc import Callable

from loopmark.errors import UsageError
from loopmark.spi import Backend, Main, T
from loopmark.traffic import Target

REVISION = "49cba35"

_OLD = os.environ.get("LOOPMARK_BEFORE", "") + "/backends"
if not os.path.isdir(_OLD):  # noqa: PTH112  # measured processes import no pathlib for this
    raise UsageError(f"put backends/ of revision {REVISION} into a directory, and name that in LOOPMARK_BEFORE")
sys.path.insert(0, os.environ["LOOPMARK_BEFORE"])


async def _in_parts(backend: Backend, target: Target, *, connections: int, concurrency: int) -> int:
    """Make connections as the core did then, which had no `Backend.ask`."""
    connect, address, tls, options = backend.connect, target.address, target.tls, target.options
    parts, expected = target.talk.parts, target.talk.reply
    work = iter(range(connections))
    done: list[int] = []

    async def worker() -> None:
        replies = 0
        for _ in work:
            connection = await connect(address, tls=tls, options=options)
            try:
                reply = await connection.exchange(parts, None, 1)
            finally:
                await connection.close()
            if reply != expected:
                target.talk.check(reply)
            replies += 1
        done.append(replies)

    if concurrency == 1:
        await worker()
    else:
        await backend.gather(*[worker] * concurrency)
    return sum(done)


async def _without_end(_: Backend, _seconds: float, job: Main[T]) -> T:
    return await job()


def before(module: str, base: str, loop: str | None = None) -> Callable[[], Backend]:
    """Return a factory of an old backend, which imports its library only when it is made, like a contender."""

    def make() -> Backend:
        backend = getattr(importlib.import_module(f"backends.{module}"), base)
        members: dict[str, object] = {"churn": staticmethod(_in_parts)}
        if "within" in backend.__abstractmethods__:
            # Has become a part of the contract since, around what is not timed.
            members["within"] = _without_end
        backend = type(base, (backend,), members)
        made: Backend = backend(importlib.import_module(loop).new_event_loop) if loop else backend()
        return made

    return make


backends = {
    "before-trio": before("trio_streams", "TrioStreams"),
    "before-anyio+trio": before("anyio_streams", "AnyioOnTrio"),
    "before-blocking": before("blocking", "Blocking"),
}
for _loop in ("asyncio", "uvloop"):
    backends |= {
        f"before-{_loop}": before("asyncio_streams", "AsyncioStreams", _loop),
        f"before-{_loop}-protocol": before("asyncio_protocol", "AsyncioProtocol", _loop),
        f"before-{_loop}-sockets": before("asyncio_sockets", "AsyncioSockets", _loop),
        f"before-anyio+{_loop}": before("anyio_streams", "AnyioOnLoop", _loop),
    }
