"""`loopmark list`, `loopmark compare` and `loopmark show`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from loopmark import store
from loopmark.cli import cli
from loopmark.probe import Survey, survey
from loopmark.report import FORMATS, comparison, description
from loopmark.report.listing import listing

existing = click.Path(path_type=Path)


@cli.command("list", epilog="\b\nExamples:\n  loopmark list\n  loopmark list --json\n  loopmark list --plugin mine.py")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON document.")
@click.option(
    "--plugin", type=click.Path(path_type=Path), metavar="FILE", help="Also what this file defines. It is run."
)
def list_(*, as_json: bool, plugin: Path | None) -> None:
    """List contenders, loops, benchmarks and their cases; for what is missing, why and what to install."""
    known = survey(plugin)
    click.echo(json.dumps(_document(known), indent=2) if as_json else listing(_document(known)))


def _document(known: Survey) -> dict[str, Any]:
    benchmarks = {name: known.registry.benchmark(name) for name in known.registry.benchmarks}
    return {
        "contenders": [dataclasses.asdict(finding) for finding in known.findings.values()],
        "loops": {name: source.value for name, source in known.registry.loops.items()},
        "benchmarks": {
            name: {
                "question": benchmark.question,
                "needs": sorted(benchmark.needs),
                "concurrencies": benchmark.concurrencies,
                "bursts": benchmark.bursts,
                "close": benchmark.close_policy,
            }
            for name, benchmark in benchmarks.items()
        },
    }


@cli.command(
    epilog="\b\nExamples:\n  loopmark compare results/20261120T091500Z-x\n  loopmark compare A B --format github"
)
@click.argument("directories", nargs=-1, required=True, type=existing, metavar="DIR...")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
def compare(*, directories: tuple[Path, ...], format_: str) -> None:
    """Print the tables of campaigns again, from disk."""
    campaigns = [store.load(directory) for directory in directories]
    click.echo(comparison(campaigns, format_), nl=False)


@cli.command(epilog="\b\nExample:\n  loopmark show results/20261120T091500Z-x")
@click.argument("directory", type=existing, metavar="DIR")
def show(*, directory: Path) -> None:
    """Show what ran, where, with which versions and facts; what was skipped or retired, and why."""
    click.echo(description(store.load(directory)))
