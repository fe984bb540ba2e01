"""Figures against the number of connections at a time: the cost in one campaign, the ratio across several."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from loopmark.case import Case, Cores
from loopmark.charts.chart import GREY, WIDTH, Chart, Rows, Spec, lines_of, tip, whole
from loopmark.charts.words import measure, scale, shown, unit, who
from loopmark.record import COMPARED, Campaign
from loopmark.report.cells import interval
from loopmark.report.figures import CaseFigures, ranked, shown_name
from loopmark.report.kinds import asked_for

HEIGHT = 300
"""Pixels."""

Family = list[tuple[Campaign, CaseFigures]]
"""Cases that differ in the number of connections only."""


def loads(campaign: Campaign, cases: Sequence[CaseFigures]) -> Iterator[Chart]:
    """Chart the absolute cost, for each family of one campaign's cases that has several numbers of connections."""
    for number, family in enumerate(_families([(campaign, case) for case in cases])):
        yield _costs(family, f"load-{number + 1}")


def loads_across(campaigns: Sequence[tuple[Campaign, Sequence[CaseFigures]]]) -> Iterator[Chart]:
    """Chart the ratio to the baseline of the same campaign: absolute figures are not comparable between campaigns.

    Only families that no campaign has by itself alone are charted; of one case in several campaigns the latest counts.
    """
    latest: dict[Case, tuple[Campaign, CaseFigures]] = {}
    for campaign, cases in sorted(campaigns, key=lambda each: each[0].started):
        latest.update({case.plan.case: (campaign, case) for case in cases})
    for number, family in enumerate(_families(list(latest.values()))):
        if len({campaign.started for campaign, _ in family}) > 1:
            yield _ratios(family, f"across-{number + 1}")


def _families(cases: Family) -> Iterator[Family]:
    found: dict[tuple[Case, str], Family] = {}
    for campaign, case in cases:
        own = case.plan.case
        # One connection at a time has one core, more have two: that is part of the question.
        alike = replace(own, concurrency=1, cores=Cores.ANY, connections=None, held=None if own.held is None else 0)
        found.setdefault((alike, case.baseline), []).append((campaign, case))
    for family in found.values():
        if len({case.plan.case.concurrency for _, case in family}) > 1:
            yield sorted(family, key=lambda each: each[1].plan.case.concurrency)


def _names(family: Family) -> list[str]:
    """Return who has a line, without twins, which would only cover their baseline."""
    labels = {arm.label for _, case in family for arm in case.arms if arm.kind in COMPARED}
    order = [arm.label for arm in ranked([case for _, case in family]) if arm.label in labels]
    return [shown_name(family[0][0], label) for label in order]


def _costs(family: Family, slug: str) -> Chart:
    first = family[0][1]
    metric = first.plan.case.primary
    values: Rows = []
    for _, case in family:
        for arm in case.arms:
            figure = case.absolute(arm.label, metric) if arm.kind in COMPARED else None
            if figure is not None and figure.median > 0:
                values.append(
                    {
                        "contender": arm.label,
                        "connections": case.plan.case.concurrency,
                        "y": round(scale(metric)[0] * figure.median, 4),
                        "shown": shown(figure, metric),
                    }
                )
    title = f"{_what(first)}, {measure(metric)} per {first.plan.unit}, by connections at a time"
    per = unit(first, metric)
    subtitle = [f"The median over blocks.{_placement([case for _, case in family])}"]
    return _chart(slug, title, subtitle, values, _names(family), per, {"type": "log", "nice": False, "padding": 12})


def _ratios(family: Family, slug: str) -> Chart:
    first = family[0][1]
    metric = first.plan.case.primary
    values: Rows = []
    for campaign, case in family:
        for arm in case.arms:
            estimate = case.primary(arm.label) if arm.kind in COMPARED and arm.label != case.baseline else None
            if estimate is not None:
                values.append(
                    {
                        "contender": arm.label,
                        "connections": case.plan.case.concurrency,
                        "y": round(estimate.ratio, 6),
                        "shown": interval(estimate),
                        "campaign": f"{campaign.label}, {campaign.started}",
                    }
                )
    title = f"{_what(first)}, {measure(metric)} by that of {first.baseline}, by connections at a time"
    subtitle = [f"Each ratio is to {first.baseline} in the same campaign; below 1 is less."]
    names = [name for name in _names(family) if name != first.baseline]
    chart = _chart(slug, title, subtitle, values, names, f"ratio to {first.baseline}", {"zero": False})
    rule = {"mark": {"type": "rule", "color": GREY, "strokeDash": [4, 3]}, "encoding": {"y": {"datum": 1}}}
    return replace(chart, spec={**chart.spec, "layer": [rule, *chart.spec["layer"]]})


def _what(case: CaseFigures) -> str:
    own = case.plan.case
    return f"{asked_for(own)}: {who(case)}"


def _placement(cases: Sequence[CaseFigures]) -> str:
    """Tell where the processes ran, where that differs."""
    shared = [str(case.plan.case.concurrency) for case in cases if case.plan.case.cores is Cores.SHARED]
    if not shared or len(shared) == len(cases):
        return ""
    return f" With {' and '.join(shared)} at a time both sides share one core, else each has its own."


def _chart(
    slug: str, title: str, subtitle: list[str], values: Rows, names: list[str], per: str, y_scale: Spec
) -> Chart:
    counts = sorted({each["connections"] for each in values})
    rows = {
        name: {each["connections"]: each["shown"] for each in values if each["contender"] == name} for name in names
    }
    x = {
        "field": "connections",
        "type": "quantitative",
        "title": "connections at a time",
        "scale": {"type": "log"},
        "axis": {"values": counts, "format": "d", "grid": False},
    }
    y = {"field": "y", "type": "quantitative", "title": per, "scale": y_scale, "axis": {"tickCount": 6}}
    looks = lines_of(names)
    tips = tip(contender="contender", connections="connections at a time", shown=per)
    if any("campaign" in each for each in values):
        tips += tip(campaign="campaign")
    line = {
        "mark": {"type": "line", "strokeWidth": 1.5},
        "encoding": {"x": x, "y": y, "color": looks["color"], "strokeDash": looks["strokeDash"]},
    }
    point = {
        "mark": {"type": "point", "filled": True, "opacity": 1, "size": 60},
        "encoding": {"x": x, "y": y, "color": looks["color"], "shape": looks["shape"], "tooltip": tips},
    }
    return Chart(
        slug=slug,
        title=title,
        alt=f"{title}: "
        + "; ".join(
            f"{name} {', '.join(f'{text} at {count}' for count, text in found.items())}" for name, found in rows.items()
        )
        + ".",
        spec=whole(title, subtitle, values, {"width": WIDTH, "height": HEIGHT, "layer": [line, point]}),
        headers=("contender", *(f"{count} at a time" for count in counts)),
        rows=tuple((name, *(found.get(count, "-") for count in counts)) for name, found in rows.items()),
    )
