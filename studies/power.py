"""What a campaign of three minutes can see: resampled blocks with a known difference, and real positive controls."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import shelf
from loopmark.judgement import CONTROL_RATIO, judge
from loopmark.record import Campaign, Kind
from loopmark.stats import Estimate, hodges_lehmann, signed_rank_interval
from loopmark.verdicts import Verdict, verdict
from series import COMPARED, Series, series_of, titled
from tables import paragraphs, percent, ratio, reached, table

SECONDS = 180.0
EFFECTS = (0.02, 0.01)
RESAMPLES = 1000
CALLED, EXCLUDED = 0.95, {0.02: 0.99, 0.01: 0.90}
"""Shares that are to be reached: a true 2 % called slower; plain intervals without 1, by effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What became of a true difference."""

    effect: float
    resamples: int
    called: int
    """Verdict `slower`."""
    excluded: int
    """Plain 95 % interval above 1."""
    wrong: int
    """Plain 95 % interval below 1."""


def rendered(results: Path) -> str:
    """Render the power by resampling the studies `precision` and `control`, and the real controls of the latter."""
    sources = {
        study: [shelf.campaigns(results, study, line.name) for line in shelf.lines(study)]
        for study in ("precision", "control")
    }
    (controls,) = sources["control"]
    rows = {
        _titled(campaigns[0]): _power_of(campaigns) for lines in sources.values() for campaigns in lines if campaigns
    }
    return paragraphs(
        shelf.origin([each for campaigns in sources["precision"] for each in campaigns]),
        power_table(rows),
        shelf.origin(controls),
        controls_table(controls),
    )


def power(
    nulls: Sequence[Sequence[float]], effect: float, level: float, margin: float, resamples: int, seed: int = 1
) -> Found:
    """Resample the blocks of identical arms, make one arm slower by `effect`, and count what is found.

    `nulls` are the log-ratios of baseline and twin, one sequence per campaign; each is resampled so often. Blocks are
    drawn whole and with replacement, as many as the campaign had, so that noise, drift and outliers are real. In
    each the two names are exchanged by a fair coin: the code is identical, so that is as likely to have been recorded,
    and the truth is exactly no difference before one is made (B. Efron and R. J. Tibshirani, "An Introduction to the
    Bootstrap" (1993), chapter 16, on resampling what obeys the null hypothesis).
    """
    drawn = random.Random(seed)
    called = excluded = wrong = 0
    for null in nulls:
        for _ in range(resamples):
            sample = [drawn.choice(null) * drawn.choice((-1, 1)) + math.log1p(effect) for _ in null]
            judged = verdict(_estimate(sample, level), margin)
            plain = _estimate(sample, 0.95)
            called += judged is Verdict.SLOWER
            excluded += plain.low is not None and plain.low > 1
            wrong += plain.high is not None and plain.high < 1
    return Found(effect=effect, resamples=resamples * len(nulls), called=called, excluded=excluded, wrong=wrong)


def power_table(rows: dict[str, tuple[Sequence[Series], Sequence[Found]]]) -> str:
    """Render what was found, by case and effect."""
    if not rows:
        return "No campaign yet."
    shown = []
    for title, (nulls, found) in rows.items():
        for each in found:
            good = each.excluded >= EXCLUDED[each.effect] * each.resamples and not each.wrong
            if each.effect == EFFECTS[0]:
                good = good and each.called >= CALLED * each.resamples
            shown.append(
                [
                    title,
                    str(len(nulls)),
                    percent(each.effect, 0),
                    f"{each.resamples:,}",
                    percent(each.called / each.resamples, 1),
                    percent(each.excluded / each.resamples, 1),
                    str(each.wrong),
                    reached(good),
                ]
            )
    headers = (
        *("case", "campaigns", "true difference", "resamples", "called slower", "plain interval excludes 1"),
        *("with the wrong sign", "targets"),
    )
    return table(headers, shown)


def controls_table(campaigns: Sequence[Campaign]) -> str:
    """Render each campaign with a positive control in a row."""
    rows = []
    for number, campaign in enumerate(campaigns, 1):
        plan = campaign.cases[0]
        blocks = [block for block in campaign.blocks if block.case == plan.case.name and not block.field]
        judged = judge(plan, campaign.baseline, blocks, campaign.margin)
        (label,) = plan.labels(Kind.CONTROL)
        control = judged.control
        if control is None or control.low is None or control.high is None:
            rows.append([str(number), str(judged.blocks), *["too few blocks"] * 5])
            continue
        (series,) = series_of(campaign)
        called = verdict(series.compare(label, campaign.baseline, series.level), campaign.margin)
        rows.append(
            [
                str(number),
                str(judged.blocks),
                ratio(series.compare(label, campaign.baseline)),
                ratio(control),
                str(called),
                "yes" if control.low <= CONTROL_RATIO <= control.high else "no",
                str(judged.gate),
            ]
        )
    headers = ("campaign", "blocks", "control [95 %]", "control [99 %]", "called", "99 % contains 1.02", "gate")
    return table(headers, rows) if rows else "No campaign with a positive control yet."


def _titled(campaign: Campaign) -> str:
    plan = campaign.cases[0]
    return f"{titled(plan.case)}, {len(plan.labels(*COMPARED))} arms"


def _power_of(campaigns: Sequence[Campaign]) -> tuple[Sequence[Series], Sequence[Found]]:
    all_series = [series.until(SECONDS) for campaign in campaigns for series in series_of(campaign)]
    first = all_series[0]
    twin = campaigns[0].cases[0].labels(Kind.TWIN)[0]
    nulls = [series.differences(twin, series.baseline) for series in all_series if series.values]
    return all_series, [power(nulls, effect, first.level, first.margin, RESAMPLES) for effect in EFFECTS]


def _estimate(differences: Sequence[float], level: float) -> Estimate:
    low, high = signed_rank_interval(differences, level)
    known = Estimate(
        ratio=math.exp(hodges_lehmann(differences)), low=None, high=None, blocks=len(differences), level=level
    )
    return known if low is None or high is None else replace(known, low=math.exp(low), high=math.exp(high))
