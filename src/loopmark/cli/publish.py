"""`loopmark publish`."""

from pathlib import Path

import click

from loopmark.charts.vega import svg
from loopmark.cli import cli
from loopmark.publish import publish


@cli.command(
    "publish", epilog="\b\nExamples:\n  loopmark publish results/20261120T091500Z-x\n  loopmark publish results"
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
def publish_(*, paths: tuple[Path, ...]) -> int:
    """Write a page with charts into the directories of campaigns, an index and a history beside them, and the site.

    A directory of campaigns stands for all of them. Whatever cannot be published is told; the rest goes on, with
    status 1.
    """
    complaints = publish(paths, svg, lambda page: click.echo(str(page)))
    for complaint in complaints:
        click.echo(f"loopmark: {' '.join(complaint.split())}", err=True)
    return int(bool(complaints))
