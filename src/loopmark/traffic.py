"""The client's traffic: framework-neutral coroutines that await only what the backend gave them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from loopmark.case import Conversation, Lookup, Traffic
from loopmark.errors import FactsError, ProtocolError, VoidError, translate
from loopmark.service import Talk
from loopmark.spi import Address, Backend, ClientTLS, Connection, Datagrams, Facts, Main, Options, T

DATAGRAM_DEADLINE = 2.0
"""Seconds after which a datagram or its answer counts as lost."""


AT_ONCE = 100
"""Idle connections that are opened, and closed, at the same time."""

PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

SPARE_PORTS = 100
"""Of a source address, for all else on the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom to call and what to say."""

    address: Address
    talk: Talk
    tls: ClientTLS | None
    options: Options
    others: tuple[Talk, ...] = ()
    """What connections say in turn, after the first one said `talk`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopwatch:
    """What the traffic calls around what is to be timed; between `stop` and `rest` the server comes to rest.

    `start` is told how many connections are open.
    """

    start: Callable[[int], None]
    stop: Callable[[], None]
    rest: Callable[[], None]


def conversing(backend: Backend, target: Target, talk: Talk) -> Main[bytes]:
    """Return what has the whole conversation on a connection of its own, and returns the reply, whatever that is."""
    address, tls, options = target.address, target.tls, target.options
    if talk.request is not None:
        return partial(backend.ask, address, talk.request, talk.at_a_time, tls=tls, options=options)
    parts, size, rounds = talk.parts, talk.reply_size, talk.rounds

    async def converse_in_parts() -> bytes:
        connection = await backend.connect(address, tls=tls, options=options)
        try:
            return await connection.exchange(parts, size, rounds)
        finally:
            await connection.close()

    return converse_in_parts


async def visit(backend: Backend, target: Target) -> Facts:
    """Make one connection, read its facts while it is open, exchange, close; return the facts."""

    async def converse_once() -> Facts:
        # In parts, whatever is timed: the facts are read before the server can have ended the conversation.
        connection = await backend.connect(target.address, tls=target.tls, options=target.options)
        facts = connection.facts()
        await _talk(connection, target.talk)
        return facts

    return await _in_time(backend, target, converse_once)


async def fetch(backend: Backend, target: Target) -> bytes:
    """Make one connection as those that are timed, and return the reply, which the talk has checked."""
    reply = await _in_time(backend, target, conversing(backend, target, target.talk))
    target.talk.check(reply)
    return reply


async def hold(backend: Backend, target: Target, concurrency: int) -> list[Connection]:
    """Open `concurrency` connections at once and keep them open, so that the server can be asked for its count."""
    connections: list[Connection] = []

    async def dial() -> None:
        connections.append(await backend.connect(target.address, tls=target.tls, options=target.options))

    await backend.gather(*[dial] * concurrency)
    return connections


async def release(backend: Backend, target: Target, connections: list[Connection]) -> None:
    """Have the conversation on connections that are held, all at once, and close them."""
    waiting = iter(connections)

    async def finish() -> None:
        await _talk(next(waiting), target.talk)

    await backend.gather(*[finish] * len(connections))


async def churn(backend: Backend, target: Target, *, connections: int, concurrency: int) -> int:
    """Make `connections` new connections, `concurrency` at a time; return how many right replies came.

    This is what is timed. Workers share one iterator of work; every reply is compared.
    """
    talk, address, tls, options = target.talk, target.address, target.tls, target.options
    if target.others or talk.request is None:
        return await _churn_in_turn(backend, target, connections, concurrency)
    # Bound here and called there without anything in between: on one core even a call more shows.
    ask, request, at_a_time, expected = backend.ask, talk.request, talk.at_a_time, talk.reply
    work = iter(range(connections))
    done: list[int] = []

    async def worker() -> None:
        replies = 0
        for _ in work:
            reply = await ask(address, request, at_a_time, tls=tls, options=options)
            if reply != expected:
                talk.check(reply)
            replies += 1
        done.append(replies)

    if concurrency == 1:
        await worker()
    else:
        await backend.gather(*[worker] * concurrency)
    return _added_up(done, concurrency)


async def _churn_in_turn(backend: Backend, target: Target, connections: int, concurrency: int) -> int:
    """Do the same with talks of any kind, which take turns."""
    talks = [(conversing(backend, target, talk), talk) for talk in (target.talk, *target.others)]
    work = islice(cycle(talks), connections)
    done: list[int] = []

    async def worker() -> None:
        replies = 0
        for converse, talk in work:
            reply = await converse()
            if reply != talk.reply:
                talk.check(reply)
            replies += 1
        done.append(replies)

    if concurrency == 1:
        await worker()
    else:
        await backend.gather(*[worker] * concurrency)
    return _added_up(done, concurrency)


async def messages(
    backend: Backend, target: Target, watch: Stopwatch, *, round_trips: int, concurrency: int
) -> tuple[int, int]:
    """Make round trips on `concurrency` connections that are open before and after; return replies and connections.

    Each connection makes as many as every other, or one more. The last reply of each is compared; that there were as
    many as asked for is the server's count.
    """
    talk = target.talk
    connections = await hold(backend, target, concurrency)
    shares = [len(range(number, round_trips, concurrency)) for number in range(concurrency)]
    waiting = iter(zip(connections, shares, strict=True))
    done: list[int] = []

    async def repeat() -> None:
        connection, rounds = next(waiting)
        talk.check(await connection.exchange(talk.parts, talk.reply_size, rounds))
        done.append(rounds)

    watch.start(concurrency)
    if concurrency == 1:
        await repeat()
    else:
        await backend.gather(*[repeat] * concurrency)
    watch.stop()
    watch.rest()
    await _close(backend, connections)
    return _added_up(done, concurrency), concurrency


async def pool(
    backend: Backend, target: Target, watch: Stopwatch, *, slots: int, requests: int, concurrency: int
) -> tuple[int, int]:
    """Make requests, `concurrency` at once, over connections that are shared; return replies and connections.

    What is timed is acquire, exchange, release. There are never more connections than `slots`: they are opened before.
    """
    talk = target.talk
    connections = await hold(backend, target, slots)
    idle, limiter = list(connections), backend.limiter(slots)
    work = iter(range(requests))
    done: list[int] = []

    async def worker() -> None:
        replies = 0
        for _ in work:
            await limiter.acquire()
            connection = idle.pop()
            try:
                reply = await connection.exchange(talk.parts, talk.reply_size, 1)
            finally:
                idle.append(connection)
                limiter.release()
            if reply != talk.reply:
                talk.check(reply)
            replies += 1
        done.append(replies)

    watch.start(slots)
    await backend.gather(*[worker] * concurrency)
    watch.stop()
    watch.rest()
    await _close(backend, connections)
    return _added_up(done, concurrency), slots


async def datagrams(
    backend: Backend, target: Target, watch: Stopwatch, *, round_trips: int, concurrency: int
) -> tuple[int, int]:
    """Send datagrams from `concurrency` sockets, each after the answer to the one before; return replies and sockets.

    Raises VoidError when one was lost: the value would be the deadline's.
    """
    payload, expected = target.talk.parts[0], target.talk.reply
    sockets: list[Datagrams] = [await backend.open_datagrams(target.address) for _ in range(concurrency)]
    waiting, work = iter(sockets), iter(range(round_trips))
    done: list[int] = []
    lost: list[int] = []

    async def worker() -> None:
        sock, replies = next(waiting), 0
        for number in work:
            reply = await sock.exchange(payload, DATAGRAM_DEADLINE)
            if reply is None:
                lost.append(number)
            elif reply != expected:
                target.talk.check(reply)
            else:
                replies += 1
        done.append(replies)

    watch.start(0)
    if concurrency == 1:
        await worker()
    else:
        await backend.gather(*[worker] * concurrency)
    watch.stop()
    watch.rest()
    for sock in sockets:
        await sock.close()
    if lost:
        raise VoidError(f"{len(lost)} of {round_trips} datagrams were lost: the value is void")
    return _added_up(done, concurrency), concurrency


async def lookups(
    backend: Backend, names: Sequence[Lookup], watch: Stopwatch, *, count: int, concurrency: int
) -> tuple[int, int]:
    """Look names up in turn, `concurrency` at a time; return how many gave right addresses, and no connection."""
    work = islice(cycle(names), count)
    done: list[int] = []

    async def worker() -> None:
        found = 0
        for each in work:
            addresses = {address.host for address in await backend.resolve(each.host, 0, each.family)}
            if not addresses or not addresses <= each.addresses:
                raise ProtocolError(f"{each.host} was resolved to {', '.join(sorted(addresses)) or 'nothing'}")
            found += 1
        done.append(found)

    watch.start(0)
    if concurrency == 1:
        await worker()
    else:
        await backend.gather(*[worker] * concurrency)
    watch.stop()
    return _added_up(done, concurrency), 0


async def idle(
    backend: Backend, target: Target, watch: Stopwatch, *, held: int, concurrency: int, ports: int
) -> tuple[int, int]:
    """Open `held` connections, and then the rest up to `concurrency`, which is what is looked at; return the numbers.

    Every `ports` connections come from a loopback address of their own. In the end all have their conversation.
    """
    connections: list[Connection] = []

    async def open_to(count: int) -> None:
        while (there := len(connections)) < count:
            number = there // ports
            source = _loopback_address(number) if concurrency > ports else target.options.source
            some = replace(target, options=replace(target.options, source=source))
            connections.extend(await hold(backend, some, min(count, (number + 1) * ports, there + AT_ONCE) - there))

    await open_to(held)
    watch.start(held)
    await open_to(concurrency)
    watch.stop()
    watch.rest()
    for start in range(0, concurrency, AT_ONCE):
        await release(backend, target, connections[start : start + AT_ONCE])
    return concurrency - held, concurrency


async def converse(
    backend: Backend, target: Target, conversation: Conversation, watch: Stopwatch, *, count: int, concurrency: int
) -> tuple[int, int]:
    """Make the traffic of one value: `count` units, `concurrency` at a time; return the replies and the connections."""
    match conversation.traffic:
        case Traffic.MESSAGES:
            return await messages(backend, target, watch, round_trips=count, concurrency=concurrency)
        case Traffic.POOL:
            slots = conversation.slots
            return await pool(backend, target, watch, slots=slots, requests=count, concurrency=concurrency)
        case Traffic.DATAGRAMS:
            return await datagrams(backend, target, watch, round_trips=count, concurrency=concurrency)
        case Traffic.LOOKUPS:
            return await lookups(backend, conversation.lookups, watch, count=count, concurrency=concurrency)
        case Traffic.IDLE:
            held, ports = concurrency - count, source_ports()
            return await idle(backend, target, watch, held=held, concurrency=concurrency, ports=ports)
    traffic = backend.churn or churn
    watch.start(0)
    replies = await traffic(backend, target, connections=count, concurrency=concurrency)
    watch.stop()
    return replies, count


def _loopback_address(number: int) -> str:
    """Return one of this process's own loopback addresses: what an earlier process has left cannot be in its way."""
    return f"127.{1 + os.getpid() % 250}.{os.getpid() // 250 % 250}.{2 + number}"


def source_ports() -> int:
    """Return how many connections to one server an address of ours can have: the system's range of ports."""
    try:
        low, high = PORT_RANGE.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        low, high = "49152", "65535"  # what IANA leaves free, and macOS takes
    return max(1, int(high) - int(low) + 1 - SPARE_PORTS)


async def _close(backend: Backend, connections: Sequence[Connection]) -> None:
    await backend.gather(*(connection.close for connection in connections))


def _added_up(done: Sequence[int], concurrency: int) -> int:
    if len(done) != concurrency:
        raise FactsError(f"gather returned after {len(done)} of {concurrency} jobs")
    return sum(done)


async def _in_time(backend: Backend, target: Target, job: Main[T]) -> T:
    try:
        return await backend.within(target.options.deadline, job)
    except Exception as error:
        raise translate(error) from error


async def _talk(connection: Connection, talk: Talk) -> bytes:
    try:
        reply = await connection.exchange(talk.parts, talk.reply_size, talk.rounds)
    finally:
        await connection.close()
    talk.check(reply)
    return reply
