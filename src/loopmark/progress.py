"""Live progress on standard error, repainted only between measurements: the scheduler does nothing meanwhile."""

import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from loopmark.case import Case, Role
from loopmark.record import Campaign, CasePlan
from loopmark.report.cells import NOTHING, plus_minus
from loopmark.report.figures import ROWS, CaseFigures, figures, shown_name


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

    def __init__(self) -> None:
        self._dropped = 0

    def arm(self, campaign: Campaign, case: Case, block: int, arm: str, position: int, arms: int) -> None:
        """Write nothing within a block."""

    def block(self, campaign: Campaign, left: float) -> None:
        """Write which block is over or was dropped, how wide the intervals are by now, and how much time is left."""
        if len(campaign.dropped) > self._dropped:
            self._dropped = len(campaign.dropped)
            what = f"dropped {campaign.dropped[-1]}"
            for plan in campaign.cases:
                what = what.replace(plan.case.name, _named(plan))
        elif campaign.blocks:
            done = campaign.blocks[-1]
            plan = next(each for each in campaign.cases if each.case.name == done.case)
            kind = "field block" if done.field else "block"
            what = f"{_named(plan)}: {kind} {done.index}, {_reached(campaign, figures(campaign, plan))}"
        else:
            what = "no block yet"
        try:
            print(f"{what}; at most {max(0.0, left):.0f} s left", file=sys.stderr)  # noqa: T201  # progress
        except BrokenPipeError:
            raise
        except OSError:
            pass  # a full disk behind it must not end what is measured

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


def _named(plan: CasePlan) -> str:
    """Name a case by what tells it from others, in a few words."""
    load = f"burst={plan.case.concurrency}" if plan.case.burst else f"c={plan.case.concurrency}"
    return f"{plan.case.benchmark} {plan.case.role} {load}"


def _reached(campaign: Campaign, case: CaseFigures) -> str:
    """Set the widest interval so far beside the target."""
    reached = "no intervals yet" if case.widest is None else plus_minus(case.widest)
    return reached if campaign.target is None else f"{reached} (target +-{100 * campaign.target:g} %)"


def _estimates(campaign: Campaign) -> Table | None:
    """Tabulate the primary metric's ratios so far with their half-widths, one column per case; no verdicts yet.

    None for a matrix, whose pairs no terminal has lines enough for.
    """
    cases = [figures(campaign, plan) for plan in campaign.cases if plan.case.role is not Role.PAIR]
    if not cases:
        return None
    headers = (
        f"{case.plan.case.role}, {case.plan.case.concurrency} at a time\n{_reached(campaign, case)}" for case in cases
    )
    table = Table(f"ratio to {campaign.baseline} so far", *headers)
    for label in dict.fromkeys(arm.label for case in cases for arm in case.arms if arm.kind in ROWS):
        table.add_row(shown_name(campaign, label), *(Text(_cell(case, label)) for case in cases))
    return table


def _cell(case: CaseFigures, arm: str) -> str:
    estimate = case.primary(arm)
    if estimate is None or arm == case.baseline:
        return "1" if arm == case.baseline else NOTHING
    width = estimate.half_width
    return f"{estimate.ratio:.3f}" if width is None else f"{estimate.ratio:.3f} {plus_minus(width)}"
