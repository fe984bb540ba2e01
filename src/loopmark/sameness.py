"""Whether two campaigns measured against the same thing: the baseline and all that its numbers are made of. Pure.

A contender may differ, that is what is to be found out. What the baseline and the fixed peers depend on may not: the
ratio to a baseline that has become faster looks like a contender that has become slower. loopmark's own version counts,
since benchmarks, backends and the method are part of every number. Its revision does not: who works on a backend
compares two revisions of one version. The kernel does not, either: it changes with every image of a hosted runner and
acts on baseline and contender alike for the most part.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loopmark.record import Campaign

ALWAYS = "loopmark"
"""The distribution whose version counts whoever is measured."""

SOFTWARE: Mapping[str, Sequence[str]] = {
    "the architecture": ("architecture",),
    "the C library": ("libc",),
    "the OpenSSL of the interpreter": ("openssl",),
    "the interpreter": ("python", "implementation"),
    "the interpreter's version": ("python", "version"),
    "the interpreter's compiler": ("python", "compiler"),
    "the interpreter's profile-guided optimisation": ("python", "pgo"),
    "the interpreter's link-time optimisation": ("python", "lto"),
    "the interpreter's debug mode": ("python", "debug"),
    "the interpreter's lock": ("python", "gil"),
    "the setting of malloc": ("malloc",),
}
"""What decides which instructions are executed: its name, and the way to it in the facts of the machine."""

MACHINE: Mapping[str, Sequence[str]] = {
    "the CPU": ("cpu", "model"),
    "the number of physical cores": ("cpu", "physical_cores"),
    "the number of logical cores": ("cpu", "logical_cores"),
    "the number of usable cores": ("cpu", "usable_cores"),
    **SOFTWARE,
}
"""What decides how long they take, too."""


CONTINUED: Mapping[str, Sequence[str]] = {
    **MACHINE,
    "the system": ("system",),
    "the revision of the checkout": ("source", "revision"),
}
"""What must be as it was for more blocks of one campaign."""


def differences(old: Campaign, new: Campaign, *, machine: Mapping[str, Sequence[str]] = MACHINE) -> Iterator[str]:
    """Yield a sentence, without its full stop, for everything that must be equal and is not."""
    if (old.started, old.seed) == (new.started, new.seed):
        yield "OLD and NEW are the same campaign"
    yield from _differs("the baseline", old.baseline, new.baseline)
    if (old.mode == "fast") is not (new.mode == "fast"):
        yield from _differs("the mode", old.mode, new.mode)
    names = [{plan.case.name for plan in campaign.cases} for campaign in (old, new)]
    for where, only in (("OLD", names[0] - names[1]), ("NEW", names[1] - names[0])):
        yield from (f"the case {name} is in {where} only" for name in sorted(only))
    for what, path in machine.items():
        yield from _differs(what, _at(old.machine, path), _at(new.machine, path))
    yield from _versions(old, new)
    for case in sorted(names[0] & names[1]):
        before, after = _manner(old, case), _manner(new, case)
        if before and after:
            yield from _differs(f"how values were taken in {case}", before, after)
    if old.baseline == new.baseline:
        yield from _facts(old, new, sorted(names[0] & names[1]))


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence, without its full stop, for every fact of the machine that keeps a campaign from going on."""
    facts = dict(CONTINUED)
    for machine in (before, now):
        versions = machine.get("versions")
        facts |= {f"the version of {name}": ("versions", name) for name in (versions or ()) if versions is not None}
    for what, path in facts.items():
        then, today = _at(before, path), _at(now, path)
        if then != today:
            yield f"{what} was {_shown(then)} and is {_shown(today)}"
    clean = [_at(machine, ("source", "clean")) for machine in (before, now)]
    if clean[0] != clean[1]:
        yield f"the checkout {'had' if clean[1] else 'has'} changes that are not committed"


def _at(machine: Mapping[str, Any], path: Sequence[str]) -> Any:
    found: Any = machine
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _versions(old: Campaign, new: Campaign) -> Iterator[str]:
    """Compare what the baseline and the fixed peers are made of."""
    for name in sorted({*_needed(old), *_needed(new)}):
        before, after = (_at(campaign.machine, ("versions", name)) for campaign in (old, new))
        yield from _differs(f"the version of {name}", before, after)


def _needed(campaign: Campaign) -> set[str]:
    """Return the distributions behind baseline and peers; all, when the campaign does not tell whose they are."""
    contenders = {plan.case.peer for plan in campaign.cases}
    for arm in (arm for plan in campaign.cases for arm in plan.arms if arm.label == campaign.baseline_of(plan)):
        contenders |= {arm.contender, arm.caller}
    told = campaign.machine.get("distributions")
    if not isinstance(told, Mapping):
        return {ALWAYS, *(campaign.machine.get("versions") or {})}
    return {ALWAYS, *(str(name) for each in contenders for name in told.get(each) or ())}


def _manner(campaign: Campaign, case: str) -> str | None:
    """Tell how a case's processes were made and took turns: either moves ratios by percents, see docs/method.md."""
    blocks = [block for block in campaign.blocks if block.case == case and not block.field]
    metadata = [each.metadata for block in blocks for each in block.measurements.values()]
    if not metadata:
        return None
    slices = sorted({1000 * float(each["slice"]) for each in metadata if each.get("slice")})
    processes = "in fresh processes" if campaign.fresh else "forked"
    turns = "in rounds" if any(block.rounds for block in blocks) else "arm after arm"
    return ", ".join([processes, f"slices of {' and '.join(f'{each:g} ms' for each in slices)}" if slices else turns])


def _facts(old: Campaign, new: Campaign, cases: Sequence[str]) -> Iterator[str]:
    """Compare what was read off the baseline's live connections; what differs in all cases is told once."""
    found: dict[str, list[str]] = {}
    for case in cases:
        before, after = _seen(old, case), _seen(new, case)
        if not before or not after:
            continue
        for name in sorted({*before, *after}):
            for told in _differs(f"{name} of the baseline's connections", before.get(name), after.get(name)):
                found.setdefault(told, []).append(case)
    for told, where in found.items():
        yield told if where == list(cases) else f"in {' and '.join(where)}, {told}"


def _seen(campaign: Campaign, case: str) -> dict[str, str]:
    """Return the baseline's facts in one case, each with all values that it had."""
    values: dict[str, dict[str, None]] = {}
    baseline = next(campaign.baseline_of(plan) for plan in campaign.cases if plan.case.name == case)
    for block in campaign.blocks:
        if block.case == case and not block.field and baseline in block.measurements:
            for side, facts in block.measurements[baseline].facts.items():
                for name, value in facts.items():
                    values.setdefault(f"{side}.{name}".removeprefix("equal."), {})[str(value)] = None
    return {name: " and ".join(sorted(each)) for name, each in values.items()}


def _differs(what: str, before: Any, after: Any) -> Iterator[str]:
    if before != after:
        yield f"{what} is {_shown(before)} in OLD and {_shown(after)} in NEW"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "unknown"
        case bool():
            return "on" if value else "off"
        case Mapping():
            return ", ".join(f"{key}={each}" for key, each in value.items()) or "the default"
        case _:
            return str(value)
