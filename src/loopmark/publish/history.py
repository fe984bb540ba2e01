"""What became of the contenders' ratios from campaign to campaign, for each label and case.

Absolute rates drift with the machine, so what is set side by side are ratios to the baseline of the same campaign, and
what has changed is what the gate `compare OLD NEW` finds between neighbours. What that refuses is not compared here
either, and the page says why.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, pairwise

from loopmark import redact
from loopmark.case import Role
from loopmark.charts import words
from loopmark.charts.chart import Chart
from loopmark.charts.trend import Point as Moment
from loopmark.charts.trend import trend
from loopmark.counts import Counts
from loopmark.judgement import Gate
from loopmark.publish.entry import Entry
from loopmark.publish.page import MARK, bullets, picture, plain, table
from loopmark.record import Arm, Campaign, Kind
from loopmark.regression import Regression, regression
from loopmark.report.cells import NOTHING, interval
from loopmark.report.figures import CaseFigures, figures, ranked, shown_name
from loopmark.report.smoke import is_smoke
from loopmark.report.tables import metric_name

FILE = "history.md"

THRESHOLD = 0.03
"""Of the gate between neighbours: changes up to this share are allowed."""

INTRODUCTION = f"""\
Campaigns of one label, oldest first. A ratio is to the baseline of the same campaign; below 1 is less time. A change is
a ratio by that of the campaign before, with its simultaneous 95 % interval and with what
`loopmark compare OLD NEW --fail-on slower:{100 * THRESHOLD:g}%` finds in it, case by case; above 1 is slower. `noise`
is what the A/A twin shows, which is the baseline once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One case of one campaign."""

    entry: Entry
    campaign: Campaign
    """As if it had had this case only: what its other cases were is no reason not to compare this one."""
    figures: CaseFigures

    @property
    def is_invalid(self) -> bool:
        """Tell whether the case's own controls forbid to use it."""
        return self.figures.judgement.gate is Gate.INVALID

    def has(self, label: str) -> bool:
        """Tell whether an arm has numbers."""
        return any(each.label == label for each in self.figures.arms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One case in all campaigns of one label that have it, oldest first, and what the gate says of neighbours."""

    label: str
    case: str
    points: tuple[Point, ...]
    steps: tuple[Regression, ...]
    """One less than there are points."""
    slug: str
    """What the file of its chart is called; no other series has the same."""

    @property
    def chart(self) -> Chart:
        """Return the ratios of everybody over time, without those of cases that are invalid."""
        newest = self.points[-1].figures
        names = {arm.label: shown_name(self.points[-1].campaign, arm.label) for arm in _arms(self)}
        points = [
            Moment(
                started=point.campaign.started, contender=name, estimate=estimate, change=self.found(place, label)[1]
            )
            for label, name in names.items()
            for place, point in enumerate(self.points)
            if point.has(label) and not point.is_invalid and (estimate := point.figures.primary(label))
        ]
        return trend(
            self.slug,
            f"{self.label}: {words.heading(newest).removeprefix('INVALID: ')}, over time",
            newest.baseline,
            points,
        )

    def found(self, place: int, label: str) -> tuple[str, str]:
        """Return an arm's change since the campaign before, and what the gate says of it; empty where there is none."""
        step = self.steps[place - 1] if place else None
        for row in step.rows if step and not step.refusals else ():
            if row.arm == label:
                return interval(row.change), "noise" if row.kind is Kind.TWIN else str(row.finding)
        return "", ""


def history(found: Sequence[Series]) -> str:
    """Render the page, ended by a newline."""
    several = [each for each in found if each.steps]
    alone = [each for each in found if not each.steps]
    parts = [MARK, "# History", "[All campaigns](README.md)", INTRODUCTION]
    for label in dict.fromkeys(each.label for each in several):
        parts.append(f"## {plain(label)}")
        for each in several:
            if each.label == label:
                parts += _section(each)
    if alone:
        parts += ["## Measured once so far", bullets(_once(alone))]
    return redact.text("\n\n".join(parts) + "\n")


def _once(alone: Sequence[Series]) -> Iterator[str]:
    """Name what has no history yet, by campaign."""
    cases: dict[str, list[str]] = {}
    for each in alone:
        cases.setdefault(f"{plain(each.label)}, {_link(each.points[0])}", []).append(f"`{each.case}`")
    return (f"{where}: {', '.join(names)}" for where, names in cases.items())


def series(entries: Sequence[Entry]) -> list[Series]:
    """Find what was measured, by label and case; fast campaigns are no neighbours of others.

    Nothing is found of matrices, smoke passes and counts, which have no verdicts.
    """
    points: dict[tuple[str, str, bool], list[Point]] = {}
    for entry in sorted(entries, key=lambda each: (each.campaign.started, each.name)):
        if isinstance(entry.content, Counts) or is_smoke(entry.content):
            continue
        for plan in entry.content.cases:
            if plan.case.role is not Role.PAIR:
                numbers = figures(entry.content, plan)
                point = Point(entry=entry, campaign=_only(entry.content, plan.case.name), figures=numbers)
                key = entry.content.label, plan.case.name, entry.content.mode == "fast"
                points.setdefault(key, []).append(point)
    found: list[Series] = []
    for (label, case, _), those in points.items():
        slug = re.sub(r"[^A-Za-z0-9_]+", "-", f"{label}-{words.slugs(those[-1].campaign)[case]}").strip("-")
        taken = {each.slug.lower() for each in found}
        free = next(each for number in count(1) if (each := _numbered(slug, number)).lower() not in taken)
        found.append(
            Series(
                label=label,
                case=case,
                points=tuple(those),
                steps=tuple(regression(old.campaign, new.campaign, THRESHOLD) for old, new in pairwise(those)),
                slug=free,
            )
        )
    return found


def _numbered(slug: str, number: int) -> str:
    return slug if number == 1 else f"{slug}-{number}"


def _only(campaign: Campaign, case: str) -> Campaign:
    return replace(
        campaign,
        cases=[plan for plan in campaign.cases if plan.case.name == case],
        blocks=[block for block in campaign.blocks if block.case == case],
    )


def _section(found: Series) -> Iterator[str]:
    newest = found.points[-1]
    yield f"### {plain(found.case)}"
    fast = " Fast campaigns: few and short blocks." if newest.campaign.mode == "fast" else ""
    yield f"Compared by {metric_name(newest.figures.plan.case.primary)}.{fast}"
    rows = [row for arm in _arms(found) for row in _rows(found, arm)]
    if rows:
        yield picture(found.chart)
        yield table(("contender", "campaign", "ratio", "change", "finding"), rows)
    refusals = [
        f"{_link(old)} and {_link(new)} are not compared: {plain('; '.join(step.refusals))}."
        for (old, new), step in zip(pairwise(found.points), found.steps, strict=True)
        if step.refusals
    ]
    if refusals:
        yield bullets(refusals)


def _arms(found: Series) -> list[Arm]:
    """Return whoever has a ratio in any of the campaigns, in the newest one's order of ratios; twins last."""
    arms: dict[str, Arm] = {}
    for point in reversed(found.points):
        for arm in ranked([point.figures]):
            if arm.label != point.figures.baseline:
                arms.setdefault(arm.label, arm)
    return sorted(arms.values(), key=lambda arm: arm.kind is Kind.TWIN)


def _rows(found: Series, arm: Arm) -> Iterator[tuple[str, ...]]:
    """Yield one row per campaign that has a ratio of an arm."""
    name = plain(shown_name(found.points[-1].campaign, arm.label))
    for place, point in enumerate(found.points):
        if point.has(arm.label):
            cells = (interval(point.figures.primary(arm.label)), *found.found(place, arm.label))
            yield (name, _link(point), *(plain(cell or NOTHING) for cell in cells))


def _link(point: Point) -> str:
    invalid = "**INVALID** " if point.is_invalid else ""
    return f"{invalid}[{point.entry.moment.removesuffix(' UTC')}]({point.entry.address})"
