"""Hand-written ping-pongs as hidden arms: a contender must not be slower than the code that anybody would write.

A plug-in for `loopmark run --plugin tests/handwritten/yardsticks.py --hidden hand-asyncio,...`, which is what
`nox -s yardsticks` does.
"""

import asyncio
import importlib
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from loopmark.backends.anyio_streams import AnyioOnLoop, AnyioOnTrio
from loopmark.backends.asyncio_protocol import AsyncioProtocol
from loopmark.backends.asyncio_sockets import AsyncioSockets
from loopmark.backends.asyncio_streams import AsyncioStreams
from loopmark.backends.blocking import Blocking
from loopmark.backends.trio_streams import TrioStreams

from loopmark.spi import Server

sys.path.insert(0, str(Path(__file__).parent))


def yardstick(base, module, loop=None):
    """Return a factory of `base` with hand-written server and client; imported when it is made, as contenders are."""

    def make():
        by_hand = importlib.import_module(module)

        class Yardstick(base):
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

        return Yardstick(new_loop(loop)) if loop else Yardstick()

    return make


def new_loop(name):
    return importlib.import_module(name).new_event_loop if name != "asyncio" else asyncio.new_event_loop


backends = {
    "hand-trio": yardstick(TrioStreams, "trio_streams"),
    "hand-anyio+trio": yardstick(AnyioOnTrio, "anyio_streams"),
    "hand-blocking": yardstick(Blocking, "blocking"),
}
for _loop in ("asyncio", "uvloop"):
    backends |= {
        f"hand-{_loop}": yardstick(AsyncioStreams, "asyncio_streams", _loop),
        f"hand-{_loop}-protocol": yardstick(AsyncioProtocol, "asyncio_protocol", _loop),
        f"hand-{_loop}-sockets": yardstick(AsyncioSockets, "asyncio_sockets", _loop),
        f"hand-anyio+{_loop}": yardstick(AnyioOnLoop, "anyio_streams", _loop),
    }
