"""Blocking sockets and `ssl.SSLSocket`, without any event loop; where several things happen at once, a thread for each.

Its coroutines never suspend. One at a time it is the "no loop" row; with threads it is a contender like the others.
OpenSSL works on the descriptor itself. Nothing sets TCP_NODELAY at this level, so we do.
"""

import math
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from queue import SimpleQueue
from typing import TypeAlias

from loopmark.service import CLOSE, PIECE, File
from loopmark.spi import (
    Accept,
    Address,
    Answer,
    Backend,
    ClientTLS,
    Connection,
    Datagrams,
    Facts,
    Feature,
    Limiter,
    LoopFactory,
    Main,
    Options,
    Server,
    T,
    require_go_ahead,
)

Socket: TypeAlias = socket.socket | ssl.SSLSocket

_NEVER = math.inf
"""Where there is no end, no clock is asked whether it has come: nothing that is timed has one."""


class Blocking(Backend):
    """`socket.create_server`, `socket.create_connection`, `SSLContext.wrap_socket`."""

    features = frozenset(Feature)

    def __init__(self, loop_factory: LoopFactory | None = None) -> None:
        super().__init__(loop_factory)
        # What each job of `gather` waits for, by thread; empty where there is no `gather`.
        self._busy: dict[int | None, Socket | None] = {}
        self._time = _Time()
        # How many ends there are: without any, as where things are timed, no thread is asked for its own.
        self._bounds = 0
        self._counting = threading.Lock()

    def run(self, main: Main[T], /) -> T:
        try:
            main().send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        raise RuntimeError("a coroutine on blocking sockets suspended: it awaits something that is not the backend's")

    @asynccontextmanager
    async def serve(
        self, accept: Accept, address: Address, *, tls: ssl.SSLContext | None, options: Options
    ) -> AsyncIterator[Server]:
        listener = socket.create_server(address, family=_family(address), backlog=options.backlog)
        leaving = threading.Event()
        handlers: dict[threading.Thread, Socket] = {}

        def handle(sock: Socket) -> None:
            service = accept(lambda: _facts(sock))
            try:
                # For each operation, the handshake's first: without it a silent client would be held for ever.
                sock.settimeout(options.handshake_timeout)
                if tls is not None and options.go_ahead:
                    sock.sendall(options.go_ahead)
                    sock = handlers[threading.current_thread()] = _wrap(sock, tls)
                if isinstance(sock, ssl.SSLSocket):
                    sock.do_handshake()
                while True:
                    reply = service.receive(sock.recv(service.at_a_time or 65536))
                    if reply.data:
                        sock.sendall(reply.data)
                    if reply.file is not None:
                        _send_file(sock, reply.file)
                        service.sent()
                    if reply.then is CLOSE:
                        break
                if isinstance(sock, ssl.SSLSocket):
                    sock.unwrap()
            except OSError as error:  # ssl.SSLError is one
                service.lost(error)
            finally:
                sock.close()
                del handlers[threading.current_thread()]

        def accept_forever() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    if leaving.is_set():
                        return
                    # Out of descriptors, say: those who end give some back.
                    leaving.wait(0.01)
                    continue
                try:
                    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.nodelay)
                    sock = plain if tls is None or options.go_ahead else _wrap(plain, tls)
                except OSError:
                    # A peer that is gone already; wrapping sees that.
                    plain.close()
                    continue
                thread = threading.Thread(target=handle, args=(sock,), daemon=True)
                handlers[thread] = sock
                thread.start()

        acceptor = threading.Thread(target=accept_forever, daemon=True)
        acceptor.start()
        try:
            yield Server(listeners=(listener,))
        finally:
            leaving.set()
            _hang_up(listener)
            acceptor.join()
            _end(tuple(handlers), handlers.get)
            listener.close()

    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        return _Socket(self._dial(address, tls, options), self._busy, self._time, options.close_timeout)

    async def ask(
        self, address: Address, request: bytes, at_a_time: int, *, tls: ClientTLS | None, options: Options
    ) -> bytes:
        with self._dial(address, tls, options) as sock:
            sock.sendall(request)
            reply = b""
            while data := sock.recv(at_a_time):
                reply += data
                if self._bounds:
                    self._time.keep(sock)
            if isinstance(sock, ssl.SSLSocket):
                sock.settimeout(self._time.left(options.close_timeout))
                sock.unwrap()
        return reply

    def _dial(self, address: Address, tls: ClientTLS | None, options: Options) -> Socket:
        # The deadline stays with the socket, for every operation.
        timeout = options.handshake_timeout
        if self._bounds:
            timeout = self._time.left(timeout)
        source = (options.source, 0) if options.source else None
        sock: Socket = socket.create_connection(address, timeout=timeout, source_address=source)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.nodelay)
            if tls is not None:
                if options.go_ahead:
                    if self._busy:
                        self._busy[threading.get_ident()] = sock
                    require_go_ahead(options, _exactly(sock, len(options.go_ahead)))
                sock = _wrap(sock, tls.context, tls.server_name)
            if self._busy:
                self._busy[threading.get_ident()] = sock
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        return sock

    async def gather(self, *jobs: Main[None]) -> None:
        ended: SimpleQueue[BaseException | None] = SimpleQueue()

        end, late = self._time.end, self._time.late

        def work(job: Main[None]) -> None:
            ident, failure = threading.get_ident(), None
            self._busy[ident] = None
            self._time.end, self._time.late = end, late
            try:
                self.run(job)
            except BaseException as error:  # noqa: BLE001  # it is raised again in the caller's thread
                failure = error
            del self._busy[ident]
            ended.put(failure)

        threads = [threading.Thread(target=work, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        failure = next((error for error in (ended.get() for _ in jobs) if error is not None), None)
        if failure is not None:
            _end(threads, lambda thread: self._busy.get(thread.ident))
        for thread in threads:
            thread.join()
        if failure is not None:
            raise failure

    async def sleep(self, seconds: float) -> None:
        time.sleep(self._time.left(seconds))
        if time.monotonic() >= self._time.end:
            raise TimeoutError("the time is over")

    async def within(self, seconds: float, job: Main[T]) -> T:
        now, own = time.monotonic(), self._time
        before = own.end, own.late
        # An earlier end stays.
        own.end, own.late = min(own.end, now + seconds), min(own.late, now + seconds / 2)
        with self._counting:
            self._bounds += 1
        try:
            return await job()
        finally:
            with self._counting:
                self._bounds -= 1
            own.end, own.late = before

    def limiter(self, slots: int, /) -> Limiter:
        return _Limiter(slots)

    @asynccontextmanager
    async def serve_datagrams(
        self, answer: Answer, note: Callable[[Callable[[], Facts]], None], address: Address
    ) -> AsyncIterator[Server]:
        leaving = threading.Event()

        def answer_forever() -> None:
            while not leaving.is_set():
                try:
                    data, peer = sock.recvfrom(65536)
                    if leaving.is_set():
                        break
                    reply = answer(data)
                    if reply is not None:
                        sock.sendto(reply, peer)
                except OSError:
                    # What became of an earlier answer is reported here, and is its peer's affair.
                    continue

        with socket.socket(_family(address), socket.SOCK_DGRAM) as sock:
            sock.bind(address)
            note(lambda: Facts.read(loop="none", transport=sock, sock=None))
            thread = threading.Thread(target=answer_forever, daemon=True)
            thread.start()
            try:
                yield Server(listeners=(sock,))
            finally:
                leaving.set()
                _hang_up(sock)
                thread.join()

    async def open_datagrams(self, address: Address) -> Datagrams:
        sock = socket.socket(_family(address), socket.SOCK_DGRAM)
        sock.connect(address)
        return _DatagramSocket(sock)

    async def resolve(self, host: str, port: int, family: socket.AddressFamily) -> list[Address]:
        found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        return [Address(str(entry[4][0]), int(entry[4][1])) for entry in found]


class _Time(threading.local):
    """What is left to each thread, as moments of the monotonic clock.

    Each operation may take as long as was left when its connection was made. That is set anew, which takes a system
    call, only when it is `late`: so a peer that sends byte by byte can keep us for half of the time longer at most.
    """

    end = late = _NEVER

    def keep(self, sock: Socket) -> None:
        """Set a socket's deadline anew if it is late."""
        if self.late < _NEVER and time.monotonic() > self.late:
            sock.settimeout(self.left(_NEVER))

    def left(self, most: float) -> float:
        """Return how many seconds an operation may take that may take `most`; raises TimeoutError if none are left."""
        end = self.end
        if end == _NEVER:
            return most
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is over")
        return min(left, most)


class _Limiter:
    """A semaphore of threads, with the face of the others."""

    def __init__(self, slots: int) -> None:
        self._semaphore = threading.Semaphore(slots)

    async def acquire(self) -> object:
        return self._semaphore.acquire()

    def release(self) -> None:
        self._semaphore.release()


class _DatagramSocket(Datagrams):
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def exchange(self, payload: bytes, deadline: float) -> bytes | None:
        self._sock.settimeout(deadline)
        self._sock.send(payload)
        try:
            return self._sock.recv(65536)
        except TimeoutError:
            return None

    async def close(self) -> None:
        self._sock.close()

    def facts(self) -> Facts:
        return Facts.read(loop="none", transport=self._sock, sock=None)


def _exactly(sock: Socket, size: int) -> bytes:
    # Not MSG_WAITALL: a socket with a deadline is a non-blocking one to the system.
    received = b""
    while len(received) < size and (data := sock.recv(size - len(received))):
        received += data
    return received


def _send_file(sock: Socket, file: File) -> None:
    with open(file.path, "rb") as stream:  # noqa: PTH123  # the fastest of equal ways
        if file.zero_copy:
            sent = sock.sendfile(stream, 0, file.size)
        else:
            sent = 0
            while sent < file.size and (piece := stream.read(min(PIECE, file.size - sent))):
                sock.sendall(piece)
                sent += len(piece)
    file.expect(sent)


class _Socket(Connection):
    def __init__(self, sock: Socket, busy: dict[int | None, Socket | None], own: _Time, close_timeout: float) -> None:
        self._sock = sock
        self._busy = busy
        self._time = own
        self._close_timeout = close_timeout

    async def exchange(self, parts: Sequence[bytes], reply_size: int | None, rounds: int) -> bytes:
        sock = self._sock
        if self._busy:
            self._busy[threading.get_ident()] = sock
        reply = b""
        try:
            for _ in range(rounds):
                for part in parts:
                    if part:
                        sock.sendall(part)
                    else:
                        sock.shutdown(socket.SHUT_WR)
                reply = b""
                while reply_size is None or len(reply) < reply_size:
                    data = sock.recv(65536 if reply_size is None else reply_size - len(reply))
                    if not data:
                        break
                    reply += data
                    self._time.keep(sock)
                if reply_size is not None and len(reply) < reply_size:
                    raise EOFError(f"{len(reply)} of {reply_size} bytes, then the end of the stream")  # noqa: TRY301  # as recv would
        except BaseException:
            # Closing would wait for the peer's close_notify.
            sock.close()
            raise
        return reply

    async def close(self) -> None:
        try:
            if isinstance(self._sock, ssl.SSLSocket) and self._sock.fileno() >= 0:
                self._sock.settimeout(self._time.left(self._close_timeout))
                self._sock.unwrap()
        finally:
            self._sock.close()

    def facts(self) -> Facts:
        return _facts(self._sock)


def _wrap(sock: socket.socket, context: ssl.SSLContext, server_name: str | None = None) -> ssl.SSLSocket:
    """Wrap without the handshake, which belongs under a deadline, and without hiding a cut connection."""
    return context.wrap_socket(
        sock,
        server_side=server_name is None,
        server_hostname=server_name,
        do_handshake_on_connect=False,
        suppress_ragged_eofs=False,
    )


def _end(threads: Sequence[threading.Thread], awaited: Callable[[threading.Thread], Socket | None]) -> None:
    """Hang up on whatever the threads wait for, until they have given up.

    Once is not enough: of a socket that is being wrapped only the other object, which nobody has yet, can be shut down.
    """
    while living := [thread for thread in threads if thread.is_alive()]:
        for thread in living:
            if (sock := awaited(thread)) is not None:
                _hang_up(sock)
        living[0].join(0.01)


def _hang_up(sock: socket.socket) -> None:
    """Wake up whoever is blocked on the socket."""
    with suppress(OSError):
        # Not the TLS socket's own: that forgets the TLS state under the feet of whoever is using it.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


def _facts(sock: Socket) -> Facts:
    return Facts.read(loop="none", transport=sock, sock=sock, tls=sock if isinstance(sock, ssl.SSLSocket) else None)
