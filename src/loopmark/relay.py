"""The recording relay: a witness between client and server, never present while anything is timed.

It takes one connection at a time, passes bytes on in both directions and writes down what it saw. How it works:

* What arrives is recorded before it is sent on, so nothing is recorded ahead of its cause. When both sides have
  something to read, neither can have caused the other; the client is then read first.
* The end of one direction is passed on as a half-close, and the other direction goes on: the order of FINs survives.
* A server may close for good without waiting for the client's close_notify; the client's bytes are recorded all the
  same, although sending them on fails.
* A reset is recorded, and passed on after everything that the other side has already sent was read.
"""

import contextlib
import selectors
import socket
import struct
import threading
from types import TracebackType
from typing import Self

from loopmark.record import Trace
from loopmark.spi import Address
from loopmark.traces import Direction, End, Event, read_trace

_CHUNK = 65536
_CONNECT_TIMEOUT = 5.0
_ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset."""


class RecordingRelay:
    """Listens on the loopback address of the upstream's family; a context manager that records conversations."""

    def __init__(self, upstream: Address) -> None:
        self.upstream = upstream
        self._traces: list[Trace] = []
        self._busy = False
        self._changed = threading.Condition()

    @property
    def address(self) -> Address:
        """Where clients connect."""
        host, port = self._listener.getsockname()[:2]
        return Address(host, port)

    def traces(self, timeout: float = 5.0) -> list[Trace]:
        """Return the conversations that have ended, in order; wait at most `timeout` seconds for those that have begun.

        A connection that could not be passed on, because nobody listens upstream, leaves no trace.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._busy and not _readable(self._listener), timeout)
            return list(self._traces)

    def __enter__(self) -> Self:
        family, host = (socket.AF_INET6, "::1") if ":" in self.upstream.host else (socket.AF_INET, "127.0.0.1")
        self._listener = socket.create_server((host, 0), family=family)
        self._listener.setblocking(False)
        self._stop, self._stopper = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="recording relay", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopper.send(b"!")
        self._thread.join()
        for sock in (self._listener, self._stop, self._stopper):
            sock.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._stop, selectors.EVENT_READ)
            while self._stop not in {key.fileobj for key, _ in selector.select()}:
                # Busy before accepting: `traces` sees a connection either in the queue or here.
                self._note(busy=True)
                trace = None
                # A client may be gone before it is accepted, and the upstream may not be there.
                with contextlib.suppress(OSError):
                    trace = self._converse()
                self._note(busy=False, trace=trace)

    def _note(self, *, busy: bool, trace: Trace | None = None) -> None:
        with self._changed:
            self._busy = busy
            if trace is not None:
                self._traces.append(trace)
            self._changed.notify_all()

    def _converse(self) -> Trace | None:
        """Relay the next connection to its end; None when it was stopped before."""
        client, _ = self._listener.accept()
        with client:
            # Until there is a server, the client is to see a reset rather than an orderly end.
            _abort_on_close(client, on=True)
            with socket.create_connection(self.upstream, timeout=_CONNECT_TIMEOUT) as server:
                _abort_on_close(client, on=False)
                for sock in (client, server):
                    sock.setblocking(False)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                conversation = _Conversation(client, server)
                return read_trace(conversation.events) if conversation.pump(self._stop) else None


class _Flow:
    """One direction: read from `source`, recorded, sent to `sink`."""

    def __init__(self, direction: Direction, source: socket.socket, sink: socket.socket, events: list[Event]) -> None:
        self.direction, self.source, self.sink = direction, source, sink
        self.pending = bytearray()
        self.end: End | None = None
        self.broken = False
        """The source has reset the connection, which a failed send to it has told already."""
        self.deaf = False
        """The sink takes no more."""
        self._events = events

    def read(self) -> None:
        """Read and record once, if there is something to read."""
        try:
            data = self.source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._finish(End.RESET)
        else:
            if data:
                self._events.append(Event(self.direction, data))
                self.pending += data
            else:
                self._finish(End.RESET if self.broken else End.FIN)

    def drain(self) -> None:
        """Read and record everything that is already there."""
        before = -1
        while self.end is None and before != len(self._events):
            before = len(self._events)
            self.read()

    def write(self, back: "_Flow") -> None:
        """Send what is pending as far as possible, then pass on the end; `back` is the other direction."""
        if self.deaf:
            return
        try:
            while self.pending:
                del self.pending[: self.sink.send(self.pending)]
            if self.end is End.FIN:
                self.sink.shutdown(socket.SHUT_WR)
                self.deaf = True
        except BlockingIOError:
            return
        except OSError as error:
            self.deaf = True
            # The kernel tells of a reset once; the next read would look like an orderly end.
            back.broken = isinstance(error, ConnectionResetError)

    @property
    def over(self) -> bool:
        return self.end is not None and self.deaf

    def _finish(self, end: End) -> None:
        self.end = end
        self._events.append(Event(self.direction, end))


class _Conversation:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.events: list[Event] = []
        self._up = _Flow(Direction.TO_SERVER, client, server, self.events)
        self._down = _Flow(Direction.TO_CLIENT, server, client, self.events)

    def pump(self, stop: socket.socket) -> bool:
        """Relay until both directions have ended, or one was reset; False when `stop` becomes readable before."""
        pairs = ((self._up, self._down), (self._down, self._up))
        with selectors.DefaultSelector() as selector:
            selector.register(stop, selectors.EVENT_READ)
            while not (self._up.over and self._down.over):
                for flow, back in pairs:
                    _watch(selector, flow.source, read=flow.end is None, write=bool(back.pending) and not back.deaf)
                ready = {key.fileobj: mask for key, mask in selector.select()}
                if stop in ready:
                    return False
                for flow, _ in pairs:
                    if flow.end is None and ready.get(flow.source, 0) & selectors.EVENT_READ:
                        flow.read()
                for flow, back in pairs:
                    flow.write(back)
                for flow, back in pairs:
                    if flow.end is End.RESET:
                        back.drain()
                        _abort_on_close(flow.sink, on=True)
                        return True
        return True


def _watch(selector: selectors.BaseSelector, sock: socket.socket, *, read: bool, write: bool) -> None:
    """Watch a socket for just this; not at all if for nothing, or a hang-up would be reported for ever."""
    with contextlib.suppress(KeyError):
        selector.unregister(sock)
    if mask := read * selectors.EVENT_READ | write * selectors.EVENT_WRITE:
        selector.register(sock, mask)


def _readable(sock: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _abort_on_close(sock: socket.socket, *, on: bool) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT if on else bytes(len(_ABORT)))
