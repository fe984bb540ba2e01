"""What clauses of the contract are made of, and the ground on which each is checked."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import wraps
from typing import Generic, TypeVar

from loopmark.errors import TrafficError, translate
from loopmark.ledger import Counts, Ledger
from loopmark.listening import read_address
from loopmark.service import AnswerOnce, Service, Talk
from loopmark.spi import Address, Answer, Backend, ClientTLS, Connection, Feature, Options, Server, TLSProfile
from loopmark.testing.endpoint import PATIENCE, Endpoint
from loopmark.testing.peers import ReferenceServer, call, dial
from loopmark.tls import Identity, client_tls, server_context
from loopmark.traffic import Target, conversing

T = TypeVar("T")

PING, PONG = b"PING", b"PONG"

GO_AHEAD = b"+OK begin TLS\r\n"
"""What a server says in the clear before an upgrade, nothing of which looks like a TLS record."""

JOBS = 8
"""How many connections a client makes where it makes several."""

_OPTIONS = Options(handshake_timeout=20.0, close_timeout=20.0)
"""Longer than any clause may take, so that waiting for one is a failure, and not for ever."""


class BrokenContract(Exception):  # noqa: N818  # it is what a clause says, not an accident
    """A clause does not hold; the text says why."""


class NotApplicable(Exception):  # noqa: N818  # it is what a clause says, not an accident
    """A clause has nothing to say about this backend, or cannot be checked on this machine; the text says why."""


class Where(StrEnum):
    """In which settings a clause is checked, as far as the backend has the features."""

    FAMILIES = "plain TCP, every TLS version, and TLS after an upgrade, on IPv4 and on IPv6"
    ALL = "plain TCP, every TLS version, and TLS after an upgrade"
    TLS = "every TLS version, and TLS after an upgrade"
    UPGRADES = "every TLS version after an upgrade"
    ONCE = "the newest TLS version, or else plain TCP"
    ONCE_TLS = "the newest TLS version, at once and after an upgrade"
    ONCE_PLAIN = "plain TCP"
    DATAGRAMS = "datagrams on IPv4 and on IPv6"
    UNASKED = "one setting, whatever the backend says of itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A backend in one setting; `profile` None is plain TCP."""

    backend: Backend
    identity: Identity
    profile: TLSProfile | None
    host: str = "127.0.0.1"
    patience: float = PATIENCE
    options: Options = _OPTIONS
    datagrams: bool = False
    """Only for people."""
    in_parts: bool = False
    """Clients connect, exchange and close even where `ask` would do."""
    trying: list[str] = field(default_factory=list, compare=False)
    """What a clause is about to try, for its last words; settings that were made of each other share it."""

    def __str__(self) -> str:
        what = f"TLS {self.profile.version}" if self.profile else "datagrams" if self.datagrams else "plain TCP"
        upgraded = " after an upgrade" if self.options.go_ahead else ""
        return f"{what}{upgraded}, IPv{6 if ':' in self.host else 4}"

    def upgraded(self) -> "Ground":
        """Return the same setting, but that TLS begins after a go-ahead in the clear."""
        return replace(self, options=replace(self.options, go_ahead=GO_AHEAD))

    def client_tls(self) -> ClientTLS | None:
        """Make what a client needs, None for plain TCP."""
        return client_tls(self.profile, self.identity) if self.profile else None

    def server_context(self) -> ssl.SSLContext | None:
        """Make a server's context, None for plain TCP."""
        return server_context(self.profile, self.identity) if self.profile else None

    @contextmanager
    def reference_server(
        self, script: Callable[[Endpoint], object], context: ssl.SSLContext | None = None
    ) -> Iterator[ReferenceServer]:
        """Run a reference server in this setting; what a script raised breaks the clause."""
        context = context or self.server_context()
        go_ahead = self.options.go_ahead if context else b""
        server = ReferenceServer(script, host=self.host, context=context, go_ahead=go_ahead, patience=self.patience)
        try:
            with server:
                yield server
        except Exception as error:
            # What a script has seen comes before what its client made of the end.
            for fault in server.faults:
                if isinstance(fault, BrokenContract):
                    raise fault from error
            raise
        if server.faults:
            raise BrokenContract(f"the server met {_said(server.faults[0])}") from server.faults[0]

    def dial(self, address: Address, tls: ClientTLS | None = None) -> Endpoint:
        """Connect as a reference client in this setting, by default with a new client context."""
        tls = tls or self.client_tls()
        return dial(address, tls, go_ahead=self.options.go_ahead if tls else b"", patience=self.patience)

    def call(self, address: Address, tls: ClientTLS | None = None, *, request: bytes = PING) -> bytes:
        """Have one conversation as a reference client in this setting; return the reply."""
        tls = tls or self.client_tls()
        return call(address, tls, request, go_ahead=self.options.go_ahead if tls else b"", patience=self.patience)

    async def connect(self, address: Address, tls: ClientTLS | None = None) -> Connection:
        """Connect with the backend, by default with a new client context."""
        return await self.backend.connect(address, tls=tls or self.client_tls(), options=self.options)

    async def visit(
        self,
        address: Address,
        *,
        parts: Sequence[bytes] = (PING,),
        reply_size: int | None = None,
        rounds: int = 1,
        tls: ClientTLS | None = None,
    ) -> bytes:
        """Have one conversation on a new connection, as one that is timed."""
        talk = Talk(parts=tuple(parts), reply=b"", reply_size=reply_size, rounds=rounds)
        target = Target(address=address, talk=talk, tls=tls or self.client_tls(), options=self.options)
        if self.in_parts and talk.request is not None:
            # What every backend has inherited.
            return await Backend.ask(
                self.backend, address, talk.request, talk.at_a_time, tls=target.tls, options=self.options
            )
        return await conversing(self.backend, target, talk)()

    def serve(
        self,
        work: Callable[[Address, Ledger], T],
        *,
        service: Callable[[], Service] = lambda: AnswerOnce(PING, PONG),
        context: ssl.SSLContext | None = None,
        options: Options | None = None,
    ) -> T:
        """Serve with the backend while `work` runs in a thread; return or raise what it did."""
        ledger = Ledger(service)
        return self._serving(
            lambda: self.backend.serve(
                ledger.accept,
                Address(self.host, 0),
                tls=context or self.server_context(),
                options=options or self.options,
            ),
            ledger,
            work,
        )

    def serve_datagrams(self, work: Callable[[Address, Ledger], T], *, answer: Answer = lambda data: data) -> T:
        """Answer datagrams with the backend while `work` runs in a thread; return or raise what it did."""
        # The ledger is there for the facts: datagrams have no service.
        ledger = Ledger(lambda: AnswerOnce(PING, PONG))
        return self._serving(
            lambda: self.backend.serve_datagrams(answer, ledger.note, Address(self.host, 0)), ledger, work
        )

    def _serving(
        self,
        serve: Callable[[], AbstractAsyncContextManager[Server]],
        ledger: Ledger,
        work: Callable[[Address, Ledger], T],
    ) -> T:
        job = _Job(work)

        async def main() -> None:
            async with serve() as server:
                job.start(read_address(server), ledger)
                while job.is_alive():
                    await self.backend.sleep(0.002)

        self.backend.run(main)
        return job.result()

    def settle(self, ledger: Ledger, count: int) -> None:
        """Wait until `count` connections are open by the ledger's account."""
        self.await_counts(ledger, lambda now: now.open == count, f"{count} connections open")

    def await_counts(self, ledger: Ledger, reached: Callable[[Counts], bool], what: str) -> None:
        """Wait until the ledger's counters are as they should be."""
        end = time.monotonic() + self.patience
        while not reached(now := ledger.counts()):
            expect(time.monotonic() < end, f"{what} should be counted, but {now} are")
            time.sleep(0.001)


class _Job(threading.Thread, Generic[T]):
    """A thread with a result."""

    def __init__(self, work: Callable[[Address, Ledger], T]) -> None:
        super().__init__(name="reference client", daemon=True)
        self._work = work
        self._result: list[T] = []
        self._error: BaseException | None = None

    def start(self, address: Address, ledger: Ledger) -> None:  # type: ignore[override]  # what to work on is known late
        self._address, self._ledger = address, ledger
        super().start()

    def run(self) -> None:
        try:
            self._result.append(self._work(self._address, self._ledger))
        except BaseException as error:  # noqa: BLE001  # it is raised again in the clause's thread
            self._error = error

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One promise of the contract, with the function that checks it, and the feature that it is about if any."""

    check: Callable[[Ground], None]
    where: Where
    needs: Feature | None = None

    @property
    def name(self) -> str:
        """The function's name."""
        return self.check.__name__

    @property
    def promise(self) -> str:
        """What is promised, as one sentence."""
        return (self.check.__doc__ or "").strip()


def both_ways(check: Callable[[Ground], None]) -> Callable[[Ground], None]:
    """Check a client twice: by `ask`, if it has one of its own, and by `connect`, `exchange` and `close`."""

    @wraps(check)
    def check_both(at: Ground) -> None:
        check(at)
        if type(at.backend).ask is not Backend.ask:
            check(replace(at, in_parts=True))

    return check_both


def clause(where: Where, *, needs: Feature | None = None) -> Callable[[Callable[[Ground], None]], Clause]:
    """Make a function a clause: its name is the clause's, its docstring the promise."""
    return lambda check: Clause(check=check, where=where, needs=needs)


def expect(holds: bool, otherwise: str) -> None:
    """Raise BrokenContract unless it holds."""
    if not holds:
        raise BrokenContract(otherwise)


def leaves(error: BaseException | None) -> Iterator[BaseException | None]:
    """Yield what a library wrapped into groups."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from leaves(member)
    else:
        yield error


def failure(backend: Backend, main: Callable[[], object], instead: str) -> TrafficError:
    """Run what must fail and return how it did; `instead` says what happened if it does not."""
    try:
        backend.run(main)  # type: ignore[arg-type]  # a coroutine function
    except Exception as error:  # noqa: BLE001  # a backend lets any exception of its library fly
        return translate(error)
    raise BrokenContract(instead)


def pong(peer: Endpoint) -> None:
    """Answer PING with PONG, then close_notify and FIN: what most clauses' server does."""
    request = peer.read(len(PING))
    expect(request == PING, f"the server got {request!r} instead of {PING!r}")
    peer.send(PONG)
    peer.finish()


@contextmanager
def calling() -> Iterator[list[Endpoint]]:
    """Collect reference clients that are closed in the end, whatever happens."""
    clients: list[Endpoint] = []
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
