"""An arm whose client or server runs under callgrind: prove the work, then count the instructions of that side.

Run as `python -m loopmark.counted ORDER SIDE OUT PARENT_PID`, under callgrind itself when SIDE is `client`; the server
is this process's child. The answer is one JSON line with the facts, or an error; the counts are in callgrind's files.

Both processes share a core, and the counted one gives way: it runs only while the other has nothing to do, as if its
peer were infinitely fast. So what arrives together, and how often a loop turns, is the same each time, however slow one
side has become by being counted and whatever else the machine does.
"""

import os
import sys
from pathlib import Path
from typing import Any

from loopmark import callgrind
from loopmark.caller import Caller, report
from loopmark.peer import Handle, die_with_parent, mark, spawned
from loopmark.task import Order, order_from
from loopmark.turns import Turns


def _count(order: Order, server: Handle, side: str) -> dict[str, Any]:
    """Make `order.warmups` connections to warm up, as many to be counted, then `order.loops` more than that."""
    caller = Caller(order.client, server)
    answer = {"facts": caller.prove(order.at_once), **caller.trace()}
    caller.time(order.warmups)
    _give_way(server.pid if side == "server" else 0)
    for connections in (order.warmups, order.warmups + order.loops):
        _mark(server, side)
        caller.time(connections)
    _mark(server, side)
    return answer


def _give_way(pid: int) -> None:
    """Let the kernel run a process (0: this one) only when nobody else wants the core; anybody may ask for that."""
    os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def _mark(server: Handle, side: str) -> None:
    if side == "server":
        server.ask("mark")
    else:
        mark()


def _main() -> None:
    die_with_parent(int(sys.argv[4]))
    order, side, out_file = order_from(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    # What a library prints must not mix with the report.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    under = callgrind.command(out_file) if side == "server" else ()
    with spawned(order.server, under=under) as server, out:
        turns = Turns(sys.stdin.fileno(), out)
        report(turns, lambda: turns.tell(_count(order, server, side)))


if __name__ == "__main__":
    _main()
