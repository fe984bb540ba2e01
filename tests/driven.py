"""The command `loopmark`, with gates: `python tests/driven.py ARGUMENT...`; the tests of accidents run it.

A gate is a place in a campaign where a process says that it has come there, and waits: `PHASE@OPENED` in the variable
GATES, OPENED counting the interpreters of blocks from 1, that of the calibration. It is passed once. What is looked for
on every start, contenders and facts of the machine, is given here, so that a start takes no time. With GATE_SERVER a
gate is only for those whose server's process has that name.
"""

import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(os.environ.get("GATES_AT", "."))
GATES = dict(each.split("@") for each in os.environ.get("GATES", "").split())

PLUGIN = """
import sys
sys.path.insert(0, {tests!r})
import driven
from loopmark import caller, readings
from loopmark.backends.blocking import Blocking

class Gated(Blocking):
    def __init__(self, *given):
        super().__init__(*given)
        if any(frame.endswith("caller.py") for frame in driven.files()):
            driven.gate("start")

    async def connect(self, address, *, tls, options):
        driven.gate(driven.phase)
        return await super().connect(address, tls=tls, options=options)

driven.during(caller.Caller, "pace", "calibration")
driven.during(caller.Caller, "prove", "proof")
driven.during(caller.Caller, "time", "values")
driven.during(readings.Readings, "result", "finish", lambda: driven.gate("finish"))
driven.step_the_clock()
backends = {{"gated": Gated}}
"""

phase = ""
server = 0


def gate(name: str) -> None:
    """Tell that this process is there, and wait until it may go on; only the first that comes has to."""
    if name not in GATES or GATES[name] != (HERE / "opened").read_text():
        return
    if (wanted := os.environ.get("GATE_SERVER")) and (not server or wanted != named(server)):
        return
    try:
        os.close(os.open(HERE / f"passed-{name}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    # Closed here, since an interrupt that comes while an object is thrown away is lost.
    (HERE / "reached").write_text(f"{name} {os.getpid()} {server}\n")
    with (HERE / f"go-{name}").open("rb", buffering=0) as go:
        go.read(1)


def named(pid: int) -> str:
    """Return the name of a process."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def during(kind: type, method: str, name: str, first: Callable[[], None] = lambda: None) -> None:
    """Let `phase` have a name while a method runs, unless it is a part of another phase."""
    whole = getattr(kind, method)

    def run(self: Any, *given: Any, **options: Any) -> Any:
        global phase, server  # noqa: PLW0603  # of this process
        outer = phase
        phase = phase or name
        handle = getattr(self, "server", None) or getattr(self, "_server", None)
        server = getattr(handle, "pid", 0)
        first()
        try:
            return whole(self, *given, **options)
        finally:
            phase = outer

    setattr(kind, method, run)


def replace(where: object, **others: object) -> None:
    """Put other objects in the place of what a module has."""
    for name, other in others.items():
        setattr(where, name, other)


def files() -> list[str]:
    """Return the files of the code that runs."""
    return [each.filename for each in traceback.extract_stack()]


def step_the_clock() -> None:
    """Let the clock of the day be set back and forth by a day, at every look, where CLOCK says so."""
    if "CLOCK" not in os.environ:
        return
    true, looks = time.time, [0]

    def wrong() -> float:
        looks[0] += 1
        return true() + (86400 if looks[0] % 2 else -86400)

    time.time = wrong


def _main() -> None:
    from loopmark import campaign, cli, continuing, machine, store  # not in measured processes
    from loopmark.cli import conducting
    from loopmark.executor import Interpreters
    from loopmark.probe import Finding, Survey
    from loopmark.registry import registry

    def survey(plugin: Path | None) -> Survey:
        names = {"backends": ["gated"], "loops": [], "benchmarks": []} if plugin else None
        known = registry(plugin, names)
        features = ("tcp", "tls")
        found = {each: Finding(name=each, status="ok", features=features, versions={}) for each in known.contenders}
        return Survey(registry=known, findings=found)

    for module in (campaign, continuing):
        replace(module, survey=survey)
    facts = {"cpu": {"model": "a test"}, "versions": {"loopmark": "1"}}
    replace(machine, describe=lambda versions: facts)
    opened = 0

    class Gated(Interpreters):
        def open_block(self) -> None:
            nonlocal opened
            gate("between")
            opened += 1
            (HERE / "opened").write_text(str(opened))
            super().open_block()

        def close_block(self) -> None:
            gate("ending")
            super().close_block()

    replace(conducting, Interpreters=Gated)
    (HERE / "opened").write_text("0")
    write, fsync = store.write, os.fsync

    def write_gated(path: Path, what: Any) -> None:
        global phase  # noqa: PLW0603
        phase = "saving" if what.ended == "running" else "last"
        write(path, what)

    def fsync_gated(descriptor: int) -> None:
        gate(phase)
        fsync(descriptor)

    replace(store, write=write_gated)
    replace(os, fsync=fsync_gated)
    step_the_clock()
    cli.main()


if __name__ == "__main__":
    _main()
