"""What the studies look at: one case of one campaign, block by block. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import median

from loopmark.case import Case, Metric, Role
from loopmark.judgement import judge
from loopmark.record import Block, Campaign, CasePlan, Kind, Measurement
from loopmark.stats import Estimate, log_ratios, ratio_interval

COMPARED = (Kind.CONTENDER, Kind.TWIN, Kind.CONTROL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The blocks of one case, either all pinned or all in the field; element i of every tuple is block i."""

    case: Case
    baseline: str
    arms: tuple[str, ...]
    level: float
    """That of each of the simultaneous intervals of the case."""
    margin: float
    seconds: tuple[float, ...]
    """What each block took."""
    values: tuple[Mapping[str, tuple[float, ...]], ...]
    """Of the primary metric, by arm."""
    faults: tuple[Mapping[str, float | None], ...]
    """Minor faults per connection of the sides that the contender plays, by arm."""

    def compare(self, first: str, second: str, level: float = 0.95) -> Estimate:
        """Compare two arms."""
        return ratio_interval(self._values(first), self._values(second), level)

    def differences(self, first: str, second: str) -> list[float]:
        """Return the log-ratio of two arms in every block."""
        return log_ratios(self._values(first), self._values(second))

    def by_medians(self) -> "Series":
        """Return the same blocks as if of each arm only the median were known, and not the rounds."""
        return replace(self, values=tuple({arm: (median(each),) for arm, each in row.items()} for row in self.values))

    def until(self, seconds: float) -> "Series":
        """Return the first blocks, those that took no longer than this together."""
        return self._part(0, sum(passed <= seconds for passed in accumulate(self.seconds)))

    def spans(self, seconds: float) -> Iterator["Series"]:
        """Cut the blocks into successive spans of at most this time; the last, perhaps unfinished, is left out."""
        start, passed = 0, 0.0
        for index, each in enumerate(self.seconds):
            if passed + each > seconds and index > start:
                yield self._part(start, index)
                start, passed = index, 0.0
            passed += each

    def _part(self, start: int, end: int) -> "Series":
        part = slice(start, end)
        return replace(self, seconds=self.seconds[part], values=self.values[part], faults=self.faults[part])

    def _values(self, arm: str) -> list[tuple[float, ...]]:
        return [row[arm] for row in self.values]


def series_of(campaign: Campaign, *, field: bool = False) -> list[Series]:
    """Return the series of a campaign's cases that have any block."""
    found = []
    for plan in campaign.cases:
        blocks = [block for block in campaign.blocks if block.case == plan.case.name and block.field is field]
        if blocks:
            found.append(_series(campaign, plan, blocks))
    return found


def joined(parts: Sequence[Series]) -> Series:
    """Join series of the same arms, one after the other."""
    return replace(
        parts[0],
        seconds=tuple(each for part in parts for each in part.seconds),
        values=tuple(each for part in parts for each in part.values),
        faults=tuple(each for part in parts for each in part.faults),
    )


def titled(case: Case) -> str:
    """Name a case and its primary metric as the tables of the studies do."""
    metric = {Metric.WALL: "wall", Metric.CLIENT_CPU: "client CPU", Metric.SERVER_CPU: "server CPU"}[case.primary]
    return f"{metric}, {case.concurrency} at a time"


def _series(campaign: Campaign, plan: CasePlan, blocks: Sequence[Block]) -> Series:
    arms = plan.labels(*COMPARED)
    return Series(
        case=plan.case,
        baseline=campaign.baseline,
        arms=arms,
        level=judge(plan, campaign.baseline, blocks, campaign.margin).level,
        margin=campaign.margin,
        seconds=tuple(block.seconds for block in blocks),
        values=tuple({arm: block.measurements[arm].values(plan.case.primary) for arm in arms} for block in blocks),
        faults=tuple({arm: _faults(block.measurements[arm], plan.case.role) for arm in arms} for block in blocks),
    )


def _faults(measurement: Measurement, role: Role) -> float | None:
    sides = {
        Role.SERVER: (measurement.server,),
        Role.CLIENT: (measurement.client,),
        Role.BOTH: (measurement.server, measurement.client),
    }[role]
    found = [side.minor_faults for side in sides if side.minor_faults is not None]
    return sum(found) if len(found) == len(sides) else None
