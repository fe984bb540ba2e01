"""Live progress on standard error, repainted only between measurements: the scheduler does nothing meanwhile."""

import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from loopmark.case import Case
from loopmark.record import Campaign
from loopmark.report.figures import figures, shown_name
from loopmark.report.tables import interval


class Silent:
    """Shows nothing."""

    def arm(self, campaign: Campaign, case: Case, block: int, arm: str, position: int, arms: int) -> None:
        """Ignore that an arm starts."""

    def block(self, campaign: Campaign, left: float) -> None:
        """Ignore that a block is over."""

    def close(self) -> None:
        """Do nothing."""


class Lines:
    """One line per block, for logs and pipes."""

    def arm(self, campaign: Campaign, case: Case, block: int, arm: str, position: int, arms: int) -> None:
        """Write nothing within a block."""

    def block(self, campaign: Campaign, left: float) -> None:
        """Write which block is over."""
        done = campaign.blocks[-1] if campaign.blocks else None
        what = f"block {done.index} of {done.case}" if done else "no block yet"
        print(f"{len(campaign.blocks)} blocks, last {what}; at most {max(0.0, left):.0f} s left", file=sys.stderr)  # noqa: T201  # progress

    def close(self) -> None:
        """Do nothing."""


class Painted:
    """A picture that is painted over: case, block, arm, time left and the estimates so far."""

    def __init__(self, seconds: float, console: Console) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._estimates: Table | None = None
        # A thread that refreshes by itself would run while something is measured.
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[left]}"),
            auto_refresh=False,
        )
        self._task = self._bar.add_task("calibrating", total=seconds, left="")
        self._live.start()
        self._paint()

    def arm(self, campaign: Campaign, case: Case, block: int, arm: str, position: int, arms: int) -> None:
        """Paint which arm is about to run."""
        del campaign
        left = max(0.0, self._end - time.monotonic())
        self._bar.update(
            self._task,
            description=f"{case.name}\nblock {block}, arm {position + 1} of {arms}: {arm}",
            completed=self._seconds - left,
            left=f"at most {left:.0f} s left",
        )
        self._paint()

    def block(self, campaign: Campaign, left: float) -> None:
        """Compute the estimates again and paint them."""
        del left
        self._estimates = _estimates(campaign)
        self._paint()

    def close(self) -> None:
        """Take the picture away."""
        self._live.stop()

    def _paint(self) -> None:
        parts = [self._bar] if self._estimates is None else [self._bar, self._estimates]
        self._live.update(Group(*parts), refresh=True)


def progress(seconds: float, *, wanted: bool) -> Silent | Lines | Painted:
    """Choose what suits standard error."""
    if not wanted:
        return Silent()
    console = Console(stderr=True)
    return Painted(seconds, console) if console.is_terminal else Lines()


def _estimates(campaign: Campaign) -> Table:
    """Tabulate the primary metric's ratios so far, one column per case."""
    cases = [figures(campaign, plan) for plan in campaign.cases]
    headers = (f"{case.plan.case.role}, {case.plan.case.concurrency} at a time" for case in cases)
    table = Table("ratio to the baseline so far", *headers)
    labels = dict.fromkeys(arm.label for plan in campaign.cases for arm in plan.arms if not arm.hidden)
    for label in labels:
        cells = (interval(case.ratio(label, case.plan.case.primary)) for case in cases)
        table.add_row(shown_name(campaign, label), *map(Text, cells))
    return table
