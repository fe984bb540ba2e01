"""What stock pyperf says about two files. Its own test is called, not rebuilt."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import pyperf
from pyperf._compare import is_significant_benchs
from scipy import stats

Pair = tuple[pyperf.Benchmark, pyperf.Benchmark]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What `pyperf compare_to` finds in a pair."""

    significant: bool
    ratio: float
    """Of the means."""

    @property
    def size(self) -> float:
        """The difference as a share, whichever is the slower one."""
        return max(self.ratio, 1 / self.ratio) - 1


def compared(pair: Pair) -> Comparison:
    """Compare as `pyperf compare_to` does: Student's t over all values, the ratio of the means."""
    first, second = pair
    significant, _ = is_significant_benchs(first, second)
    return Comparison(significant=bool(significant), ratio=second.mean() / first.mean())


def half_width(pair: Pair, processes: int) -> float | None:
    """Return half the width of the 95 % t interval of the difference, as a share of the first file's mean.

    As if all values were independent, which is what pyperf's own test takes them for, and as if each file had only its
    first processes; None with fewer than that.
    """
    first, second = (_by_process(each) for each in pair)
    if not 1 <= processes <= min(len(first), len(second)):
        return None
    values = [list(chain.from_iterable(each[:processes])) for each in (first, second)]
    interval = stats.ttest_ind(values[1], values[0]).confidence_interval(0.95)
    return float((interval.high - interval.low) / 2 / (sum(values[0]) / len(values[0])))


def process_seconds(pair: Pair) -> float:
    """Return what one process of a pair takes, calibration shared by all."""
    spans = [each.get_dates() for each in pair]
    return float(
        sum((end - start).total_seconds() for start, end in spans) / sum(len(_by_process(each)) for each in pair)
    )


def _by_process(benchmark: pyperf.Benchmark) -> Sequence[Sequence[float]]:
    return [run.values for run in benchmark.get_runs() if run.values]
