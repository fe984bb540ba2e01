"""`loopmark run --instructions`, and `loopmark compare` of what it has stored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from loopmark import callgrind, machine, plan, procfs, store
from loopmark.campaign import prepare
from loopmark.cli import INTERRUPTED, USAGE
from loopmark.cli.options import is_given, request_of
from loopmark.counts import change
from loopmark.errors import UsageError
from loopmark.instructions import Conductor, Job, Valgrind, counting
from loopmark.report.figures import shown_name
from loopmark.report.instructions import change_report, instructions_report

OPTIONS = {
    *("instructions", "contenders", "benchmarks", "concurrencies", "roles", "peer", "baseline", "label"),
    *("results", "plugin", "certificates", "no_progress"),
    *("versions", "keys", "cipher", "group", "tickets", "resumed", "client_key"),
}
"""Those of `loopmark run` that say what is counted, rather than how something is timed."""


def count(wishes: dict[str, Any], results: Path, *, wanted: bool) -> int:
    """Count what was asked for into a new directory and print the table; return the exit status."""
    _refuse_others()
    valgrind = callgrind.version()
    known = {name: value for name, value in wishes.items() if name in OPTIONS}
    prepared = prepare(request_of(plan.DEFAULT, {**known, "concurrencies": known["concurrencies"] or (1,)}))
    for planned in prepared.campaign.cases:
        if planned.case.held is not None:
            raise UsageError(f"--instructions counts work, and {planned.case.benchmark} is about memory: leave it out")
    counts = counting(prepared.campaign, valgrind)
    campaign = counts.campaign
    campaign.notes = machine.warnings(campaign.machine)
    path = store.create(results, campaign)

    def tell(job: Job, done: int, of: int) -> None:
        if wanted:
            name = shown_name(campaign, job.arm.label)
            click.echo(f"{done} of {of}: {name}, {job.side}, {job.plan.case.name}", err=True)

    conductor = Conductor(
        counts=counts,
        assign=prepared.assign,
        counter=Valgrind(),
        cores=sorted(procfs.affinity() or ()),
        save=lambda so_far: store.write_counts(path, so_far),
        tell=tell,
    )
    interrupted = False
    try:
        conductor.conduct()
    except KeyboardInterrupt:
        interrupted = True
    click.echo(instructions_report(counts, "text"))
    click.echo(f"results: {path}")
    if interrupted:
        return INTERRUPTED
    return int(any(outcome.status in ("retired", "not comparable") for outcome in campaign.outcomes))


def compare_counts(paths: Sequence[Path], threshold: float | None, format_: str) -> int:
    """Print counts again, or compare two of them; tell on standard error, a line each, why they cannot be compared."""
    if others := [path for path in paths if not store.has_counts(path)]:
        raise UsageError(f"counts of instructions go with nothing else, and {others[0]} has none: give only such")
    every = [store.load_counts(path) for path in paths]
    if threshold is None:
        click.echo("\n".join(instructions_report(each, format_) for each in every), nl=False)
        return 0
    if len(every) != 2:
        raise UsageError("--fail-on compares two campaigns: give the directories OLD and NEW")
    old, new = every
    found = change(old, new, threshold)
    for refusal in found.refusals:
        click.echo(f"loopmark: {refusal}", err=True)
    if found.refusals:
        return USAGE
    click.echo(change_report(found, format_), nl=False)
    return int(bool(found.slower))


def _refuse_others() -> None:
    for parameter in click.get_current_context().command.params:
        if is_given(parameter.name or "") and parameter.name not in OPTIONS:
            raise UsageError(f"--instructions counts and takes no time: leave out {max(parameter.opts, key=len)}")
