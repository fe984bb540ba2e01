"""The ratio to a baseline with its interval, a row for each contender, and the A/A twin's interval behind them."""

from dataclasses import replace
from typing import Any

from loopmark.charts.chart import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    STEP,
    VERMILLION,
    WIDTH,
    Chart,
    Rows,
    Spec,
    contenders_down,
    tip,
    whole,
)
from loopmark.charts.words import heading, measure, shown, unit
from loopmark.record import Arm, Campaign, Kind
from loopmark.report.cells import NOTHING, interval
from loopmark.report.figures import CaseFigures, ranked, shown_name
from loopmark.stats import Estimate, minimum_blocks

LOOKS = {
    "baseline": (GREY, "square"),
    "faster": (BLUE, "triangle-left"),
    "slower": (VERMILLION, "triangle-right"),
    "equivalent": (GREEN, "diamond"),
    "inconclusive": (ORANGE, "circle"),
    "A/A twin": (GREY, "cross"),
    "no verdict": (GREY, "circle"),
}
"""Colour and shape of a verdict, or of what stands in its place."""


def ratios(campaign: Campaign, case: CaseFigures, slug: str, baseline: str | None = None) -> Chart:
    """Chart a case against its own baseline, or against another arm, which gives plain intervals and no verdict."""
    own = baseline in (None, case.baseline)
    seen = case if own else replace(case, baseline=baseline or "")
    name = shown_name(campaign, seen.baseline)
    metric = case.plan.case.primary
    rows = [_row(campaign, case, seen, arm, own=own) for arm in ranked([seen])]
    band = _band(campaign, case)
    # Who has a ratio, but too few blocks for an interval, has a line without length.
    values = [*band, *(each for each in rows if each["ratio"] is not None)]
    kind = "simultaneous" if own and case.is_simultaneous else "plain"
    headers = ("contender", f"ratio [{kind} 95 %]", "verdict", *(["letters"] if own and case.is_judged else []))
    title = f"{heading(case)}, {measure(metric)} by that of {name}"
    return Chart(
        slug=f"{slug}-ratio",
        title=title,
        alt=_alt(campaign, case, title, rows),
        spec=whole(
            title,
            _subtitle(seen, kind, name, own=case.baseline if not own else None, band=bool(band)),
            values,
            _parts(name, unit(case, metric), band=bool(band)),
        ),
        headers=(*headers, unit(case, metric)),
        rows=tuple(
            (
                *(each["contender"], each["shown"], each["told"]),
                *([case.letters(each["label"]) or NOTHING] if own and case.is_judged else []),
                each["cost"],
            )
            for each in rows
        ),
    )


def _row(campaign: Campaign, case: CaseFigures, seen: CaseFigures, arm: Arm, *, own: bool) -> dict[str, Any]:
    metric = case.plan.case.primary
    estimate = case.primary(arm.label) if own else seen.ratio(arm.label, metric)
    is_baseline = arm.label == seen.baseline
    ratio = 1.0 if is_baseline else _rounded(estimate, "ratio")
    verdict = _verdict(case, seen, arm, own=own)
    leaning = case.leaning(arm.label) if own else None
    absolute = case.absolute(arm.label, metric)
    return {
        "label": arm.label,
        "contender": shown_name(campaign, arm.label),
        "ratio": ratio,
        "low": ratio if is_baseline else _rounded(estimate, "low") or ratio,
        "high": ratio if is_baseline else _rounded(estimate, "high") or ratio,
        "verdict": verdict,
        "told": f"{verdict} ({leaning}?)" if leaning else verdict,
        "shown": "1" if is_baseline else interval(estimate),
        "cost": shown(absolute, metric),
        "median": None if absolute is None else absolute.median,
    }


def _rounded(estimate: Estimate | None, end: str) -> float | None:
    value: float | None = getattr(estimate, end, None)
    return None if value is None else round(value, 6)


def _verdict(case: CaseFigures, seen: CaseFigures, arm: Arm, *, own: bool) -> str:
    if arm.label == seen.baseline:
        return "baseline"
    if arm.kind is Kind.TWIN:
        return "A/A twin"
    found = case.verdict(arm.label) if own else None
    return "no verdict" if found is None else found.value


def _band(campaign: Campaign, case: CaseFigures) -> Rows:
    """Return the twins' intervals, which are noise: the same whoever is compared."""
    found = [(label, case.primary(label)) for label in case.plan.labels(Kind.TWIN)]
    return [
        {
            "band": shown_name(campaign, label),
            "low": _rounded(estimate, "low"),
            "high": _rounded(estimate, "high"),
            "shown": interval(estimate),
        }
        for label, estimate in found
        if estimate is not None and estimate.low is not None
    ]


def _subtitle(seen: CaseFigures, kind: str, name: str, *, own: str | None, band: bool) -> list[str]:
    """Explain the lines and the band; `own` is the case's own baseline where another one was asked for."""
    lines = f"Lines: {kind} 95 % intervals."
    if len(seen.blocks) < minimum_blocks():
        lines = f"A 95 % interval takes {minimum_blocks()} blocks."
    verdicts = f" Verdicts are against {own} only." if own else ""
    grey = ["Grey band: the A/A twin, the campaign's baseline against itself, which is noise."] if band else []
    return [f"Below 1 is less than {name}. {lines}{verdicts}", *grey]


def _alt(campaign: Campaign, case: CaseFigures, title: str, rows: Rows) -> str:
    those = "; ".join(f"{each['contender']} {each['shown']} {each['told']}" for each in rows)
    bands = [f"from {each['low']:.3f} to {each['high']:.3f}" for each in _band(campaign, case)]
    band = f" The band of the A/A twin reaches {', '.join(bands)}." if bands else ""
    return f"{title}, ratios with intervals: {those}.{band}"


def _parts(name: str, per: str, *, band: bool) -> Spec:
    x = {
        "type": "quantitative",
        "title": f"ratio to {name}",
        "scale": {"zero": False},
        "axis": {"grid": True, "tickCount": 8},
    }
    verdicts = list(LOOKS)
    there = {"filter": "isValid(datum.contender)"}
    noise = {
        "transform": [{"filter": "isValid(datum.band)"}],
        "mark": {"type": "rect", "color": GREY, "opacity": 0.25},
        "encoding": {
            "x": {"field": "low", **x},
            "x2": {"field": "high"},
            "tooltip": tip(band="noise", shown="interval"),
        },
    }
    colour, shape = (
        {
            "field": "verdict",
            "type": "nominal",
            "title": None,
            "scale": {"domain": verdicts, "range": [LOOKS[verdict][place] for verdict in verdicts]},
        }
        for place in range(2)
    )
    tips = tip(contender="contender", shown="ratio [95 %]", told="verdict", cost=per)
    return {
        "width": WIDTH,
        "height": {"step": STEP},
        "layer": [
            *([noise] if band else []),
            {"mark": {"type": "rule", "color": GREY, "strokeDash": [4, 3]}, "encoding": {"x": {"datum": 1, **x}}},
            # First those that all contenders have: they settle the order of the rows.
            {
                "transform": [there],
                "mark": {"type": "point", "filled": True, "opacity": 1, "size": 90},
                "encoding": {
                    "y": contenders_down(),
                    "x": {"field": "ratio", **x},
                    "color": colour,
                    "shape": shape,
                    "tooltip": tips,
                },
            },
            {
                "transform": [there],
                "mark": {"type": "rule", "strokeWidth": 2.5},
                "encoding": {
                    "y": contenders_down(),
                    "x": {"field": "low", **x},
                    "x2": {"field": "high"},
                    "color": colour,
                    "tooltip": tips,
                },
            },
        ],
    }
