"""The index of a directory of results: what was published, and what it can and cannot show."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loopmark import redact
from loopmark.publish import history
from loopmark.publish.entry import Entry
from loopmark.publish.page import MARK, bullets, plain, table
from loopmark.record import Campaign

FILE = "README.md"

SMALL = 2
"""Cores of a machine on which a client and a server leave nothing for anybody else."""

INTRODUCTION = """\
Every campaign makes a directory here, `<UTC stamp>-<label>`, and every published one has a page there. The tables are
rendered from what is stored, never typed, and a test renders them again. [docs/method.md](../docs/method.md) tells how
it is measured, and why so, [docs/reading-a-table.md](../docs/reading-a-table.md) how to read a table."""

ABOUT_SMALL = """\
## What a virtual machine with two cores can and cannot show

It can show:

* How contenders compare with each other **there**: ratios taken within moments of each other, with intervals that cover
  how the machine wandered. They are wide when its neighbours were busy, and then say so.
* That all contenders did the same work, and how many bytes and records it took: facts, counters and wire traces do not
  depend on how fast a machine is.
* One client process against one server process, each with a core of its own or both on one.

It cannot show:

* How fast anything is: absolute figures move by tens of percent within an hour while nothing is to be seen from inside
  the machine.
* What more cores would give: servers with several processes, clients that outrun any server, libraries that use
  threads. Everything else that runs on the machine takes time from one of the two sides.
* What a quiet machine would give. CPU frequency, caches and memory are shared with neighbours and out of reach; small
  differences may stay inconclusive for ever.
* What a network does. Client and server are on one machine.
* What another processor, kernel, interpreter or OpenSSL would give: each of them is one sample of many."""

ABOUT_FILES = """\
## What lies in a directory

* `README.md`: the page, written by `loopmark publish`, with its pictures in `charts/`.
* `campaign.json`: everything. Arms, cases, blocks, facts, wire traces, the machine, and why something has no number.
  `loopmark compare` and `loopmark show` read it. A campaign that counted instructions has `instructions.json` instead.
* one file per contender, such as `uvloop.json`, for stock pyperf: `python -m pyperf show`, `stats`, `check`,
  `compare_to --table`.

There is no host name, no user name and no local path in any of it.
[docs/publishing.md](../docs/publishing.md) tells how a campaign gets here."""


def index(entries: Sequence[Entry], damaged: Mapping[str, str]) -> str:
    """Render the index, ended by a newline.

    `damaged` has, by name, the reason of every directory that cannot be read.
    """
    about_small = [ABOUT_SMALL] if any(_is_small(each.campaign) for each in entries) else []
    parts = [
        *(MARK, "# Results", INTRODUCTION),
        *("## Campaigns", *_campaigns(entries), *_damaged(damaged)),
        *about_small,
        ABOUT_FILES,
    ]
    return redact.text("\n\n".join(parts) + "\n")


def _campaigns(entries: Sequence[Entry]) -> Iterator[str]:
    if not entries:
        yield "None yet."
        return
    newest = sorted(entries, key=lambda each: (each.campaign.started, each.name), reverse=True)
    yield table(("campaign", "label", "what was run", "how it ended", "gate", "machine"), list(map(_row, newest)))
    yield f"[What became of the ratios from campaign to campaign]({history.FILE})."


def _row(entry: Entry) -> tuple[str, ...]:
    campaign = entry.campaign
    stamps = "".join(f"**{stamp}** " for stamp in entry.stamps)
    return (
        f"{stamps}[{entry.moment}]({entry.address})",
        plain(campaign.label),
        plain(_what(campaign)),
        plain(campaign.ended if len(campaign.ended) < 40 else "early"),
        _gates(entry),
        plain(_machine(campaign.machine)),
    )


_USUAL_TLS = ("1.3", "p256")
"""Version and key that are not worth a word."""


def _what(campaign: Campaign) -> str:
    """Name benchmarks and loads, `tls_pingpong at C = 1, 100`; behind it the mode, unless it is the usual one."""
    loads: dict[str, set[tuple[bool, int]]] = {}
    for plan in campaign.cases:
        case = plan.case
        name = f"{case.benchmark}:{case.variant}" if case.variant else case.benchmark
        if case.tls is not None and (case.tls.version, case.tls.key) != _USUAL_TLS:
            name += f" with TLS {case.tls.version} and a key {case.tls.key}"
        loads.setdefault(name, set()).add((case.burst, case.concurrency))
    told = [
        f"{name} at C = {', '.join(f'burst of {many}' if burst else str(many) for burst, many in sorted(each))}"
        for name, each in loads.items()
    ]
    return f"{'; '.join(told) or 'nothing'}{'' if campaign.mode == 'default' else f' ({campaign.mode})'}"


def _gates(entry: Entry) -> str:
    """Count what the cases' gates say."""
    many = Counter(str(gate) for _, gate in entry.gates)
    return "; ".join(f"{word}: {count} of {many.total()}" for word, count in many.items()) or "none"


def _machine(machine: Mapping[str, Any]) -> str:
    cpu, python = machine.get("cpu") or {}, machine.get("python") or {}
    cores = _cores(machine)
    words = [
        cpu.get("model"),
        f"{cores} core{'' if cores == 1 else 's'}" if cores else None,
        "virtual" if machine.get("virtualisation") else None,
        " ".join(str(python[key]) for key in ("implementation", "version") if python.get(key)),
    ]
    return ", ".join(str(word) for word in words if word) or "unknown"


def _cores(machine: Mapping[str, Any]) -> Any:
    cpu = machine.get("cpu") or {}
    return cpu.get("physical_cores") or cpu.get("logical_cores")


def _is_small(campaign: Campaign) -> bool:
    cores = _cores(campaign.machine)
    return bool(campaign.machine.get("virtualisation")) and isinstance(cores, int) and cores <= SMALL


def _damaged(damaged: Mapping[str, str]) -> Iterator[str]:
    if damaged:
        yield "These cannot be read, and their pages are of an earlier state:"
        yield bullets(f"**DAMAGED** `{name}`: {plain(why)}" for name, why in sorted(damaged.items()))
