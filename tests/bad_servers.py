"""A plug-in of servers with one weakness each, made from a sound one: asyncio's streams with little around them."""

import asyncio
import contextlib
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from loopmark.backends.asyncio_streams import AsyncioStreams

from loopmark import tls
from loopmark.service import Then
from loopmark.spi import Accept, Address, Feature, Options, Server


class Sound(AsyncioStreams):  # type: ignore[misc]  # it is mounted, see pyproject.toml
    """What the others change; without upgrades, so that there is less of it."""

    api: ClassVar = frozenset({Feature.TCP, Feature.TLS})

    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        self.kept: list[object] = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            service = accept(lambda: None)  # type: ignore[arg-type, return-value]  # nobody asks
            try:
                while True:
                    reply = service.receive(await reader.read(65536))
                    writer.write(reply.data)
                    if reply.then is Then.CLOSE:
                        break
                if service.failure is not None:
                    self.met()
            except OSError as error:
                self.met()
                self.tell(service, error)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        self.server = await asyncio.start_server(
            handle,
            *address,
            ssl=tls,
            backlog=options.backlog,
            ssl_handshake_timeout=self.patience(options.handshake_timeout) if tls else None,
            ssl_shutdown_timeout=self.patience(options.close_timeout) if tls else None,
        )
        asyncio.get_running_loop().set_exception_handler(self.trouble)
        async with self.server:
            yield Server(listeners=tuple(self.server.sockets))

    def patience(self, seconds: float) -> float:
        return seconds

    def tell(self, service: Any, error: OSError) -> None:
        service.lost(error)

    def met(self) -> None:
        """Be told of a bad peer."""

    def trouble(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Be told of what asyncio would log."""


class Dies(Sound):
    def met(self) -> None:
        os._exit(1)


class Hangs(Sound):
    def patience(self, seconds: float) -> float:
        return 100 * seconds


class KeepsSockets(Sound):
    def met(self) -> None:
        self.kept.append(socket.socket())


class KeepsTasks(Sound):
    def met(self) -> None:
        self.kept.append(asyncio.create_task(asyncio.Event().wait()))


class KeepsObjects(Sound):
    def met(self) -> None:
        self.kept.append([[] for _ in range(5)])


class KeepsMemory(Sound):
    def met(self) -> None:
        self.kept.append(b"x" * (1 << 20))


class Talks(Sound):
    def met(self) -> None:
        sys.stderr.write("somebody was bad; " * 40)


class Forgets(Sound):
    def tell(self, service: Any, error: OSError) -> None:
        pass


class MixesUp(Sound):
    def tell(self, service: Any, error: OSError) -> None:
        service.lost(TimeoutError())


class LosesCount(Sound):
    def patience(self, seconds: float) -> float:
        tls.unfinished = lambda context: 0
        return seconds


class GivesUp(Sound):
    def trouble(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "socket" in context:
            os._exit(1)


class TalksInTheClear(Talks):
    """Without TLS, so that there is little to check."""

    api: ClassVar = frozenset({Feature.TCP})


backends = {
    "sound": Sound,
    "talks_in_the_clear": TalksInTheClear,
    "dies": Dies,
    "hangs": Hangs,
    "keeps_sockets": KeepsSockets,
    "keeps_tasks": KeepsTasks,
    "keeps_objects": KeepsObjects,
    "keeps_memory": KeepsMemory,
    "talks": Talks,
    "forgets": Forgets,
    "mixes_up": MixesUp,
    "loses_count": LosesCount,
    "gives_up": GivesUp,
}
