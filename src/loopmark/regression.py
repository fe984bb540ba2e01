"""Two campaigns, an old and a new one: has any contender's ratio to the baseline become worse? Pure.

Each campaign compares its contenders with its own baseline, block by block, so that the machine's drift between the two
campaigns cancels. What is compared here are those ratios: the new blocks' log-ratios against the old ones', two
independent samples. That only means something when the baseline is the same thing in both: what it is made of, and
where and how it ran, is compared first, and any difference ends it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from loopmark.case import Metric
from loopmark.judgement import Judgement, judge
from loopmark.record import Block, Campaign, CasePlan, Kind
from loopmark.sameness import differences
from loopmark.stats import Estimate, change_interval, log_ratios
from loopmark.verdicts import Verdict, family_level, verdict


class Finding(StrEnum):
    """What the interval of a change tells about the threshold."""

    SLOWER = "slower"
    PASSED = "passed"
    UNTESTED = "not tested well enough"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One arm of one case, in both campaigns."""

    case: str
    metric: Metric
    arm: str
    kind: Kind
    old: Estimate
    """Ratio to the baseline, of the primary metric."""
    new: Estimate
    change: Estimate
    """The new ratio by the old one: above 1 is slower. The intervals of a case's contenders hold together."""
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """What was found, or in `refusals` why nothing is: sentences without a full stop."""

    threshold: float
    """Changes up to this share are allowed: 0.03 is three percent."""
    rows: tuple[Row, ...]
    """Case by case: contenders in the new campaign's order, then twins. Not to be told when there are refusals."""
    unmatched: tuple[str, ...]
    """Who takes part in one of the campaigns only."""
    refusals: tuple[str, ...]

    @property
    def slower(self) -> tuple[Row, ...]:
        """Return the rows that fail."""
        return self._those(Finding.SLOWER)

    @property
    def untested(self) -> tuple[Row, ...]:
        """Return the rows whose interval is too wide to see a change as large as the threshold."""
        return self._those(Finding.UNTESTED)

    @property
    def widest(self) -> float:
        """Return the largest half-width of a contender's interval, as a share: smaller changes may go unseen."""
        return max((row.change.half_width or 0.0 for row in self.rows if row.kind is Kind.CONTENDER), default=0.0)

    def _those(self, finding: Finding) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.kind is Kind.CONTENDER and row.finding is finding)


def regression(old: Campaign, new: Campaign, threshold: float) -> Regression:
    """Compare two campaigns, case by case and contender by contender."""
    refusals = list(differences(old, new))
    rows: list[Row] = []
    unmatched: list[str] = []
    # The rest would only tell the consequences.
    for plan in new.cases if not refusals else ():
        before, after = (_side(each, name, plan.case.name) for each, name in ((old, "OLD"), (new, "NEW")))
        wrong = [*_untrustworthy(before), *_untrustworthy(after)]
        if not wrong:
            found = list(_rows(before, after, threshold))
            wrong = [*_lost(before, after), *_insufficient(plan.case.name, found, threshold)]
            rows += found
            unmatched += _unmatched(before, after)
        refusals += wrong
    return Regression(threshold=threshold, rows=tuple(rows), unmatched=tuple(unmatched), refusals=tuple(refusals))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One campaign's part of a case: its blocks, without those in the field, and what they allow to be said."""

    name: str
    campaign: Campaign
    plan: CasePlan
    blocks: Sequence[Block]
    judgement: Judgement


def _side(campaign: Campaign, name: str, case: str) -> _Side:
    plan = next(plan for plan in campaign.cases if plan.case.name == case)
    blocks = [block for block in campaign.blocks if block.case == case and not block.field]
    judgement = judge(plan, campaign.baseline_of(plan), blocks, campaign.margin)
    return _Side(name=name, campaign=campaign, plan=plan, blocks=blocks, judgement=judgement)


def _rows(old: _Side, new: _Side, threshold: float) -> Iterator[Row]:
    labels = old.judgement.estimates.keys() & new.judgement.estimates.keys()
    both = sorted((arm for arm in new.plan.arms if arm.label in labels), key=lambda arm: arm.kind is Kind.TWIN)
    level = family_level(sum(arm.kind is Kind.CONTENDER for arm in both))
    for arm in both:
        change = change_interval(_log_ratios(old, arm.label), _log_ratios(new, arm.label), level)
        yield Row(
            case=new.plan.case.name,
            metric=new.plan.case.primary,
            arm=arm.label,
            kind=arm.kind,
            old=old.judgement.estimates[arm.label],
            new=new.judgement.estimates[arm.label],
            change=change,
            finding=_finding(change, threshold),
        )


def _log_ratios(side: _Side, label: str) -> list[float]:
    metric = side.plan.case.primary
    baseline = side.campaign.baseline_of(side.plan)
    ours, theirs = ([block.measurements[arm].values(metric) for block in side.blocks] for arm in (label, baseline))
    return log_ratios(ours, theirs)


def _finding(change: Estimate, threshold: float) -> Finding:
    if change.low is not None and change.low > 1 + threshold:
        return Finding.SLOWER
    if change.half_width is None or change.half_width > threshold:
        return Finding.UNTESTED
    return Finding.PASSED


def _untrustworthy(side: _Side) -> Iterator[str]:
    """Yield why a campaign's own judgement forbids to use it."""
    if not side.blocks:
        yield f"{side.name} has no block of {side.plan.case.name}"
    for reason in side.judgement.reasons:
        yield f"{side.name} is not valid in {side.plan.case.name}: {reason}"


def _lost(old: _Side, new: _Side) -> Iterator[str]:
    """Yield who had a ratio and could not give one any more, which is no pass."""
    case = new.plan.case
    for each in new.campaign.outcomes:
        if each.arm in old.judgement.estimates and each.case in {"*", case.benchmark, case.name}:
            why = f"{each.status}, {each.reason.rstrip('.')}"
            yield f"{each.arm} has a ratio in OLD and none in NEW, in {case.name}: {why}"


def _insufficient(case: str, rows: Sequence[Row], threshold: float) -> Iterator[str]:
    """Yield why the rows of a case tell nothing, whatever they are."""
    twins = [row for row in rows if row.kind is Kind.TWIN]
    if not any(row.kind is Kind.CONTENDER for row in rows):
        yield f"no contender has a ratio in both campaigns, in {case}"
    elif any(row.change.low is None for row in rows):
        yield f"{rows[0].old.blocks} blocks in OLD and {rows[0].new.blocks} in NEW give no interval, in {case}"
    elif not twins:
        yield f"there is no A/A twin in both campaigns to tell noise by, in {case}"
    for row in twins:
        if verdict(row.change, threshold) in (Verdict.SLOWER, Verdict.FASTER):
            yield (
                f"the A/A twin {row.arm}, which is the baseline itself, changed by more than the threshold, in {case}: "
                "something changed between the campaigns that is no contender's"
            )


def _unmatched(old: _Side, new: _Side) -> Iterator[str]:
    for mine, other in ((old, new), (new, old)):
        for label in mine.plan.labels(Kind.CONTENDER):
            if label in mine.judgement.estimates and label not in other.judgement.estimates:
                yield f"{label} has a ratio in {mine.name} only, in {mine.plan.case.name}"
