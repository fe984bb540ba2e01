"""Backends with one fault each in what not every backend can do, and in what lasts, with the clause that catches it."""

import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from tests.broken import SOON, Line, Pieces, caught_by, hang_up

from loopmark.errors import ProtocolError
from loopmark.service import File, Reply, Service, Then
from loopmark.spi import (
    Accept,
    Address,
    Answer,
    ClientTLS,
    Datagrams,
    Facts,
    Feature,
    Limiter,
    Options,
    Server,
    require_go_ahead,
)

if TYPE_CHECKING:
    # Where they lie in a checkout; type checkers do not follow the mount.
    from backends.asyncio_sockets import AsyncioSockets
    from backends.asyncio_streams import AsyncioStreams
    from backends.blocking import Blocking
else:
    from loopmark.backends.asyncio_sockets import AsyncioSockets
    from loopmark.backends.asyncio_streams import AsyncioStreams
    from loopmark.backends.blocking import Blocking


# Features


@caught_by("features_are_honest", "datagrams is declared, and an echo is refused")
class BoastsOfDatagrams(AsyncioStreams):
    api = AsyncioStreams.api | {Feature.DATAGRAMS}


@caught_by("features_are_honest", "start_tls is declared, and connect is refused")
class BoastsOfUpgrades(AsyncioSockets):
    features = frozenset({Feature.TCP, Feature.START_TLS})


@caught_by("features_are_honest", "sendfile is not declared, and serve works")
class HidesItsSendfile(Blocking):
    features = frozenset(Feature) - {Feature.SENDFILE}


@caught_by("features_are_honest", "files is not declared, and serve works")
class HidesItsFiles(Blocking):
    features = frozenset(Feature) - {Feature.FILES}


@caught_by("features_are_honest", "half-close is not declared, and exchange works")
class HidesItsHalfClose(Blocking):
    features = frozenset(Feature) - {Feature.HALF_CLOSE}


@caught_by("features_are_honest", "resolver is not declared, and resolve works")
class HidesItsResolver(Blocking):
    features = frozenset(Feature) - {Feature.RESOLVER}


@caught_by("features_are_honest", "limiter is declared, and limiter is refused")
class HasNoLimiter(Blocking):
    def limiter(self, slots: int, /) -> Limiter:
        raise NotImplementedError


@caught_by("features_are_honest", "datagrams is not declared, and an echo works")
class HidesItsDatagrams(Blocking):
    features = frozenset(Feature) - {Feature.DATAGRAMS}


# Upgrades


@caught_by("server_says_the_go_ahead_first", "more than the go-ahead")
class SaysTheGoAheadTwice(Pieces):
    def invite(self, sock: socket.socket, go_ahead: bytes) -> None:
        super().invite(sock, 2 * go_ahead)


@caught_by("server_says_the_go_ahead_first", "EOFError: 0 of")
class WaitsToBeAsked(Pieces):
    def invite(self, sock: socket.socket, go_ahead: bytes) -> None:
        sock.recv(1)
        super().invite(sock, go_ahead)


class _UpgradesItself(Pieces):
    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Line:
        if tls is None or not options.go_ahead:
            return await super().connect(address, tls=tls, options=options)
        sock = socket.create_connection(address, timeout=options.handshake_timeout)
        try:
            self.obey(sock, options.go_ahead)
            sock = tls.context.wrap_socket(
                sock, server_hostname=tls.server_name, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
            sock.do_handshake()
        except (OSError, ProtocolError):
            self.drop_one(sock)
            raise
        return self.line(sock)

    def obey(self, sock: socket.socket, go_ahead: bytes) -> None:
        received = b""
        while len(received) < len(go_ahead) and (data := sock.recv(len(go_ahead) - len(received))):
            received += data
        require_go_ahead(Options(go_ahead=go_ahead), received)


@caught_by("client_waits_for_the_go_ahead", "the client began after 0 of")
class DoesNotWaitForTheGoAhead(_UpgradesItself):
    def obey(self, sock: socket.socket, go_ahead: bytes) -> None:
        """Begin at once."""


@caught_by("client_waits_for_the_go_ahead", "bytes of the go-ahead")
class IsContentWithPartOfTheGoAhead(_UpgradesItself):
    def obey(self, sock: socket.socket, go_ahead: bytes) -> None:
        sock.recv(len(go_ahead))


@caught_by("client_refuses_another_go_ahead", "a wrong go-ahead is told as")
class TakesAnyGoAhead(_UpgradesItself):
    def obey(self, sock: socket.socket, go_ahead: bytes) -> None:
        sock.recv(len(go_ahead), socket.MSG_WAITALL)


@caught_by("server_keeps_what_comes_with_the_handshake", "TimeoutError")
class ForgetsWhatComesWithTheHandshake(Pieces):
    def handshake(self, sock: socket.socket) -> None:
        super().handshake(sock)
        patience = sock.gettimeout()
        sock.settimeout(0.05)
        with suppress(OSError):
            sock.recv(65536)
        sock.settimeout(patience)


@caught_by("server_keeps_what_comes_with_the_handshake", "the answer came in the clear")
class AnswersInTheClear(Pieces):
    def send(self, sock: socket.socket, data: bytes) -> None:
        socket.socket.sendall(sock, data)


@caught_by("failed_upgrades_leave_nothing_behind", "descriptors are left open")
class LeaksFailedUpgrades(Pieces):
    def drop_one(self, sock: socket.socket) -> None:
        hang_up(sock)
        self.left.append(sock)


@caught_by("failed_upgrades_leave_nothing_behind", "objects were not closed")
class LeavesFailedUpgradesToTheCollector(_UpgradesItself):
    def drop_one(self, sock: socket.socket) -> None:
        hang_up(sock)


# Half-closed connections


class _Endless(Line):
    def end(self) -> None:
        pass


@caught_by("client_reads_on_after_its_end", "the client ended its stream with nothing")
class IgnoresTheEmptyPart(Pieces):
    line = _Endless


class _DeafAfterItsEnd(Line):
    def receive(self, size: int | None) -> bytes:
        with suppress(ConnectionError):
            return super().receive(size)
        return b""


class _EndsBoth(_DeafAfterItsEnd):  # what comes now is answered with a reset
    def end(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)


@caught_by("client_reads_on_after_its_end", "the client read 0")
class EndsBothStreams(Pieces):
    line = _EndsBoth


@caught_by("client_reports_a_reset_after_its_end", "a reply was returned that was reset")
class IgnoresResetsAfterItsEnd(Pieces):
    line = _DeafAfterItsEnd


@caught_by("server_answers_after_the_end", "came 0 of 102400 bytes")
class HasNoAnswerToTheEnd(Pieces):
    def feed(self, session: Service, data: bytes) -> Reply:
        reply = super().feed(session, data)
        return reply if data else replace(reply, data=b"")


@caught_by("server_answers_after_the_end", "came 65536 of 102400 bytes")
class AnswersTheEndInPart(Pieces):
    def send(self, sock: socket.socket, data: bytes) -> None:
        super().send(sock, data[:65536])


@caught_by("server_echoes_to_the_end", "the server ended its stream before the client did")
class EndsWithoutBeingAsked(Pieces):
    """Takes a pause for the end."""

    def meet(self, accept: Accept, sock: socket.socket) -> Service:
        self.echoed = 0
        return super().meet(accept, sock)

    def send(self, sock: socket.socket, data: bytes) -> None:
        super().send(sock, data)
        self.echoed += len(data)
        if self.echoed == 100 * 1024:
            sock.shutdown(socket.SHUT_WR)


@caught_by("server_echoes_to_the_end", "EOFError")
class EchoesOnce(Pieces):
    def feed(self, session: Service, data: bytes) -> Reply:
        return replace(super().feed(session, data), then=Then.CLOSE)


# Files


@caught_by("server_copies_files", "bytes of header and file came 10420240")
@caught_by("kernel_sends_files", "bytes of header and file came 10420240")
class LosesTheLastPiece(Pieces):
    def send_file(self, sock: socket.socket, session: Service, file: File) -> None:
        file = file._replace(size=file.size - 65536)
        super().send_file(sock, session, file)


@caught_by("server_copies_files", "`sent` was told 2 times")
@caught_by("kernel_sends_files", "`sent` was told 2 times")
class TellsOfFilesTwice(Pieces):
    def after_file(self, session: Service, file: File, sent: int) -> None:
        super().after_file(session, file, sent)
        super().after_file(session, file, sent)


@caught_by("server_copies_at_the_readers_pace", "bytes ahead of its reader")
class ReadsWholeFiles(Pieces):
    def copy(self, sock: socket.socket, stream: BinaryIO, size: int) -> int:
        sock.sendall(content := stream.read(size))
        return len(content)


@caught_by("server_copies_at_the_readers_pace", "`sent` was told when")
@caught_by("kernel_sends_at_the_readers_pace", "`sent` was told when")
class TellsOfFilesTooEarly(Pieces):
    def send_file(self, sock: socket.socket, session: Service, file: File) -> None:
        session.sent()
        super().send_file(sock, session, file)

    def after_file(self, session: Service, file: File, sent: int) -> None:
        """It was told already."""


@caught_by("kernel_sends_at_the_readers_pace", "EOFError")
class LosesSlowReaders(Pieces):
    def send_file(self, sock: socket.socket, session: Service, file: File) -> None:
        sock.settimeout(0)
        sent = 0
        with Path(file.path).open("rb") as stream:
            while sent < file.size:
                stream.seek(sent)
                sent += sock.send(stream.read(4096))
        self.after_file(session, file, sent)


@caught_by("server_tells_of_files_it_cannot_copy", "2 faults, with a short file,")
@caught_by("server_tells_of_files_the_kernel_cannot_send", "2 faults, with a short file,")
class IgnoresShortFiles(Pieces):
    def after_file(self, session: Service, file: File, sent: int) -> None:
        session.sent()


@caught_by("server_tells_of_files_it_cannot_copy", "after a missing file the connection is kept")
@caught_by("server_tells_of_files_the_kernel_cannot_send", "after a missing file the connection is kept")
class WaitsForMissingFiles(Pieces):
    def send_file(self, sock: socket.socket, session: Service, file: File) -> None:
        if not Path(file.path).exists():
            sock.recv(1)
        super().send_file(sock, session, file)


@caught_by("server_copies_to_nobody", "1 faults should be counted")
@caught_by("kernel_sends_to_nobody", "1 faults should be counted")
class DoesNotMissItsReaders(Pieces):
    def send_file(self, sock: socket.socket, session: Service, file: File) -> None:
        try:
            super().send_file(sock, session, file)
        except OSError:
            session.sent()


@caught_by("server_copies_to_nobody", "descriptors are left open")
@caught_by("kernel_sends_to_nobody", "descriptors are left open")
class LeaksFiles(Pieces):
    def __init__(self) -> None:
        super().__init__()
        self.files: list[Any] = []

    def send_file(self, sock: socket.socket, session: Service, file: File) -> None:
        self.files.append(Path(file.path).open("rb"))  # noqa: SIM115  # the fault
        super().send_file(sock, session, file)

    def clean(self) -> None:
        for file in self.files:
            file.close()


@caught_by("server_copies_one_file_at_a_time", "")
@caught_by("kernel_sends_one_file_at_a_time", "")
class SendsFilesAside(Pieces):
    """What comes out then is a matter of threads; it is never right."""

    def send_file(self, sock: socket.socket, session: Service, file: File) -> None:
        def work() -> None:
            with suppress(OSError):
                Pieces.send_file(self, sock, session, file)

        self.threads.append(threading.Thread(target=work, daemon=True))
        self.threads[-1].start()


# Datagrams


class Letters(Datagrams):
    size = 65536

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    async def exchange(self, payload: bytes, deadline: float) -> bytes | None:
        self.sock.settimeout(deadline)
        self.sock.send(payload)
        try:
            return self.sock.recv(self.size)
        except TimeoutError:
            return self.late()

    def late(self) -> bytes | None:
        return None

    async def close(self) -> None:
        self.sock.close()

    def facts(self) -> Facts:
        return Facts.read(loop="none", transport=self.sock, sock=None)


class Post(Blocking):
    """Datagrams of blocking sockets in pieces, each of which can be broken. Whole they keep the contract."""

    letters: ClassVar[type[Letters]] = Letters
    size = 65536

    @asynccontextmanager
    async def serve_datagrams(
        self, answer: Answer, note: Callable[[Callable[[], Facts]], None], address: Address
    ) -> AsyncIterator[Server]:
        def answer_all() -> None:
            while True:
                try:
                    data, peer = sock.recvfrom(self.size)
                    if leaving.is_set():
                        return
                    if (reply := answer(data)) is not None:
                        self.send(sock, reply, peer)
                except OSError as error:
                    self.met(error)

        leaving = threading.Event()
        with socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(address)
            note(self.letters(sock).facts)
            thread = threading.Thread(target=answer_all, daemon=True)
            thread.start()
            yield Server(listeners=(sock,))
            leaving.set()
            hang_up(sock)
            thread.join()
            self.leave(sock)

    def send(self, sock: socket.socket, reply: bytes, peer: Any) -> None:
        sock.sendto(reply, peer)

    def met(self, error: OSError) -> None:
        """Hear of every error, so that something can die of it."""

    def leave(self, sock: socket.socket) -> None:
        """Close nothing that is not closed anyway."""

    async def open_datagrams(self, address: Address) -> Letters:
        sock = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(address)
        return self.letters(sock)


@caught_by("server_answers_datagrams", "TimeoutError")
class AnswersItsFirstPeer(Post):
    def __init__(self) -> None:
        super().__init__()
        self.first: dict[socket.socket, Any] = {}

    def send(self, sock: socket.socket, reply: bytes, peer: Any) -> None:
        super().send(sock, reply, self.first.setdefault(sock, peer))


@caught_by("server_answers_datagrams", "was not answered whole")
class CutsRequests(Post):
    size = 1024


@caught_by("server_survives_bad_datagrams", "after the datagram b'too long' the server answers no more")
class DiesOfDatagrams(Post):
    def met(self, error: OSError) -> None:
        raise error


@caught_by("server_survives_bad_datagrams", "after the datagram b'' the server answers no more")
class TakesNothingForTheEnd(Post):
    @asynccontextmanager
    async def serve_datagrams(
        self, answer: Answer, note: Callable[[Callable[[], Facts]], None], address: Address
    ) -> AsyncIterator[Server]:
        def end_with_nothing(data: bytes) -> bytes | None:
            if not data:
                raise ValueError
            return answer(data)

        async with super().serve_datagrams(end_with_nothing, note, address) as server:
            yield server


class _Late(Letters):
    before: bytes | None = None

    async def exchange(self, payload: bytes, deadline: float) -> bytes | None:
        before, self.before = self.before, await super().exchange(payload, deadline)
        return before


@caught_by("client_exchanges_datagrams", "was answered with")
class ReturnsTheAnswerBefore(Post):
    letters = _Late


class _Cut(Letters):
    size = 1024


@caught_by("client_sends_what_a_datagram_holds", "of a big answer of 60004 bytes came 1024")
class CutsAnswers(Post):
    letters = _Cut


class _Complains(Letters):
    def late(self) -> bytes | None:
        raise TimeoutError


@caught_by("client_gives_up_waiting_for_an_answer", "TimeoutError")
class ComplainsOfLostDatagrams(Post):
    letters = _Complains


class _Hurries(Letters):
    async def exchange(self, payload: bytes, deadline: float) -> bytes | None:
        return await super().exchange(payload, deadline / 10)


@caught_by("client_gives_up_waiting_for_an_answer", "was over after")
class DoesNotWaitLongEnough(Post):
    letters = _Hurries


class _TellsOfTCP(Letters):
    def facts(self) -> Facts:
        return replace(super().facts(), nodelay=True)


@caught_by("datagram_facts_are_true", "the client tells TCP_NODELAY")
class TellsOfDatagramsAsOfTCP(Post):
    letters = _TellsOfTCP


@caught_by("datagram_facts_are_true", "the server tells no facts")
class TellsNothingOfDatagrams(Post):
    @asynccontextmanager
    async def serve_datagrams(
        self, answer: Answer, note: Callable[[Callable[[], Facts]], None], address: Address
    ) -> AsyncIterator[Server]:
        del note
        async with super().serve_datagrams(answer, lambda _: None, address) as server:
            yield server


@caught_by("datagrams_leave_nothing_behind", "the port outlives the server")
class KeepsItsPort(Post):
    def __init__(self) -> None:
        super().__init__()
        self.left: list[socket.socket] = []

    def leave(self, sock: socket.socket) -> None:
        self.left.append(sock.dup())

    def __del__(self) -> None:
        for sock in self.left:
            sock.close()


class _Open(Letters):
    async def close(self) -> None:
        pass


@caught_by("datagrams_leave_nothing_behind", "objects were not closed")
class LeavesDatagramSocketsToTheCollector(Post):
    letters = _Open


# Resolver and limiter


@caught_by("resolver_takes_numeric_addresses", "tuples that are no Address")
class ResolvesToTuples(Blocking):
    async def resolve(self, host: str, port: int, family: socket.AddressFamily) -> list[Address]:
        return [tuple(each) for each in await super().resolve(host, port, family)]  # type: ignore[misc]  # the fault


@caught_by(
    "resolver_takes_numeric_addresses",
    "127.0.0.1 was resolved to [Address(host='127.0.0.1', port=80)] in the family AF_INET6",
)
class IgnoresTheFamily(Blocking):
    async def resolve(self, host: str, port: int, family: socket.AddressFamily) -> list[Address]:
        del family
        return await super().resolve(host, port, socket.AF_UNSPEC)


@caught_by("resolver_knows_localhost", "localhost was resolved to [Address(")
class RepeatsAddresses(Blocking):
    async def resolve(self, host: str, port: int, family: socket.AddressFamily) -> list[Address]:
        found = socket.getaddrinfo(host, port, family=family)
        return sorted(Address(str(entry[4][0]), int(entry[4][1])) for entry in found)


@caught_by("resolver_reports_unknown_names", "loopmark-check.invalid was resolved to []")
class KnowsNoUnknownName(Blocking):
    async def resolve(self, host: str, port: int, family: socket.AddressFamily) -> list[Address]:
        with suppress(socket.gaierror):
            return await super().resolve(host, port, family)
        return []


@caught_by("resolver_reports_unknown_names", "raised LookupError instead of gaierror")
class ReplacesTheResolversError(Blocking):
    async def resolve(self, host: str, port: int, family: socket.AddressFamily) -> list[Address]:
        try:
            return await super().resolve(host, port, family)
        except socket.gaierror as error:
            raise LookupError(host) from error


@caught_by("limiter_holds_no_more_than_its_slots", "4 jobs at once held 3 slots")
class HasOneSlotTooMany(Blocking):
    def limiter(self, slots: int, /) -> Limiter:
        return super().limiter(slots + 1)


class _Forgetful:
    """Does not hear of slots that are given back while something has gone wrong, or at all."""

    def __init__(self, slots: int, *, ever: bool) -> None:
        self._semaphore, self._ever = threading.Semaphore(slots), ever

    async def acquire(self) -> None:
        # Later than the clause's deadline, so that its thread ends.
        if not self._semaphore.acquire(timeout=5):
            raise TimeoutError

    def release(self) -> None:
        if self._ever and sys.exception() is None:
            self._semaphore.release()


@caught_by("limiter_holds_no_more_than_its_slots", "did not come to its end", deadline=SOON)
class NeverTakesSlotsBack(Blocking):
    def limiter(self, slots: int, /) -> Limiter:
        return _Forgetful(slots, ever=False)


@caught_by("limiter_takes_slots_back_after_a_failure", "did not come to its end", deadline=SOON)
class LosesTheSlotsOfTheFailed(Blocking):
    def limiter(self, slots: int, /) -> Limiter:
        return _Forgetful(slots, ever=True)


# What lasts


class _Tires(Line):
    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.exchanges = 0

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        self.exchanges += 1
        if self.exchanges > 2:
            raise ConnectionAbortedError
        return await super().exchange(parts, reply_size, rounds)


@caught_by("client_converses_for_long", "ConnectionAbortedError")
class HasFewExchanges(Pieces):
    line = _Tires


@caught_by("client_holds_conversations_open", "")
class HoldsFewConnections(Pieces):
    """Closes its oldest connection where it has too many; how that is told is the system's affair."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Line] = []

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Line:
        self.held.append(await super().connect(address, tls=tls, options=options))
        if len(self.held) == 50:
            await self.held[0].close()
        return self.held[-1]


@caught_by("server_converses_for_long", "EOFError")
class TiresOfItsPeers(Pieces):
    def meet(self, accept: Accept, sock: socket.socket) -> Service:
        self.rounds = 0
        return super().meet(accept, sock)

    def feed(self, session: Service, data: bytes) -> Reply:
        self.rounds += 1
        reply = super().feed(session, data)
        return reply if self.rounds < 100 else replace(reply, then=Then.CLOSE)


@caught_by("server_converses_for_long", "the server ended its stream with FIN without close_notify")
class HasNoGoodbyeForOneWhoLeaves(Pieces):
    left_first = False

    def read(self, sock: socket.socket) -> bytes:
        data = super().read(sock)
        self.left_first = not data
        return data

    def end(self, sock: socket.socket, options: Options) -> None:
        if not self.left_first:
            super().end(sock, options)


@caught_by("server_holds_conversations_open", "100 connections open should be counted")
class HoldsFewConversations(Pieces):
    def begin(self, handle: Callable[[socket.socket], None], sock: socket.socket) -> None:
        if len(self.connections) > 60:
            hang_up(sock)
        super().begin(handle, sock)


@caught_by("server_holds_conversations_open", "was answered with")
class MixesItsAnswers(Pieces):
    def __init__(self) -> None:
        super().__init__()
        self.answers: list[bytes] = []

    def send(self, sock: socket.socket, data: bytes) -> None:
        self.answers.append(data)
        super().send(sock, self.answers[len(self.answers) // 2])
