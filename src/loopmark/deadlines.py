"""How long anything may take: what hangs is to end, and what only waits its turn is not to be cut off.

With many connections at a time each handshake waits for the others in its server's queue; so all deadlines grow with
that queue, by what its handshakes cost in memory (`docs/deadlines.md`) on a machine that is far slower than those that
this was found on.
"""

from loopmark.case import Case
from loopmark.spi import Options

CONVERSATION = 60.0
"""Seconds for one conversation that waits for nobody else."""

UNIT = 0.02
"""Seconds for each connection or round trip of many, as far as none of them takes part in a long handshake."""

START_UP = 60.0
"""Seconds for processes to start and import, and for everything else around the traffic."""

SLOWNESS = 20
"""How many times longer a handshake may take than in memory on a usual machine: loops, slow cores, others on them."""

HANDSHAKES = {"p256": 0.57e-3, "ed25519": 0.55e-3, "rsa2048": 0.76e-3, "rsa3072": 1.99e-3, "rsa4096": 3.82e-3}
"""CPU seconds of a full handshake of TLS 1.3 by the server's key, both sides, in memory, as they may share a core."""


def deadlines(concurrency: int, key: str | None, *, conversation: float = CONVERSATION) -> Options:
    """Return options whose deadlines fit so many connections at a time, with a server's key of this type or no TLS.

    `conversation` is what one may take that waits for nobody else, in seconds; half of it is for closing.
    """
    queue = float(int(concurrency * _handshake(key)))
    return Options(
        handshake_timeout=conversation + queue, close_timeout=conversation / 2 + queue, deadline=conversation + queue
    )


def of_traffic(options: Options, units: int) -> float:
    """Return the seconds for so many connections or round trips, whose conversations have these options."""
    return options.deadline + UNIT * units


def of_step(options: Options, units: int, case: Case) -> float:
    """Return the seconds until a step of an arm counts as stuck: its start, and all that it says and waits for."""
    trips = 10 * (case.rtt or 0.0) / 1000 / case.concurrency
    key = case.tls.key if case.tls else None
    return START_UP + options.deadline + units * (max(UNIT, _handshake(key)) + trips)


def _handshake(key: str | None) -> float:
    return SLOWNESS * HANDSHAKES[key] if key is not None else 0.0
