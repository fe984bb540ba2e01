"""Hand-written ping-pongs as hidden arms: a contender must not be slower than the code that anybody would write.

A plug-in for `loopmark run --plugin tests/handwritten/yardsticks.py --hidden hand-asyncio,...`, which is what the study
`by-hand` does.
"""

import importlib
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from loopmark.spi import Server

sys.path.insert(0, str(Path(__file__).parent))


def yardstick(module, base, loop=None):
    """Return a factory of `base` with hand-written server and client.

    Like a contender it imports its own library only, and only when it is made: other imports would move the heap.
    """

    def make():
        backend = getattr(importlib.import_module(f"loopmark.backends.{module}"), base)
        by_hand = importlib.import_module(module)

        class Yardstick(backend):
            yardstick = True

            @asynccontextmanager
            async def serve(self, accept, address, *, tls, options):
                async with by_hand.serve(address, tls, options.backlog) as sockets:
                    yield Server(listeners=tuple(sockets))

            @staticmethod
            async def churn(backend, target, *, connections, concurrency):
                tls = target.tls
                context, name = (tls.context, tls.server_name) if tls else (None, None)
                return await by_hand.client(target.address, context, name, connections, concurrency)

        return Yardstick(importlib.import_module(loop).new_event_loop) if loop else Yardstick()

    return make


backends = {
    "hand-trio": yardstick("trio_streams", "TrioStreams"),
    "hand-anyio+trio": yardstick("anyio_streams", "AnyioOnTrio"),
    "hand-blocking": yardstick("blocking", "Blocking"),
}
for _loop in ("asyncio", "uvloop"):
    backends |= {
        f"hand-{_loop}": yardstick("asyncio_streams", "AsyncioStreams", _loop),
        f"hand-{_loop}-protocol": yardstick("asyncio_protocol", "AsyncioProtocol", _loop),
        f"hand-{_loop}-sockets": yardstick("asyncio_sockets", "AsyncioSockets", _loop),
        f"hand-anyio+{_loop}": yardstick("anyio_streams", "AnyioOnLoop", _loop),
    }
