"""Backends with one fault each, and the clause that must catch it."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from loopmark.service import PIECE, File, Reply, Service, Then
from loopmark.spi import Accept, Address, Backend, ClientTLS, Connection, Facts, Feature, Main, Options, Server, T

if TYPE_CHECKING:
    # Where they lie in a checkout; type checkers do not follow the mount.
    from backends.asyncio_sockets import AsyncioSockets
    from backends.asyncio_streams import AsyncioStreams
    from backends.blocking import Blocking
else:
    from loopmark.backends.asyncio_sockets import AsyncioSockets
    from loopmark.backends.asyncio_streams import AsyncioStreams
    from loopmark.backends.blocking import Blocking


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A faulty backend, the sound one it was made from, the clause that catches it and a part of what that says."""

    backend: type[Backend]
    sound: type[Backend]
    clause: str
    because: str
    deadline: float
    """Seconds that the clause may take."""

    def make(self) -> Backend:
        return _make(self.backend)

    def make_sound(self) -> Backend:
        return _make(self.sound)


def _make(backend: type[Backend]) -> Backend:
    return backend(asyncio.new_event_loop) if issubclass(backend, AsyncioStreams | AsyncioSockets) else backend()


BROKEN: list[Broken] = []


SOON = 4.0
"""Seconds: less than some broken backends wait, and the reference peers wait for half of it."""


def caught_by(clause: str, because: str, *, deadline: float = 8.0) -> Callable[[type[Backend]], type[Backend]]:
    def note(backend: type[Backend]) -> type[Backend]:
        sound = backend.__mro__[1]
        BROKEN.append(Broken(backend=backend, sound=sound, clause=clause, because=because, deadline=deadline))
        return backend

    return note


# A client and a server of blocking sockets in pieces, each of which can be broken. Whole they keep the contract.


class Line(Connection):
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        reply = b""
        for _ in range(rounds):
            for part in parts:
                if part:
                    self.send(part)
                else:
                    self.end()
            reply = self.receive(reply_size)
        return reply

    def end(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def send(self, part: bytes) -> None:
        self.sock.sendall(part)

    def receive(self, size: int | None) -> bytes:
        reply = b""
        while size is None or len(reply) < size:
            data = self.sock.recv(65536 if size is None else size - len(reply))
            if not data:
                if size is not None:
                    self.early_end()
                break
            reply += data
        return reply

    def early_end(self) -> None:
        raise EOFError

    async def close(self) -> None:
        with contextlib.closing(self.sock):
            self.goodbye()

    def goodbye(self) -> None:
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.unwrap()

    def facts(self) -> Facts:
        tls = self.sock if isinstance(self.sock, ssl.SSLSocket) else None
        return Facts.read(loop="none", transport=self.sock, sock=self.sock, tls=tls)


class Pieces(Blocking):
    line: ClassVar[type[Line]] = Line

    def __init__(self) -> None:
        super().__init__()
        self.left: list[socket.socket] = []
        self.listener: socket.socket
        self.connections: set[socket.socket] = set()
        self.threads: list[threading.Thread] = []
        self.leaving = False

    def clean(self) -> None:
        """Close what a leaking one has left."""
        for sock in self.left:
            sock.close()

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Line:
        connection = await super().connect(address, tls=tls, options=options)
        return self.line(connection._sock)  # type: ignore[attr-defined]  # the parent's own kind

    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.listener = socket.create_server(address, family=family, backlog=options.backlog)
        self.connections, self.threads = set(), []
        self.leaving = False

        def handle(sock: socket.socket) -> None:
            if tls is not None and options.go_ahead:
                try:
                    sock = self.upgrade(sock, tls, options)
                except OSError as error:
                    self.met(error)
                    return
            session = self.meet(accept, sock)
            try:
                try:
                    self.handshake(sock)
                    while True:
                        reply = self.feed(session, self.read(sock))
                        self.send(sock, reply.data)
                        if reply.file is not None:
                            self.send_file(sock, session, reply.file)
                        if reply.then is Then.CLOSE:
                            break
                    self.end(sock, options)
                except OSError as error:
                    self.lost(session, error)
            finally:
                self.connections.discard(sock)
                sock.close()

        def accept_forever() -> None:
            while True:
                try:
                    plain, _ = self.listener.accept()
                except OSError:
                    return
                try:
                    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.nodelay)
                    sock = plain if tls is None or options.go_ahead else self.wrap(plain, tls)
                except OSError as error:
                    plain.close()
                    self.met(error)
                    continue
                sock.settimeout(self.patience(options))
                self.connections.add(sock)
                self.begin(handle, sock)

        acceptor = threading.Thread(target=accept_forever, daemon=True)
        acceptor.start()
        try:
            yield Server(listeners=(self.listener,))
        finally:
            hang_up(self.listener)
            acceptor.join()
            self.leaving = True  # a connection that is being upgraded is not among those dropped
            self.drop()
            for thread in self.threads:
                thread.join()
            self.stop_listening()

    def wrap(self, sock: socket.socket, tls: ssl.SSLContext) -> socket.socket:
        return tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False)

    def upgrade(self, plain: socket.socket, tls: ssl.SSLContext, options: Options) -> socket.socket:
        sock = plain
        try:
            self.invite(plain, options.go_ahead)
            self.connections.discard(plain)
            sock = self.wrap(plain, tls)
            self.connections.add(sock)
            if self.leaving:
                hang_up(sock)
            self.handshake(sock)
        except OSError:
            self.connections.discard(sock)
            self.drop_one(sock)
            raise
        return sock

    def invite(self, sock: socket.socket, go_ahead: bytes) -> None:
        sock.sendall(go_ahead)

    def drop_one(self, sock: socket.socket) -> None:
        sock.close()

    def patience(self, options: Options) -> float:
        return options.handshake_timeout

    def begin(self, handle: Callable[[socket.socket], None], sock: socket.socket) -> None:
        self.threads.append(threading.Thread(target=handle, args=(sock,), daemon=True))
        self.threads[-1].start()

    def meet(self, accept: Accept, sock: socket.socket) -> Service:
        return accept(Line(sock).facts)

    def handshake(self, sock: socket.socket) -> None:
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()

    def read(self, sock: socket.socket) -> bytes:
        return sock.recv(65536)

    def feed(self, session: Service, data: bytes) -> Reply:
        return session.receive(data)

    def send(self, sock: socket.socket, data: bytes) -> None:
        sock.sendall(data)

    def send_file(self, sock: socket.socket, session: Service, file: File) -> None:
        with open(file.path, "rb") as stream:  # noqa: PTH123  # as in the backends
            sent = sock.sendfile(stream, 0, file.size) if file.zero_copy else self.copy(sock, stream, file.size)
        self.after_file(session, file, sent)

    def copy(self, sock: socket.socket, stream: BinaryIO, size: int) -> int:
        sent = 0
        while sent < size and (piece := stream.read(min(PIECE, size - sent))):
            sock.sendall(piece)
            sent += len(piece)
        return sent

    def after_file(self, session: Service, file: File, sent: int) -> None:
        file.expect(sent)
        session.sent()

    def end(self, sock: socket.socket, options: Options) -> None:
        if isinstance(sock, ssl.SSLSocket):
            sock.settimeout(options.close_timeout)
            sock.unwrap()

    def lost(self, session: Service, error: OSError) -> None:
        self.met(error)
        session.lost(error)

    def met(self, error: OSError) -> None:
        """Hear of every error, so that something can die of it."""

    def drop(self) -> None:
        for sock in tuple(self.connections):
            hang_up(sock)

    def stop_listening(self) -> None:
        self.listener.close()


def hang_up(sock: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


# run, sleep, features


@caught_by("run_returns_the_value", "something else")
class LosesTheValue(Blocking):
    def run(self, main: Main[T], /) -> T:
        super().run(main)
        return None  # type: ignore[return-value]  # the fault


@caught_by("run_lets_exceptions_through", "run raised RuntimeError")
class ReplacesExceptions(Blocking):
    def run(self, main: Main[T], /) -> T:
        try:
            return super().run(main)
        except Exception as error:
            raise RuntimeError("it failed") from error


@caught_by("run_makes_a_fresh_loop", "asked the factory for 0 loops")
class IgnoresTheLoopFactory(AsyncioStreams):
    def run(self, main: Main[T], /) -> T:
        with asyncio.Runner() as runner:
            return runner.run(main())


@caught_by("run_makes_a_fresh_loop", "asked the factory for 1 loops")
class ReusesItsLoop(AsyncioStreams):
    _loop: Any = None

    def run(self, main: Main[T], /) -> T:
        if self._loop is None:
            assert self.loop_factory is not None
            self._loop = self.loop_factory()
        result: T = self._loop.run_until_complete(main())
        return result

    def __del__(self) -> None:
        if self._loop is not None:
            self._loop.close()


@caught_by("run_makes_a_fresh_loop", "not closed")
class LeavesItsLoopOpen(AsyncioStreams):
    def run(self, main: Main[T], /) -> T:
        assert self.loop_factory is not None
        loop = self.loop_factory()
        self._loops = [*getattr(self, "_loops", []), loop]
        result: T = loop.run_until_complete(main())
        return result

    def __del__(self) -> None:
        for loop in getattr(self, "_loops", []):
            loop.close()


@caught_by("sleep_lets_others_run", "nothing ran")
class SleepsOnItsLoop(AsyncioStreams):
    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251  # the fault


@caught_by("features_are_honest", "tls is declared, and connect is refused")
class BoastsOfTLS(AsyncioSockets):
    features = frozenset({Feature.TCP, Feature.TLS})


@caught_by("features_are_honest", "tls is not declared, and connect works")
class HidesItsTLS(Blocking):
    features = frozenset({Feature.TCP})


@caught_by("features_are_honest", "tls is not declared, and connect does something else")
class DoesWithoutTLS(AsyncioSockets):
    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        return await super().connect(address, tls=None, options=options)


# The client: what it makes of contexts, connections and options


@caught_by("client_converses", "2 connections instead of 1")
class DialsTwice(Blocking):
    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        connection = await super().connect(address, tls=tls, options=options)
        await connection.exchange((b"PING",), None, 1)
        await connection.close()
        return await super().connect(address, tls=tls, options=options)


def _unverified(tls: ClientTLS | None) -> ClientTLS | None:
    if tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return replace(tls, context=context)


@caught_by("client_refuses_an_unknown_authority", "was accepted")
class SkipsVerification(Blocking):
    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        return await super().connect(address, tls=_unverified(tls), options=options)


@caught_by("client_refuses_an_unknown_authority", "was accepted")
class SkipsVerificationInParts(Blocking):
    # Sound, so that only who does not ask meets the fault.
    ask = Blocking.ask

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        return await super().connect(address, tls=_unverified(tls), options=options)


@caught_by("client_refuses_a_wrong_name", "was accepted")
class SkipsTheName(Blocking):
    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        if tls is not None:
            tls.context.check_hostname = False
        return await super().connect(address, tls=tls, options=options)


@caught_by("client_uses_the_given_context", "another context")
class IgnoresTheContext(Blocking):
    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=b"".join(tls.context.get_ca_certs(binary_form=True)))
            tls = ClientTLS(context=context, server_name=tls.server_name)
        return await super().connect(address, tls=tls, options=options)


class _Pooled(Line):
    async def close(self) -> None:
        pass


@caught_by("client_connects_afresh", "8 connects made 1 connections")
class ReusesConnections(Pieces):
    line = _Pooled
    _pool: Line | None = None

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Line:
        if self._pool is None:
            self._pool = await super().connect(address, tls=tls, options=options)
            self.left.append(self._pool.sock)
        return self._pool


@caught_by("client_connects_afresh", "resumed a session")
class ResumesSessions(Blocking):
    _session: ssl.SSLSession | None = None

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        if tls is None:
            return await super().connect(address, tls=tls, options=options)
        sock = tls.context.wrap_socket(
            socket.create_connection(address), server_hostname=tls.server_name, session=self._session
        )
        keep = self

        class Resumable(Line):
            def receive(self, size: int | None) -> bytes:
                reply = super().receive(size)
                assert isinstance(self.sock, ssl.SSLSocket)
                keep._session = self.sock.session
                return reply

        return Resumable(sock)


@caught_by("client_gives_up_on_a_silent_server", "took too long", deadline=SOON)
class WaitsLongForHandshakes(Blocking):
    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        return await super().connect(address, tls=tls, options=replace(options, handshake_timeout=3))


@caught_by("client_sets_nodelay", "TCP_NODELAY is off")
class DelaysAsClient(Blocking):
    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        return await super().connect(address, tls=tls, options=replace(options, nodelay=False))


@caught_by("client_facts_are_true", "TCP_NODELAY is told as True, and is False")
class LiesAboutNodelay(DelaysAsClient):
    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        connection = await super().connect(address, tls=tls, options=options)
        connection.facts = lambda: replace(type(connection).facts(connection), nodelay=True)  # type: ignore[method-assign]  # the fault
        return connection


# The client: what it makes of a conversation


class _OneRound(Line):
    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        return await super().exchange(parts, reply_size, 1)


@caught_by("client_repeats_its_rounds", "EOFError")
class HasOneRound(Pieces):
    line = _OneRound


class _Unopened(Line):
    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        return await super().exchange(parts[1:], reply_size, rounds)


@caught_by("client_repeats_its_rounds", "EOFError")
class ForgetsItsFirstPart(Pieces):
    line = _Unopened


# The client: whole conversations, where their parts are sound


class _Asks(Blocking):
    """Has conversations of one request by itself; whole it keeps the contract."""

    nodelay = True

    async def ask(
        self, address: Address, request: bytes, at_a_time: int, *, tls: ClientTLS | None, options: Options
    ) -> bytes:
        if options.go_ahead:
            return await super().ask(address, request, at_a_time, tls=tls, options=options)
        plain = socket.create_connection(address, timeout=options.handshake_timeout)
        if self.nodelay:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.nodelay)
        with plain if tls is None else self.secure(plain, tls) as sock:
            sock.sendall(request)
            reply = self.read(sock, at_a_time)
            self.goodbye(sock)
        return reply

    def secure(self, sock: socket.socket, tls: ClientTLS) -> ssl.SSLSocket:
        try:
            return tls.context.wrap_socket(sock, server_hostname=tls.server_name, suppress_ragged_eofs=False)
        except BaseException:
            sock.close()
            raise

    def read(self, sock: socket.socket, at_a_time: int) -> bytes:
        reply = b""
        while data := sock.recv(at_a_time):
            reply += data
        return reply

    def goodbye(self, sock: socket.socket) -> None:
        if isinstance(sock, ssl.SSLSocket):
            sock.unwrap()


@caught_by("client_refuses_an_unknown_authority", "was accepted")
class AsksAnybody(_Asks):
    def secure(self, sock: socket.socket, tls: ClientTLS) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return super().secure(sock, replace(tls, context=context))


@caught_by("client_uses_the_given_context", "the names asked for are")
class AsksForNoName(_Asks):
    def secure(self, sock: socket.socket, tls: ClientTLS) -> ssl.SSLSocket:
        tls.context.check_hostname = False
        return tls.context.wrap_socket(sock, suppress_ragged_eofs=False)


@caught_by("client_reads_to_the_end", "before the end came")
class AsksForOneChunk(_Asks):
    def read(self, sock: socket.socket, at_a_time: int) -> bytes:
        return sock.recv(at_a_time)


@caught_by("client_reports_a_reset", "was returned as the reply")
class AsksAndIgnoresResets(_Asks):
    def read(self, sock: socket.socket, at_a_time: int) -> bytes:
        reply = b""
        with suppress(OSError):
            while data := sock.recv(at_a_time):
                reply += data
        return reply


@caught_by("client_says_goodbye", "instead of close_notify")
class AsksAndLeaves(_Asks):
    def goodbye(self, sock: socket.socket) -> None:
        pass


@caught_by("client_sets_nodelay", "TCP_NODELAY is off")
class AsksAndDelays(_Asks):
    nodelay = False


@caught_by("client_returns_each_reply", "the server counted")
class CachesReplies(Pieces):
    def __init__(self) -> None:
        super().__init__()
        cache: dict[tuple[bytes, ...], bytes] = {}

        class Cached(Line):
            async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
                reply = await super().exchange(parts, reply_size, rounds)
                return cache.setdefault(tuple(parts), reply)

        self.line = Cached  # type: ignore[misc]  # a cache for each


class _Truncates(Line):
    def send(self, part: bytes) -> None:
        self.sock.sendall(part[:65536])


@caught_by("client_sends_everything_in_order", "EOFError")
class TruncatesRequests(Pieces):
    line = _Truncates


class _Impatient(Line):
    def receive(self, size: int | None) -> bytes:
        return self.sock.recv(65536 if size is None else size)


@caught_by("client_waits_for_the_whole_reply", "content with 1 of 4 bytes")
class IsContentWithLess(Pieces):
    line = _Impatient


class _OneChunk(Line):
    def receive(self, size: int | None) -> bytes:
        return self.sock.recv(65536) if size is None else super().receive(size)


@caught_by("client_reads_to_the_end", "of 320072 bytes")
class ReadsOneChunk(Pieces):
    line = _OneChunk


class _Lenient(Line):
    def early_end(self) -> None:
        pass


@caught_by("client_reports_an_early_end", "a cut reply was returned")
class IgnoresEarlyEnds(Pieces):
    line = _Lenient


class _Deaf(Line):
    def receive(self, size: int | None) -> bytes:
        try:
            return super().receive(size)
        except ConnectionError:
            return b""


@caught_by("client_reports_a_reset", "before a reset")
class IgnoresResets(Pieces):
    line = _Deaf


class _Rude(Line):
    def goodbye(self) -> None:
        pass


@caught_by("client_says_goodbye", "FIN without close_notify instead of close_notify")
class LeavesWithoutGoodbye(Pieces):
    line = _Rude


class _Clinging(Line):
    def goodbye(self) -> None:
        super().goodbye()
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
            while socket.socket.recv(self.sock, 65536):
                pass


@caught_by("client_waits_for_nobody_to_close", "waits in close")
class WaitsForTheServerToClose(Pieces):
    line = _Clinging


class _Hasty(Line):
    def receive(self, size: int | None) -> bytes:
        if not isinstance(self.sock, ssl.SSLSocket):
            self.sock.shutdown(socket.SHUT_WR)
        return super().receive(size)


@caught_by("client_keeps_the_close_policy", "the first FIN came from the client")
class ClosesFirst(Pieces):
    line = _Hasty


class _HastyWithTLS(Line):
    def receive(self, size: int | None) -> bytes:
        if isinstance(self.sock, ssl.SSLSocket):
            patience = self.sock.gettimeout()
            self.sock.settimeout(0)
            self.goodbye()
            self.sock.settimeout(patience)
        try:
            return super().receive(size)
        except ssl.SSLError:
            return b""

    def goodbye(self) -> None:
        # OpenSSL does not like it either, and says so in several ways.
        with suppress(ssl.SSLError, ValueError):
            super().goodbye()


# Whose close_notify the witness sees first, and whether a reset follows, is a race.
@caught_by("client_keeps_the_close_policy", "close_notify")
class SaysGoodbyeFirst(Pieces):
    line = _HastyWithTLS


class _Boasting(Line):
    def facts(self) -> Facts:
        facts = super().facts()
        return replace(facts, cipher=facts.cipher and "TLS_AES_128_CCM_8_SHA256")


@caught_by("client_facts_are_true", "the cipher is told as TLS_AES_128_CCM_8_SHA256")
class LiesAboutItsCipher(Pieces):
    line = _Boasting


@caught_by("client_leaves_nothing_behind", "descriptors are left open")
class LeaksSockets(Pieces):
    def __init__(self) -> None:
        super().__init__()
        left = self.left

        class Leaking(Line):
            async def close(self) -> None:
                self.goodbye()
                hang_up(self.sock)
                left.append(self.sock)

        self.line = Leaking  # type: ignore[misc]  # a list for each


class _Dropped(Line):
    async def close(self) -> None:
        self.goodbye()
        hang_up(self.sock)


@caught_by("client_leaves_nothing_behind", "were not closed")
class LeavesSocketsToTheCollector(Pieces):
    line = _Dropped


@caught_by("client_leaves_nothing_behind", "threads are left")
class LeaksThreads(Pieces):
    def __init__(self) -> None:
        super().__init__()
        self._end = threading.Event()

    def run(self, main: Main[T], /) -> T:
        threading.Thread(target=self._end.wait, daemon=True, name="leak").start()
        return super().run(main)

    def clean(self) -> None:
        self._end.set()


@caught_by("gather_runs_all_at_once", "1 connections were open instead of 8")
class SerialisesGather(Blocking):
    async def gather(self, *jobs: Main[None]) -> None:
        for job in jobs:
            await job()


@caught_by("gather_raises_the_first_failure", "gather swallowed")
class SwallowsFailures(Blocking):
    async def gather(self, *jobs: Main[None]) -> None:
        with suppress(Exception):
            await super().gather(*jobs)


@caught_by("gather_raises_the_first_failure", "outlived the failure")
class LetsJobsOutliveAFailure(AsyncioStreams):
    async def gather(self, *jobs: Main[None]) -> None:
        await asyncio.gather(*(job() for job in jobs))


@caught_by("within_ends_what_takes_too_long", "a job that never ends has ended")
class HasAllTheTime(Blocking):
    async def within(self, seconds: float, job: Main[T]) -> T:
        return await job()


# The server


@caught_by("server_converses", "the stream did not end")
class NeverCloses(Pieces):
    def end(self, sock: socket.socket, options: Options) -> None:
        super().read(sock)


@caught_by("server_holds_many", "20 connections open should be counted")
class ServesOneAtATime(Pieces):
    def begin(self, handle: Callable[[socket.socket], None], sock: socket.socket) -> None:
        handle(sock)


@caught_by("server_holds_nobody_up", "TimeoutError")
class ShakesHandsOneAtATime(Pieces):
    def begin(self, handle: Callable[[socket.socket], None], sock: socket.socket) -> None:
        with suppress(OSError):
            Pieces.handshake(self, sock)
        super().begin(handle, sock)

    def handshake(self, sock: socket.socket) -> None:
        """It is done already."""


@caught_by("server_accepts_once", "4 connections were accepted 8 times")
class AcceptsTwice(Pieces):
    def meet(self, accept: Accept, sock: socket.socket) -> Service:
        super().meet(accept, sock).lost(None)
        return super().meet(accept, sock)


@caught_by("server_accepts_once", "fed other bytes")
class FeedsTooMuch(Pieces):
    def feed(self, session: Service, data: bytes) -> Reply:
        session.receive(data[:1])
        return super().feed(session, data)


@caught_by("server_waits_for_the_whole_request", "ended after 1 bytes")
class ReadsOnce(Pieces):
    def feed(self, session: Service, data: bytes) -> Reply:
        return replace(super().feed(session, data), then=Then.CLOSE)


@caught_by("server_keeps_reading", "EOFError")
class ClosesAfterEveryReply(Pieces):
    def feed(self, session: Service, data: bytes) -> Reply:
        reply = super().feed(session, data)
        return replace(reply, then=Then.CLOSE) if reply.data else reply


@caught_by("server_sends_everything", "arrived 65536")
class TruncatesReplies(Pieces):
    def send(self, sock: socket.socket, data: bytes) -> None:
        super().send(sock, data[:65536])


@caught_by("server_keeps_the_close_policy", "FIN without close_notify instead of close_notify")
class ServerLeavesWithoutGoodbye(Pieces):
    def end(self, sock: socket.socket, options: Options) -> None:
        pass


@caught_by("server_keeps_the_close_policy", "bytes")
class SaysTooMuch(Pieces):
    def send(self, sock: socket.socket, data: bytes) -> None:
        super().send(sock, data + b"!")


class _Dies(Pieces):
    """Whatever it meets of this kind ends the server."""

    deadly: ClassVar[tuple[type[OSError], ...]] = ()
    harmless: ClassVar[tuple[type[OSError], ...]] = ()

    def met(self, error: OSError) -> None:
        if isinstance(error, self.deadly) and not isinstance(error, self.harmless):
            hang_up(self.listener)


@caught_by("server_survives_an_early_end", "")
class DiesOfAnEarlyEnd(_Dies):
    def read(self, sock: socket.socket) -> bytes:
        data = super().read(sock)
        if not data:
            hang_up(self.listener)
        return data


@caught_by("server_survives_a_reset", "")
class DiesOfAReset(_Dies):
    deadly = (ConnectionResetError,)


@caught_by(
    "server_survives_a_reset", "1 faults should be counted, but Counts(accepted=1, served=0, exchanged=0, open=1"
)
class NeverTellsOfLosses(Pieces):
    def lost(self, session: Service, error: OSError) -> None:
        pass


@caught_by("server_survives_garbage", "")
class DiesOfGarbage(_Dies):
    deadly = (ssl.SSLError,)
    harmless = (ssl.SSLEOFError,)


@caught_by("server_survives_a_failed_handshake", "")
class DiesInAHandshake(_Dies):
    deadly = (ssl.SSLError,)


@caught_by("server_keeps_its_deadlines", "begins no handshake is kept")
class HasNoHandshakeDeadline(Pieces):
    def patience(self, options: Options) -> float:
        return 20


@caught_by("server_keeps_its_deadlines", "never answers close_notify is kept")
class HasNoCloseDeadline(Pieces):
    def end(self, sock: socket.socket, options: Options) -> None:
        super().end(sock, replace(options, close_timeout=20))


@caught_by("server_facts_are_true", "the TLS version is told as TLSv1.3, and is TLSv1.2")
class LiesAboutItsVersion(Pieces):
    def meet(self, accept: Accept, sock: socket.socket) -> Service:
        facts = Line(sock).facts
        return accept(lambda: replace(facts(), tls_version=facts().tls_version and "TLSv1.3"))


@caught_by("server_sets_nodelay", "TCP_NODELAY is off")
class DelaysAsServer(Pieces):
    def handshake(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        super().handshake(sock)


@caught_by("server_applies_the_backlog", "the backlog is 5 instead of 137")
class IgnoresTheBacklog(Pieces):
    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        async with super().serve(accept, address, tls=tls, options=replace(options, backlog=5)) as server:
            yield server


@caught_by("server_leaves_at_once", "did not come to its end", deadline=SOON)
class WaitsForIdlePeers(Pieces):
    def drop(self) -> None:
        self.threads[0].join(5)
        super().drop()


@caught_by("server_leaves_at_once", "outlives the server")
class KeepsConnections(Pieces):
    def drop(self) -> None:
        self.left += [sock.dup() for sock in self.connections if not isinstance(sock, ssl.SSLSocket)]
        for sock in tuple(self.connections):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RD)


@caught_by("server_leaves_as_somebody_comes", "did not come to its end", deadline=SOON)
class WaitsForTheNewestPeer(Pieces):
    def drop(self) -> None:
        self.threads[-1].join(5)
        super().drop()


@caught_by("server_waits_for_a_peer_that_does_not_read", "bytes from a peer that reads nothing")
class ReadsOn(Pieces):
    """Keeps its replies to itself where a peer may not read them, and goes on reading."""

    said = 0

    def send(self, sock: socket.socket, data: bytes) -> None:
        self.said += len(data)
        if self.said < 65536:
            super().send(sock, data)


@caught_by("server_waits_for_a_peer_that_does_not_read", "bytes others came back")
class LosesWhatIsNotRead(Pieces):
    """Swallows one reply of many."""

    replies = 0

    def send(self, sock: socket.socket, data: bytes) -> None:
        self.replies += 1
        super().send(sock, data if self.replies != 2 else bytes(len(data)))


@caught_by("server_leaves_nothing_behind", "descriptors are left open")
class LeavesItsListenerOpen(Pieces):
    def stop_listening(self) -> None:
        self.left.append(self.listener)
