"""`loopmark list`, `loopmark compare` and `loopmark show`."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from loopmark import alongside, foreign, store
from loopmark.case import Role
from loopmark.cli import USAGE, cli
from loopmark.cli.conducting import status_of
from loopmark.cli.counting import compare_counts
from loopmark.cli.options import Share, plugin_option
from loopmark.errors import LoopmarkError, UsageError
from loopmark.probe import Survey, survey
from loopmark.regression import regression
from loopmark.report import FORMATS, comparison, comparison_of_files, description, regression_report
from loopmark.report.listing import listing

existing = click.Path(path_type=Path)


@cli.command("list", epilog="\b\nExamples:\n  loopmark list\n  loopmark list --json\n  loopmark list --plugin mine.py")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON document.")
@plugin_option
def list_(*, as_json: bool, plugin: Path | None) -> None:
    """List contenders, loops, benchmarks and their cases; for what is missing, why and what to install."""
    known = survey(plugin)
    click.echo(json.dumps(_document(known), indent=2) if as_json else listing(_document(known)))


def _document(known: Survey) -> dict[str, Any]:
    benchmarks, failed = {}, {}
    for name in known.registry.benchmarks:
        try:
            benchmarks[name] = known.registry.benchmark(name)
        except LoopmarkError as error:
            failed[name] = str(error)
    return {
        "contenders": [dataclasses.asdict(finding) for finding in known.findings.values()],
        "loops": {name: source.value for name, source in known.registry.loops.items()},
        "benchmarks": {
            name: {
                "question": benchmark.question,
                "concurrencies": benchmark.concurrencies,
                "bursts": benchmark.bursts,
                "roles": [role for role in benchmark.roles if role is not Role.PAIR],
                "cases": {
                    name: {
                        "traffic": conversation.traffic,
                        "needs": sorted(benchmark.needs(variant)),
                        "close": benchmark.close_policy(variant),
                    }
                    for name, (variant, conversation) in zip(
                        benchmark.variants, benchmark.conversations.items(), strict=True
                    )
                },
            }
            for name, benchmark in benchmarks.items()
        },
        "failed_benchmarks": failed,
    }


class FailOn(click.ParamType[float]):
    """What a gate fails on: `slower:3%`."""

    name = "gate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the threshold as a fraction of 1."""
        word, _, share = str(value).partition(":")
        if word != "slower" or not share.strip():
            self.fail(f"{value!r} is no gate: give something like slower:3%", param, ctx)
        return Share().convert(share, param, ctx)


COMPARE_EPILOG = """\b
Examples:
  loopmark compare results/20261120T091500Z-x
  loopmark compare A B --format github
  loopmark compare DIR/asyncio.json DIR/asyncio.twin.json DIR/uvloop.json
  loopmark compare OLD NEW --fail-on slower:3%
"""


@cli.command(epilog=COMPARE_EPILOG)
@click.argument("paths", nargs=-1, required=True, type=existing, metavar="DIR...|FILE...")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option(
    "--fail-on",
    "threshold",
    type=FailOn(),
    metavar="slower:SHARE",
    help="Of two campaigns, OLD and NEW: end with status 1 when a ratio to the baseline has become so much slower, "
    "with 2 when the two cannot be compared.",
)
def compare(*, paths: tuple[Path, ...], format_: str, threshold: float | None) -> int:
    """Print the tables of campaigns again, from disk; or compare pyperf files, of any origin, with the first one.

    Files of one campaign that have an A/A twin of the first one among them get verdicts, as in the campaign's tables;
    all others get ratios, and the reason why that is all. The exit status is the one that the campaigns ended with.
    """
    if any(map(store.has_counts, paths)):
        return compare_counts(paths, threshold, format_)
    files = [path for path in paths if not _is_campaign(path)]
    if files and len(files) < len(paths):
        raise UsageError(
            f"campaigns and pyperf files do not go together, and {files[0]} is no campaign: give directories, or files"
        )
    if threshold is not None:
        return _gate(paths, threshold, format_)
    if files:
        return _compare_files(files, format_)
    campaigns = [store.load(path) for path in paths]
    click.echo(comparison(campaigns, format_), nl=False)
    return max(map(status_of, campaigns))


def _is_campaign(path: Path) -> bool:
    """Tell what a path stands for; what is not there, or cannot be seen, goes by its name."""
    try:
        return path.is_dir() or path.name == store.FILE or not (path.exists() or path.suffix in (".json", ".gz"))
    except OSError:
        return True


def _compare_files(files: Sequence[Path], format_: str) -> int:
    if len(files) < 2:
        raise UsageError(
            f"{files[0]} alone cannot be compared: give two or more pyperf files, or a campaign's directory"
        )
    found = alongside.compare(foreign.read(files))
    click.echo(comparison_of_files(found, format_), nl=False)
    return int(any(benchmark.is_invalid for benchmark in found.benchmarks))


def _gate(paths: Sequence[Path], threshold: float, format_: str) -> int:
    """Compare two campaigns; tell on standard error, a line each, why they cannot be compared."""
    if len(paths) != 2 or not all(map(_is_campaign, paths)):
        raise UsageError("--fail-on compares two campaigns: give the directories OLD and NEW")
    old, new = map(store.load, paths)
    found = regression(old, new, threshold)
    for refusal in found.refusals:
        click.echo(f"loopmark: {refusal}", err=True)
    if found.refusals:
        return USAGE
    click.echo(regression_report(found, format_), nl=False)
    return int(bool(found.slower))


@cli.command(epilog="\b\nExample:\n  loopmark show results/20261120T091500Z-x")
@click.argument("directory", type=existing, metavar="DIR")
def show(*, directory: Path) -> None:
    """Show what ran, where, with which versions and facts; what was skipped or retired, and why."""
    campaign = store.load_counts(directory).campaign if store.has_counts(directory) else store.load(directory)
    click.echo(description(campaign))
