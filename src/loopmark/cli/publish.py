"""`loopmark publish`."""

from collections.abc import Iterable
from pathlib import Path

import click

from loopmark import site
from loopmark.charts.vega import svg
from loopmark.cli import cli
from loopmark.errors import UsageError
from loopmark.publish import Shelf, publish
from loopmark.record import Campaign

EPILOG = """\b
Examples:
  loopmark publish results/20261120T091500Z-x
  loopmark publish results --site public
"""


@cli.command("publish", epilog=EPILOG)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option(
    "--site",
    "out",
    type=click.Path(path_type=Path),
    default=Path("site"),
    show_default=True,
    metavar="DIR",
    help="Where the web report goes.",
)
def publish_(*, paths: tuple[Path, ...], out: Path) -> int:
    """Write a page into the directory of each campaign, an index and a history beside them, and the web report.

    A directory of campaigns stands for all of them. The web report has every campaign there that has a page. What
    cannot be published is told; the rest goes on, with status 1.
    """
    shelves, complaints = publish(paths, svg, lambda page: click.echo(str(page)))
    try:
        _build(shelves, out)
    except UsageError as error:
        complaints.append(str(error))
    for complaint in complaints:
        click.echo(f"loopmark: {' '.join(complaint.split())}", err=True)
    return int(bool(complaints))


def _build(shelves: Iterable[Shelf], out: Path) -> None:
    entries = [entry for shelf in shelves for entry in shelf.entries]
    timed = [(entry.name, entry.content) for entry in entries if isinstance(entry.content, Campaign)]
    if timed:
        raw = {entry.name: entry.directory for entry in entries}
        site.build(timed, out, raw=raw, history=[chart for shelf in shelves for chart in shelf.charts])
        click.echo(str(out / site.INDEX))
