"""Whether the runs of several files were taken together, block by block and in random order; if not, why not. Pure.

Only such runs have a coin behind them that turns a machine's drift into noise. Metadata can be made up, so what they
say is held against counts, values and dates; what is made up with care is beyond any check.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import combinations, permutations

from loopmark.foreign import Run, Series, Stamp


def misfit(series: Mapping[str, Series]) -> str | None:
    """Say in a sentence why the series of files, by label, are not comparable block by block; None when they are."""
    return next(_misfits(series), None)


def order(stamps: Mapping[str, Stamp], number: int | None = None) -> tuple[str, ...]:
    """Return the labels in the order in which they started a block, or in which a round of it went."""

    def place(label: str) -> int:
        stamp = stamps[label]
        return stamp.position if number is None else stamp.rounds[number]

    return tuple(sorted(stamps, key=place))


def blocks_of(series: Mapping[str, Series]) -> Iterator[tuple[int, dict[str, tuple[Run, Stamp]]]]:
    """Yield the blocks of series that fit, by their numbers: each file's run and its stamp, by label."""
    by_label = {label: {stamp.block: (run, stamp) for run, stamp in _stamped(each)} for label, each in series.items()}
    for number in sorted(next(iter(by_label.values()))):
        yield number, {label: blocks[number] for label, blocks in by_label.items()}


def _misfits(series: Mapping[str, Series]) -> Iterator[str]:
    outside = [label for label, each in series.items() if any(run.stamp is None for run in each.runs)]
    if outside:
        tell = "tells" if len(outside) == 1 else "tell"
        yield (
            f"{_listed(outside)} {tell} of no blocks: what is measured one after the other drifts with the machine, "
            "and that looks like a difference"
        )
        return
    for why in (_of_several_campaigns, _copies, _unequal_blocks, _contradictions, _one_after_the_other):
        yield from why(series)


def _of_several_campaigns(series: Mapping[str, Series]) -> Iterator[str]:
    arms: dict[str, str] = {}
    campaigns: dict[tuple[object, ...], Stamp] = {}
    for label, each in series.items():
        stamps = [stamp for _, stamp in _stamped(each)]
        if len({(one.campaign, one.seed, one.arm, one.contender, one.kind) for one in stamps}) > 1:
            yield f"{label} has runs of several arms or campaigns"
        first = stamps[0]
        campaigns.setdefault((first.campaign, first.seed, first.baseline, first.margin), first)
        arms[label] = first.arm
    if len(campaigns) > 1:
        told = [f"that of {one.campaign} with seed {one.seed}" for one in campaigns.values()]
        yield (
            f"the files are of different campaigns, {_listed(told)}: what was measured one after the other drifts with "
            "the machine, and that looks like a difference"
        )
    for one, other in combinations(arms, 2):
        if arms[one] == arms[other]:
            yield f"{one} and {other} are both {arms[one]}, one arm of one campaign"


def _copies(series: Mapping[str, Series]) -> Iterator[str]:
    for one, other in combinations(series, 2):
        if [run.values for run in series[one].runs] == [run.values for run in series[other].runs]:
            yield f"{one} and {other} have the same values throughout: one is a copy of the other"


def _unequal_blocks(series: Mapping[str, Series]) -> Iterator[str]:
    numbers = {label: [stamp.block for _, stamp in _stamped(each)] for label, each in series.items()}
    for label, blocks in numbers.items():
        if len(set(blocks)) < len(blocks):
            yield f"{label} has a block twice"
    (first, expected), *others = numbers.items()
    for label, blocks in others:
        if set(blocks) != set(expected):
            yield (
                f"{first} has {len(expected)} blocks and {label} {len(blocks)}, not all of them the same: unequal "
                "counts are not compared"
            )
            return


def _contradictions(series: Mapping[str, Series]) -> Iterator[str]:
    for number, runs in blocks_of(series):
        stamps = [stamp for _, stamp in runs.values()]
        places = [[stamp.position for stamp in stamps], *zip(*(stamp.rounds for stamp in stamps), strict=False)]
        if any(len(set(each)) < len(stamps) for each in places):
            yield f"the files contradict each other about the order in block {number}"
            return


def _one_after_the_other(series: Mapping[str, Series]) -> Iterator[str]:
    """Hold the dates against blocks that claim to have run in turns."""
    spans = {label: span for label, each in series.items() if (span := _span(each)) is not None}
    for one, other in permutations(spans, 2):
        begin, end = spans[one]
        if begin < end < spans[other][0]:
            yield f"by their dates all runs of {one} came before those of {other}, and the machine drifts meanwhile"


def _span(series: Series) -> tuple[datetime, datetime] | None:
    """Return the dates of the first and the last run, if all of them tell."""
    try:
        dates = [datetime.fromisoformat(run.date).replace(tzinfo=None) for run in series.runs]
    except ValueError:
        return None
    return min(dates), max(dates)


def _stamped(series: Series) -> list[tuple[Run, Stamp]]:
    return [(run, run.stamp) for run in series.runs if run.stamp is not None]


def _listed(words: Sequence[str]) -> str:
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last
