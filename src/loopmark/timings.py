"""How long each of a number of requests took: plain data, and percentiles of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """What became of requests, one connection for each; `wall` and `seconds` are seconds, `lengths` bytes.

    `seconds` and `lengths` are of the right answers only, each from before connect to after close. `statuses` counts
    all that were answered, `failed` those without a right answer, by how they failed.
    """

    concurrency: int
    wall: float
    seconds: tuple[float, ...]
    lengths: tuple[int, ...]
    statuses: Mapping[int, int]
    failed: Mapping[str, int]


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the smallest of these ordered values that at least so many percent of them do not exceed.

    That is the nearest rank (Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996, definition 1): always a
    value that has occurred. `percent` is above 0; raises IndexError where there are no values.
    """
    return ordered[ceil(percent * len(ordered) / 100) - 1]
