"""Runs a campaign into a directory, a new one or one that has blocks already, and prints its tables."""

import contextlib
import sys
from pathlib import Path

import click

from loopmark import plan, store
from loopmark.campaign import Prepared, Request
from loopmark.cli import INTERRUPTED
from loopmark.cli.endings import endings_once
from loopmark.cli.options import is_given
from loopmark.continuing import resume
from loopmark.errors import UsageError
from loopmark.executor import Interpreters
from loopmark.progress import progress
from loopmark.record import Campaign
from loopmark.report import comparison
from loopmark.report.figures import figures
from loopmark.run import Conductor
from loopmark.wrk import second_opinion

BESIDE_CONTINUE = {"continued", "max_time", "plugin", "certificates", "no_progress"}
"""Options that a campaign does not bring along."""


def measure(prepared: Prepared, effort: plan.Effort, results: Path, *, wanted: bool) -> int:
    """Run a campaign into a new directory, with progress where it is wanted; print its tables, return the status."""
    path = store.create(results, prepared.campaign)
    with store.held(path):
        return _measure_into(path, prepared, effort, wanted=wanted)


def go_on(path: Path, request: Request, seconds: float | None, *, wanted: bool) -> int:
    """Continue the campaign in a directory as `measure` runs a new one; one that is done is shown as it is."""
    _refuse_others(path)
    if store.has_counts(path):
        raise UsageError(f"{path} has counts of instructions, which cannot be continued: count again")
    with store.held(path):
        campaign = store.load(path)
        if campaign.ended == "done":
            click.echo(f"loopmark: {path} is done, there is nothing to go on with", err=True)
            _show(path, campaign)
            return status_of(campaign)
        prepared, effort = resume(campaign, request, seconds)
        return _measure_into(path, prepared, effort, wanted=wanted)


def _refuse_others(path: Path) -> None:
    given = [
        max(parameter.opts, key=len)
        for parameter in click.get_current_context().command.params
        if is_given(parameter.name or "") and parameter.name not in BESIDE_CONTINUE
    ]
    if given:
        raise UsageError(f"{', '.join(given)}: what is measured comes from {path}, leave it out with --continue")


def _measure_into(path: Path, prepared: Prepared, effort: plan.Effort, *, wanted: bool) -> int:
    with endings_once():
        interrupted = _conduct(prepared, effort, path, wanted=wanted)
        if not interrupted and effort.values > 1:  # else every second counts
            with contextlib.suppress(KeyboardInterrupt):
                _ask_wrk(prepared, path)
        _show(path, prepared.campaign)
    return INTERRUPTED if interrupted else status_of(prepared.campaign)


def _show(path: Path, campaign: Campaign) -> None:
    if campaign.blocks:
        click.echo(comparison(campaign, "text"))
    else:
        click.echo("No block was completed, so there is nothing to compare; `loopmark show` tells why.")
    click.echo(f"results: {path}")


def _conduct(prepared: Prepared, effort: plan.Effort, path: Path, *, wanted: bool) -> bool:
    """Run the campaign; tell whether it was interrupted."""
    shown = progress(effort.seconds - prepared.campaign.seconds, wanted=wanted)
    conductor = Conductor(
        campaign=prepared.campaign,
        effort=effort,
        executor=Interpreters(),
        assign=prepared.assign,
        save=lambda campaign: store.write(path, campaign),
        progress=shown,
    )
    try:
        conductor.conduct()
    except KeyboardInterrupt:
        return True
    finally:
        shown.close()
        sys.stderr.flush()
    return False


def _ask_wrk(prepared: Prepared, path: Path) -> None:
    """Note what wrk says of the servers, where a benchmark wants it and wrk is installed."""
    if any(note.startswith("A second opinion on ") for note in prepared.campaign.notes):
        return  # of the part that is continued
    said = [second_opinion(planned, prepared.assign) for planned in prepared.campaign.cases]
    prepared.campaign.notes += filter(None, said)
    store.write(path, prepared.campaign)


def status_of(campaign: Campaign) -> int:
    """Return 1 when something was retired, is not comparable, invalid or refused, or ended the campaign early, else 0.

    Nothing measured is a failure, too. No verdict for want of blocks, or precision that was not reached, is no failure.
    """
    bad = any(outcome.status in ("retired", "not comparable") for outcome in campaign.outcomes)
    wrong = any(figures(campaign, plan).judgement.reasons for plan in campaign.cases)
    return int(bad or wrong or not campaign.blocks or campaign.ended not in ("done", "time cap"))
