"""Tables of GitHub's markdown, and how figures look in them."""

from collections.abc import Sequence
from statistics import median

from tabulate import tabulate

from loopmark.stats import Estimate

NOTHING = "-"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render rows of text."""
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def percent(share: float, digits: int = 2) -> str:
    """Show a share."""
    return f"{100 * share:.{digits}f} %"


def spread(shares: Sequence[float]) -> str:
    """Show the median of some shares and their range, in percent."""
    if not shares:
        return NOTHING
    return f"{100 * median(shares):.2f} ({100 * min(shares):.2f} to {100 * max(shares):.2f})"


def change(estimate: Estimate) -> str:
    """Show a ratio as a difference in percent, with its interval."""
    middle = f"{100 * (estimate.ratio - 1):+.2f} %"
    if estimate.low is None or estimate.high is None:
        return f"{middle}, too few blocks"
    return f"{middle} [{100 * (estimate.low - 1):+.2f}, {100 * (estimate.high - 1):+.2f}]"


def paragraphs(*texts: str) -> str:
    """Join what is not empty."""
    return "\n\n".join(filter(None, texts))


def ratio(estimate: Estimate) -> str:
    """Show a ratio with its interval."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.ratio:.3f}, too few blocks"
    return f"{estimate.ratio:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def reached(yes: bool) -> str:
    """Answer whether a target was reached."""
    return "reached" if yes else "NOT reached"
