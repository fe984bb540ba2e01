"""What no interval shows: what becomes of the ratios when something about the processes is changed."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev, variance

import shelf
from catalogue import USUAL
from loopmark.stats import Estimate, change_interval
from series import Series, joined, series_of, titled
from tables import NOTHING, change, paragraphs, percent, reached, table

AGREEING, FAULTS_AGREEING = 0.01, 1.0
"""Ratios that differ by no more than this share, faults per connection by no more than this number."""


NAMES = {
    "whole": "forked, whole values",
    "fresh": "fresh, whole values",
    "sliced": "forked, slices",
}
"""What the variants of the study `accuracy` are."""


def rendered(results: Path) -> str:
    """Render the study `accuracy`: what becomes of every contender in fresh processes, and in slices."""
    lines = {(line.variant, line.case): _joined(results, "accuracy", line.name) for line in shelf.lines("accuracy")}
    cases = dict.fromkeys(case for _, case in lines)
    tables = []
    for variant in ("fresh", "sliced"):
        pairs = [(lines["whole", case], lines[variant, case]) for case in cases]
        both = [(before, after) for before, after in pairs if before and after]
        if both:
            tables.append(agreement_table(both, NAMES["whole"], NAMES[variant]))
    tables.append(repeats_table({line: _parts(results, "accuracy", "-".join(line)) for line in lines}))
    return paragraphs(_origin(results, "accuracy"), *tables) if tables[0] else "No campaigns yet."


def agreement_table(pairs: Sequence[tuple[Series, Series]], before: str, after: str) -> str:
    """Render each contender of each case: what the ratio changes by from `before` to `after`, and the faults."""
    rows, changes, faults = [], [], []
    for old, new in pairs:
        for arm in old.arms:
            if arm not in new.arms:
                continue
            there, here = median_faults(old, arm), median_faults(new, arm)
            faults += [abs(here - there)] if there is not None and here is not None else []
            moved = changed(old, new, arm) if arm != old.baseline else None
            changes += [max(moved.ratio, 1 / moved.ratio) - 1] if moved else []
            rows.append([titled(old.case), arm, change(moved) if moved else NOTHING, *map(_shown, (there, here))])
    headers = (
        "case",
        "contender",
        f"ratio to the baseline: {after}, against {before}",
        "faults before",
        "faults after",
    )
    ends = (
        f"Every ratio within 1 %: {reached(max(changes, default=0.0) <= AGREEING)} "
        f"(largest {100 * max(changes, default=0.0):.2f} %). "
        f"Faults per connection within 1: {reached(max(faults, default=0.0) <= FAULTS_AGREEING)} "
        f"(largest {max(faults, default=0.0):.2f})."
    )
    return f"{table(headers, rows)}\n\n{ends}"


def repeats_table(found: Mapping[tuple[str, str], Sequence[Series]]) -> str:
    """Render how far campaigns of one command line lie apart, and how far their blocks alone would put them.

    Both are standard deviations of a campaign's ratio, the root of the mean square over contenders, and beside them the
    twin's, who is the same code and shows noise only. Empty where no line has two campaigns.
    """
    rows = []
    for (variant, _), campaigns in found.items():
        parts = [each for each in campaigns if len(each.values) > 1]
        if len(parts) < 2:
            continue
        arms = [arm for arm in parts[0].arms if arm != parts[0].baseline and all(arm in part.arms for part in parts)]
        twins = [arm for arm in arms if arm.startswith(f"{parts[0].baseline}.")]
        cells = []
        for some in ([arm for arm in arms if arm not in twins], twins):
            apart, explained = zip(*(spread_between(parts, arm) for arm in some), strict=True)
            cells += [percent(_root_mean_square(apart)), percent(_root_mean_square(explained))]
        rows.append([titled(parts[0].case), NAMES[variant], str(len(parts)), *cells])
    headers = ("case", "values", "campaigns", "contenders: apart", "by blocks alone", "twin: apart", "by blocks alone")
    return table(headers, rows) if rows else ""


def spread_between(parts: Sequence[Series], arm: str) -> tuple[float, float]:
    """Return the standard deviation of an arm's log-ratio between campaigns, and that which their blocks explain."""
    estimates = [math.log(part.compare(arm, part.baseline).ratio) for part in parts]
    blocks = [part.differences(arm, part.baseline) for part in parts]
    return stdev(estimates), math.sqrt(mean(variance(each) / len(each) for each in blocks))


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(mean(value**2 for value in values))


def circumstances(results: Path) -> str:
    """Render the study `circumstances`: what each change does to the ratios, against nothing changed."""
    found: dict[str, dict[str, Series]] = {}
    for line in shelf.lines("circumstances"):
        if there := _joined(results, "circumstances", line.name):
            found.setdefault(line.variant, {})[line.case] = there
    usual = found.pop(USUAL, {})
    return paragraphs(_origin(results, "circumstances"), circumstances_table(usual, found))


def circumstances_table(usual: Mapping[str, Series], found: Mapping[str, Mapping[str, Series]]) -> str:
    """Render variants as rows, contenders as columns."""
    rows = []
    arms = list(dict.fromkeys(arm for series in usual.values() for arm in series.arms if arm != series.baseline))
    for variant, cases in found.items():
        for case, series in cases.items():
            if case in usual:
                cells = [change(changed(usual[case], series, arm)) if arm in series.arms else NOTHING for arm in arms]
                rows.append([variant, titled(usual[case].case), *cells])
    return table(["changed", "case", *arms], rows) if rows else "No campaigns yet."


def changed(old: Series, new: Series, arm: str) -> Estimate:
    """Estimate by what factor an arm's ratio to the baseline differs."""
    return change_interval(old.differences(arm, old.baseline), new.differences(arm, new.baseline))


def median_faults(series: Series, arm: str) -> float | None:
    """Return an arm's minor faults per connection, the median over blocks; None where they cannot be counted."""
    found = [each for row in series.faults if (each := row[arm]) is not None]
    return median(found) if found else None


def _origin(results: Path, study: str) -> str:
    return shelf.origin([each for line in shelf.lines(study) for each in shelf.campaigns(results, study, line.name)])


def _joined(results: Path, study: str, line: str) -> Series | None:
    parts = _parts(results, study, line)
    return joined(parts) if parts else None


def _parts(results: Path, study: str, line: str) -> list[Series]:
    return [series for campaign in shelf.campaigns(results, study, line) for series in series_of(campaign)]


def _shown(faults: float | None) -> str:
    return NOTHING if faults is None else f"{faults:.2f}"
