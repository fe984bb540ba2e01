"""The contract's clauses about replies with a file: read and written in pieces, or sent by the kernel."""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import os
import select
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loopmark.errors import ProtocolError
from loopmark.ledger import Ledger
from loopmark.service import HANG_UP, File, Reply, Service, Then
from loopmark.spi import Address, Feature
from loopmark.testing.endpoint import End, Endpoint
from loopmark.testing.ground import PING, Clause, Ground, Where, calling, clause, expect
from loopmark.testing.resources import nothing_left, own_socket

SIZE = 10 * 2**20 - 1
"""More than a kernel keeps for two sockets, and no multiple of anything."""

HEADER = b"before the file: "

HELD = 2**21
"""Bytes that may be on their way to a slow reader: many times the kernel's buffers, which are made small for it."""

_BUFFER = 2**16


class SendsAFile(Service):
    """Answers every PING with a header and a file; `told` gets a line for each call of `sent`."""

    def __init__(self, file: File, *, header: bytes = b"", then: Then = Then.CLOSE, told: list[str]) -> None:
        self._reply = Reply(header, then, file)
        self._told = told

    def receive(self, data: bytes, /) -> Reply:
        """Answer a PING."""
        if not data:
            return self.finish(HANG_UP)
        return self._reply if data == PING else self.refuse(ProtocolError(f"expected {PING!r}, got {data!r}"))

    def sent(self) -> None:
        """Count the conversation as served."""
        self._told.append("sent")
        if self._reply.then is Then.CLOSE:
            self.finish(HANG_UP)


@clause(Where.ALL, needs=Feature.FILES)
def server_copies_files(at: Ground) -> None:
    """A file in pieces comes whole, after the data of its reply; `sent` is told once, and the connection ends."""
    _comes_whole(at, zero_copy=False)


@clause(Where.ONCE_PLAIN, needs=Feature.SENDFILE)
def kernel_sends_files(at: Ground) -> None:
    """A file by sendfile comes whole, after the data of its reply; `sent` is told once, and the connection ends."""
    _comes_whole(at, zero_copy=True)


def _comes_whole(at: Ground, *, zero_copy: bool) -> None:
    told: list[str] = []

    def work(address: Address, ledger: Ledger) -> bytes:
        reply = at.call(address)
        at.settle(ledger, 0)
        counts = ledger.counts()
        expect((counts.served, counts.faults) == (1, {}), f"one file was counted as {counts}")
        return reply

    with _written(SIZE) as (path, content):
        file = File(str(path), SIZE, zero_copy)
        reply = at.serve(work, service=lambda: SendsAFile(file, header=HEADER, told=told))
    due = len(HEADER) + SIZE
    expect(len(reply) == due, f"of {due} bytes of header and file came {len(reply)}")
    expect(reply == HEADER + content, "header and file came with other content, or in another order")
    expect(len(told) == 1, f"for one file `sent` was told {len(told)} times")


@clause(Where.ALL, needs=Feature.FILES)
def server_copies_at_the_readers_pace(at: Ground) -> None:
    """Of a file in pieces no more is read than a slow reader takes, and `sent` is told after the last piece."""
    _waits_for_its_reader(at, zero_copy=False)


@clause(Where.ONCE_PLAIN, needs=Feature.SENDFILE)
def kernel_sends_at_the_readers_pace(at: Ground) -> None:
    """Of a file by sendfile `sent` is told only after all of it is on its way to a slow reader, who is not lost."""
    _waits_for_its_reader(at, zero_copy=True)


def _waits_for_its_reader(at: Ground, *, zero_copy: bool) -> None:
    told: list[str] = []

    def work(address: Address, ledger: Ledger) -> bytes:
        with calling() as clients:
            client = at.dial(address)
            clients.append(client)
            at.settle(ledger, 1)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            with _server_side(address, client) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                client.send(PING)
                # A reader is slow whose server has come to wait for it, on however busy a machine.
                _await_full(sock, at.patience)
            reply = bytearray()
            while len(reply) < SIZE - HELD:
                reply += client.read(_BUFFER)
                expect(not told, f"`sent` was told when {len(reply)} bytes of {SIZE} had been read")
                # With sendfile nothing is held, wherever the descriptor stands.
                ahead = 0 if zero_copy else _position(path) - len(reply)
                expect(ahead < HELD, f"the server is {ahead} bytes ahead of its reader")
            reply += client.read_to_end()
            client.finish()
            return bytes(reply)

    with _written(SIZE) as (path, content):
        file = File(str(path), SIZE, zero_copy)
        reply = at.serve(work, service=lambda: SendsAFile(file, told=told))
    expect(reply == content, f"of {SIZE} bytes for a slow reader came {len(reply)}")
    expect(len(told) == 1, f"for one file `sent` was told {len(told)} times")


def _await_full(sock: socket.socket, patience: float) -> None:
    """Wait until the kernel takes no more from whoever writes to a socket, and stays so."""
    end, full = time.monotonic() + patience, 0
    while full < _FULL:
        expect(time.monotonic() < end, "the server does not write what its reader has room for")
        time.sleep(0.001)
        _, writable, _ = select.select([], [sock], [], 0)
        full = 0 if writable else full + 1


_FULL = 20
"""Looks, a millisecond apart, after which a full buffer is no passing one."""


@clause(Where.ALL, needs=Feature.FILES)
def server_tells_of_files_it_cannot_copy(at: Ground) -> None:
    """A file in pieces that is missing or too short is a fault: the connection ends, and the next one is served."""
    _tells_of_what_is_missing(at, zero_copy=False)


@clause(Where.ONCE_PLAIN, needs=Feature.SENDFILE)
def server_tells_of_files_the_kernel_cannot_send(at: Ground) -> None:
    """A file by sendfile that is missing or too short is a fault: the connection ends, and the next one is served."""
    _tells_of_what_is_missing(at, zero_copy=True)


def _tells_of_what_is_missing(at: Ground, *, zero_copy: bool) -> None:
    told: list[str] = []
    size = 100_000

    def work(address: Address, ledger: Ledger) -> None:
        for faults, what in enumerate(("a missing file", "a short file"), 1):
            expect(_ends(at, address), f"after {what} the connection is kept")
            at.await_counts(ledger, lambda now: sum(now.faults.values()) == faults, f"{faults} faults, with {what},")  # noqa: B023  # called at once
            expect(not told, f"`sent` was told of {what}")
        reply = at.call(address)
        expect(reply == content, f"after two faults of {size} bytes came {len(reply)}")
        at.settle(ledger, 0)
        expect(ledger.counts().served == 1, f"one whole file was counted as {ledger.counts()}")

    with _written(size) as (path, content):
        files = iter(
            File(str(name), size + more, zero_copy)
            for name, more in ((path.with_name("missing"), 0), (path, 1), (path, 0))
        )
        at.serve(work, service=lambda: SendsAFile(next(files), told=told))


@clause(Where.ALL, needs=Feature.FILES)
def server_copies_to_nobody(at: Ground) -> None:
    """A peer that goes away in the middle of a file in pieces is a fault, of which nothing is left."""
    _survives_one_who_leaves(at, zero_copy=False)


@clause(Where.ONCE_PLAIN, needs=Feature.SENDFILE)
def kernel_sends_to_nobody(at: Ground) -> None:
    """A peer that goes away in the middle of a file by sendfile is a fault, of which nothing is left."""
    _survives_one_who_leaves(at, zero_copy=True)


def _survives_one_who_leaves(at: Ground, *, zero_copy: bool) -> None:
    told: list[str] = []

    def begin(address: Address) -> Endpoint:
        client = at.dial(address)
        clients.append(client)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        client.send(PING)
        client.read(_BUFFER)
        return client

    def work(address: Address, ledger: Ledger) -> None:
        for faults, leave in enumerate((Endpoint.reset, Endpoint.close), 1):
            leave(begin(address))
            at.await_counts(ledger, lambda now: sum(now.faults.values()) == faults, f"{faults} faults")  # noqa: B023  # called at once
        expect(not told, "`sent` was told although the reader has left")
        # The server is left in the middle of another one.
        begin(address)

    at.backend.run(lambda: at.backend.sleep(0))
    with _written(SIZE) as (path, _), calling() as clients, nothing_left():
        file = File(str(path), SIZE, zero_copy)
        at.serve(work, service=lambda: SendsAFile(file, told=told))
        for client in clients:
            client.close()


@clause(Where.ALL, needs=Feature.FILES)
def server_copies_one_file_at_a_time(at: Ground) -> None:
    """What arrives while a file in pieces is on its way is answered after it: a request, or the end of the stream."""
    _takes_turns(at, zero_copy=False)


@clause(Where.ONCE_PLAIN, needs=Feature.SENDFILE)
def kernel_sends_one_file_at_a_time(at: Ground) -> None:
    """What arrives while a file by sendfile is on its way is answered after it: a request, or the end of the stream."""
    _takes_turns(at, zero_copy=True)


def _takes_turns(at: Ground, *, zero_copy: bool) -> None:
    told: list[str] = []

    def work(address: Address, ledger: Ledger) -> bytes:
        with calling() as clients:
            client = at.dial(address)
            clients.append(client)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            client.send(PING)
            reply = client.read(_BUFFER)
            client.send(PING)
            reply += client.read(SIZE + 2 * len(HEADER))
            if at.profile is None and Feature.HALF_CLOSE in at.backend.features:
                client.cut()
                reply += client.read_to_end()
            else:
                reply += client.read(2 * (len(HEADER) + SIZE) - len(reply))
                client.finish()
            at.settle(ledger, 0)
            expect(ledger.counts().served == 1, f"a conversation of two files was counted as {ledger.counts()}")
            return reply

    with _written(SIZE) as (path, content):
        file = File(str(path), SIZE, zero_copy)
        reply = at.serve(work, service=lambda: SendsAFile(file, header=HEADER, then=Then.READ, told=told))
    expect(reply == 2 * (HEADER + content), f"two files of {SIZE} bytes, one after the other, came as {len(reply)}")
    expect(len(told) == 2, f"for two files `sent` was told {len(told)} times")


@contextmanager
def _written(size: int) -> Iterator[tuple[Path, bytes]]:
    """Have a file of this size, and what is in it."""
    content = os.urandom(size)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "file")
        path.write_bytes(content)
        yield path, content


def _ends(at: Ground, address: Address) -> bool:
    """Ask for a file, and tell whether the connection ends, whatever came of the file before."""
    with calling() as clients:
        clients.append(at.dial(address))
        clients[0].send(PING)
        clients[0].read_to_end()
        return clients[0].end is not End.NONE


def _server_side(address: Address, client: Endpoint) -> socket.socket:
    host, port = client.sock.getsockname()[:2]
    return own_socket(local=address, remote=Address(host, port))


def _position(path: Path) -> int:
    """Tell how far a file that this process has open was read; all of it, where it is not open; 0 off Linux."""
    if not Path("/proc/self/fdinfo").is_dir():
        return 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if os.readlink(descriptor) == str(path):  # noqa: PTH115  # a string, as what is no file has no path
                return int(Path("/proc/self/fdinfo", descriptor.name).read_text().split()[1])
    return SIZE


CLAUSES: tuple[Clause, ...] = (
    server_copies_files,
    kernel_sends_files,
    server_copies_at_the_readers_pace,
    kernel_sends_at_the_readers_pace,
    server_tells_of_files_it_cannot_copy,
    server_tells_of_files_the_kernel_cannot_send,
    server_copies_to_nobody,
    kernel_sends_to_nobody,
    server_copies_one_file_at_a_time,
    kernel_sends_one_file_at_a_time,
)
