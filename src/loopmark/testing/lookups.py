"""The contract's clauses about what a library brings besides connections: its resolver and its semaphore."""

# ruff: noqa: D401  # a clause's docstring is a promise, not an order

import socket
import threading
import time
from contextlib import suppress

from loopmark.spi import Address, Feature, Limiter
from loopmark.testing.ground import JOBS, BrokenContract, Clause, Ground, NotApplicable, Where, clause, expect

UNKNOWN = "loopmark-check.invalid"
"""A name that nobody can have (RFC 2606)."""

SLOTS = 3

TURNS = 20
"""So often others get their turn to take a slot that should not be there."""


@clause(Where.UNASKED, needs=Feature.RESOLVER)
def resolver_takes_numeric_addresses(at: Ground) -> None:
    """A numeric address is resolved to itself, as an `Address` with the port that was given, of its own family only."""
    for host, family, other in (
        ("127.0.0.1", socket.AF_INET, socket.AF_INET6),
        ("::1", socket.AF_INET6, socket.AF_INET),
    ):
        found = _resolve(at, host, family)
        expect(found == [Address(host, 80)], f"{host} was resolved to {found}")
        expect(all(type(each) is Address for each in found), f"{host} was resolved to tuples that are no Address")
        _refuses(at, host, other)


@clause(Where.UNASKED, needs=Feature.RESOLVER)
def resolver_knows_localhost(at: Ground) -> None:
    """A name is resolved to what the system's resolver says, in the same order, each address once."""
    for family in (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6):
        try:
            told = socket.getaddrinfo("localhost", 80, family=family, type=socket.SOCK_STREAM)
        except socket.gaierror:
            continue
        wanted = [Address(str(entry[4][0]), int(entry[4][1])) for entry in told]
        found = _resolve(at, "localhost", family)
        expect(found == wanted, f"localhost was resolved to {found}, the system says {wanted}")


@clause(Where.UNASKED, needs=Feature.RESOLVER)
def resolver_reports_unknown_names(at: Ground) -> None:
    """A name that does not exist raises `socket.gaierror`."""
    # It takes as long as the machine's own resolver does, which may ask a network that is not there.
    system = threading.Thread(target=lambda: _known_to_the_system(UNKNOWN), daemon=True)
    system.start()
    system.join(at.patience)
    if system.is_alive():
        raise NotApplicable(f"this machine's resolver takes longer than {at.patience:g} s to say that it knows no name")
    _refuses(at, UNKNOWN, socket.AF_UNSPEC)


def _known_to_the_system(name: str) -> bool:
    with suppress(socket.gaierror):
        return bool(socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM))
    return False


def _resolve(at: Ground, host: str, family: socket.AddressFamily) -> list[Address]:
    return at.backend.run(lambda: at.backend.resolve(host, 80, family))


def _refuses(at: Ground, host: str, family: socket.AddressFamily) -> None:
    """See that a name cannot be resolved."""
    try:
        found = _resolve(at, host, family)
    except socket.gaierror:
        return
    except Exception as error:
        raise BrokenContract(f"{host} raised {type(error).__name__} instead of gaierror") from error
    raise BrokenContract(f"{host} was resolved to {found} in the family {family.name}")


@clause(Where.UNASKED, needs=Feature.LIMITER)
def limiter_holds_no_more_than_its_slots(at: Ground) -> None:
    """All slots of a limiter are taken at once, never more, and who waits gets one when another gives it back."""
    comers: set[int] = set()
    holders: set[int] = set()
    crowds: list[int] = []
    backend = at.backend

    async def main() -> None:
        limiter = backend.limiter(SLOTS)
        numbers = iter(range(JOBS))

        async def job() -> None:
            number = next(numbers)
            comers.add(number)
            await limiter.acquire()
            holders.add(number)
            end = time.monotonic() + at.patience / 2
            # The first stay until all slots are taken and everybody is there; the others are let pass.
            while not crowds and (len(holders) < SLOTS or len(comers) < JOBS) and time.monotonic() < end:
                await backend.sleep(0.001)
            for _ in range(TURNS):
                if crowds or len(holders) > SLOTS:
                    break
                # Somebody may be about to take a slot that is not there.
                await backend.sleep(0.001)
            crowds.append(len(holders))
            holders.remove(number)
            limiter.release()

        await backend.gather(*[job] * JOBS)

    backend.run(main)
    expect(len(crowds) == JOBS, f"{len(crowds)} of {JOBS} jobs got a slot")
    expect(max(crowds) == SLOTS, f"{max(crowds)} jobs at once held {SLOTS} slots")


@clause(Where.UNASKED, needs=Feature.LIMITER)
def limiter_takes_slots_back_after_a_failure(at: Ground) -> None:
    """When a job fails that has given its slot back, no slot is lost, whatever becomes of those who waited for it."""
    backend = at.backend

    async def main() -> None:
        limiter = backend.limiter(1)
        waiting: list[int] = []

        async def fail() -> None:
            await limiter.acquire()
            try:
                while len(waiting) < 2:
                    await backend.sleep(0.001)
                raise LookupError("planned")
            finally:
                limiter.release()

        async def wait() -> None:
            waiting.append(1)
            await _pass(limiter)

        with suppress(LookupError, BaseExceptionGroup):
            await backend.gather(fail, wait, wait)
        for _ in range(JOBS):
            await _pass(limiter)

    backend.run(main)


async def _pass(limiter: Limiter) -> None:
    await limiter.acquire()
    limiter.release()


CLAUSES: tuple[Clause, ...] = (
    resolver_takes_numeric_addresses,
    resolver_knows_localhost,
    resolver_reports_unknown_names,
    limiter_holds_no_more_than_its_slots,
    limiter_takes_slots_back_after_a_failure,
)
