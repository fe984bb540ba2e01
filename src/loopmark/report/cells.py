"""Numbers as they are shown, in cells and in sentences."""

import math
from collections.abc import Sequence

from loopmark.stats import Estimate, Summary

NOTHING = "-"


def microseconds(figure: Summary | None) -> str:
    """Show seconds as microseconds, three digits or all before the point: the median and the range over blocks."""
    if figure is None:
        return NOTHING
    digits = _digits(figure.median)
    middle, low, high = (f"{1e6 * each:.{digits}f}" for each in (figure.median, figure.lowest, figure.highest))
    return f"{middle} ({low}-{high})"


def kibibytes(figure: Summary | None) -> str:
    """Show bytes as KiB, one digit behind the point: the median and the range over blocks."""
    if figure is None:
        return NOTHING
    middle, low, high = (f"{each / 1024:.1f}" for each in (figure.median, figure.lowest, figure.highest))
    return f"{middle} ({low}-{high})"


def floor_and_own(floor: Summary | None, own: float | None) -> str:
    """Show the floor and what comes on top of it, both in microseconds, as the sum that they nearly are."""
    if floor is None or own is None:
        return NOTHING
    digits = _digits(floor.median + own)
    return f"{1e6 * floor.median:.{digits}f} {'+' if own >= 0 else '-'} {1e6 * abs(own):.{digits}f}"


def _digits(seconds: float) -> int:
    return 0 if seconds >= 99.95e-6 else 1 if seconds >= 9.995e-6 else 2


def interval(estimate: Estimate | None, mark: str = "") -> str:
    """Show a ratio with a mark and its interval, or say that there are too few blocks for one."""
    if estimate is None:
        return NOTHING
    if estimate.low is None or estimate.high is None:
        return f"{estimate.ratio:.3f}{mark} too few blocks"
    return f"{estimate.ratio:.3f}{mark} [{estimate.low:.3f}, {estimate.high:.3f}]"


def told(estimate: Estimate | None) -> str:
    """Show a ratio with its interval within a sentence."""
    if estimate is None:
        return "no ratio"
    return f"{estimate.ratio:.3f} without an interval" if estimate.low is None else interval(estimate)


def plus_minus(share: float) -> str:
    """Show a half-width in percent, rounded up: `+-2.3 %`."""
    return f"+-{percent(share)}"


def percent(share: float) -> str:
    """Show a share in percent with two digits, rounded up."""
    # What is a hundredth above only because of floating point is not rounded up to the next one.
    value = round(100 * share, 6)
    digits = 0 if value >= 10 else 1 if value >= 1 else 2
    return f"{math.ceil(value * 10**digits) / 10**digits:.{digits}f} %"


def rate(figure: Summary | None) -> str:
    """Show how many of what takes so long fit into a second."""
    return NOTHING if figure is None or not figure.median else f"{1 / figure.median:.0f}"


def shares(values: Sequence[float | None]) -> str:
    """Show shares as whole percents, `62/100`."""
    return NOTHING if None in values else "/".join(f"{100 * (each or 0.0):.0f}" for each in values)


def one_digit(value: float | None) -> str:
    """Show a small count."""
    return NOTHING if value is None else f"{value:.1f}"


def whole(values: Sequence[float | None]) -> str:
    """Show counts that belong together."""
    return ", ".join(NOTHING if each is None else f"{each:.0f}" for each in values)


def counted(many: int | str, thing: str) -> str:
    """Count things: `1 block`, `3 blocks`, `1-2 blocks`."""
    return f"{many} {thing}" if str(many) == "1" else f"{many} {thing}s"
