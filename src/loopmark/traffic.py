"""The client's traffic: framework-neutral coroutines that await only what the backend gave them."""

from dataclasses import dataclass

from loopmark.errors import FactsError, translate
from loopmark.service import Talk
from loopmark.spi import Address, Backend, ClientTLS, Connection, Facts, Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom to call and what to say."""

    address: Address
    talk: Talk
    tls: ClientTLS | None
    options: Options


async def visit(backend: Backend, target: Target) -> Facts:
    """Make one connection, read its facts while it is open, exchange, close; return the facts."""
    try:
        connection = await backend.connect(target.address, tls=target.tls, options=target.options)
        facts = connection.facts()
        await _talk(connection, target.talk)
    except Exception as error:
        raise translate(error) from error
    return facts


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
    connect, address, tls, options = backend.connect, target.address, target.tls, target.options
    parts, size, rounds = target.talk.parts, target.talk.reply_size, target.talk.rounds
    expected = target.talk.reply
    work = iter(range(connections))
    done: list[int] = []

    async def worker() -> None:
        replies = 0
        for _ in work:
            connection = await connect(address, tls=tls, options=options)
            try:
                reply = await connection.exchange(parts, size, rounds)
            finally:
                await connection.close()
            if reply != expected:
                target.talk.check(reply)
            replies += 1
        done.append(replies)

    if concurrency == 1:
        await worker()
    else:
        await backend.gather(*[worker] * concurrency)
    if len(done) != concurrency:
        raise FactsError(f"gather returned after {len(done)} of {concurrency} jobs")
    return sum(done)


async def _talk(connection: Connection, talk: Talk) -> None:
    try:
        reply = await connection.exchange(talk.parts, talk.reply_size, talk.rounds)
    finally:
        await connection.close()
    talk.check(reply)
