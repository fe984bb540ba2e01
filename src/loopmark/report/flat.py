"""A comparison for programs: one flat row per case, arm and metric, with full precision."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from loopmark.case import TIMES, Metric
from loopmark.record import Arm, Campaign, Kind
from loopmark.report.figures import SIDES, CaseFigures, figures

COLUMNS = (
    *("started", "label"),
    *("case", "benchmark", "role", "concurrency", "burst", "cores", "peer", "tls", "key", "group", "loops"),
    *("gate", "ended", "half_width"),
    *("arm", "contender", "caller", "kind", "status", "reason", "metric", "unit", "primary", "blocks"),
    *("median", "lowest", "highest", "ratio", "low", "high", "level"),
    *("simultaneous_low", "simultaneous_high", "simultaneous_level", "verdict", "leaning", "letters", "bound"),
    *("floor", "own_cost"),
    *("field_blocks", "field_median", "field_ratio"),
)
"""`status` is `measured` or why there is no number; `median` and all behind it are empty then.

`gate`, `ended` and `half_width` (the widest of the primary intervals, as a share) are the case's. `simultaneous_low` to
`bound` are in rows of the primary metric only, `floor` and `own_cost` (seconds per connection) in those of CPU times.
Ratios are to the baseline; those of the pairs of a matrix, which have a `caller`, to the pair with the baseline on the
side whose CPU time it is, and the same contender on the other one.
"""

_SIDE_FIGURES = {
    "minor_faults": ("minor faults", "1/{unit}"),
    "voluntary_switches": ("voluntary switches", "1/{unit}"),
    "involuntary_switches": ("involuntary switches", "1/{unit}"),
    "run_delay": ("run delay", "second/{unit}"),
    "collections": ("garbage collections", "1"),
    "private_kib": ("private memory", "KiB"),
}


def as_csv(campaigns: Sequence[Campaign]) -> str:
    """Return the rows of all campaigns below one header; what is unknown is an empty cell."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for campaign in campaigns:
        for row in rows(campaign):
            writer.writerow({key: "" if value is None else value for key, value in row.items()})
    return stream.getvalue()


def as_json(campaigns: Sequence[Campaign]) -> str:
    """Return one document for one campaign, a list of them for several."""
    documents = [_document(campaign) for campaign in campaigns]
    return json.dumps(documents if len(documents) > 1 else documents[0], indent=1, allow_nan=False) + "\n"


def _document(campaign: Campaign) -> dict[str, Any]:
    """Put the rows, all with the same keys, beside what says where they come from."""
    about = {
        "label": campaign.label,
        "started": campaign.started,
        "mode": campaign.mode,
        "seed": campaign.seed,
        "baseline": campaign.baseline,
        "margin": campaign.margin,
        "target": campaign.target,
        "ended": campaign.ended,
        "dropped": len(campaign.dropped),
        "notes": campaign.notes,
        "machine": campaign.machine,
    }
    every = [{key: row.get(key) for key in COLUMNS} for row in rows(campaign)]
    return {"campaign": about, "rows": every}


def rows(campaign: Campaign) -> Iterator[dict[str, Any]]:
    """Yield the rows in the campaign's order of cases and arms; then those without numbers, with their reason."""
    for plan in campaign.cases:
        case = figures(campaign, plan)
        tls = plan.case.tls
        axes = {
            "started": campaign.started,
            "label": campaign.label,
            "case": plan.case.name,
            "benchmark": plan.case.benchmark,
            "role": plan.case.role.value,
            "concurrency": plan.case.concurrency,
            "burst": plan.case.burst,
            "cores": plan.case.cores.value,
            "peer": plan.case.peer,
            "tls": tls and tls.version,
            "key": tls and tls.key,
            "group": tls and tls.group,
            "loops": plan.loops,
            "gate": case.judgement.gate.value,
            "ended": plan.ended or None,
            "half_width": case.widest,
        }
        for arm in case.arms:
            for row in _measured(campaign, case, arm):
                yield {**axes, **_named(arm), "status": "measured", **row}
        arms = {arm.label: arm for arm in plan.arms}
        for each in case.outcomes:
            arm = arms.get(each.arm, Arm(label=each.arm, contender=each.arm))
            yield {**axes, **_named(arm), "status": each.status, "reason": each.reason}


def _named(arm: Arm) -> dict[str, Any]:
    return {"arm": arm.label, "contender": arm.contender, "caller": arm.caller, "kind": arm.kind.value}


def _measured(campaign: Campaign, case: CaseFigures, arm: Arm) -> Iterator[dict[str, Any]]:
    for metric in case.plan.case.metrics:
        here, field = case.absolute(arm.label, metric), case.absolute(arm.label, metric, field=True)
        ratio = case.ratio(arm.label, metric)
        field_ratio = case.ratio(arm.label, metric, field=True)
        assert here is not None  # only arms with blocks are listed
        yield {
            "metric": metric.value,
            "unit": f"{'second' if metric in TIMES else 'byte'}/{case.plan.unit}",
            "primary": metric is case.plan.case.primary,
            "blocks": here.blocks,
            "median": here.median,
            "lowest": here.lowest,
            "highest": here.highest,
            "ratio": ratio and ratio.ratio,
            "low": ratio and ratio.low,
            "high": ratio and ratio.high,
            "level": ratio and ratio.level,
            **_judged(case, arm, metric),
            **_over_floor(case, arm, metric),
            "field_blocks": field.blocks if field else 0,
            "field_median": field and field.median,
            "field_ratio": field_ratio and field_ratio.ratio,
        }
    if arm.kind is Kind.FLOOR:
        return  # it has no process of its own for either side, and no wire
    blocks = sum(arm.label in block.measurements for block in case.blocks)
    common = {"primary": False, "blocks": blocks, "field_blocks": len(case.field_blocks)}
    for side in ("client", "server"):
        share = case.utilisation(arm.label, side)
        yield {**common, "metric": f"{side} utilisation", "unit": "1", "median": share}
        for figure, (name, unit) in _SIDE_FIGURES.items():
            yield {
                **common,
                "metric": f"{side} {name}",
                "unit": unit.format(unit=case.plan.unit),
                "median": case.of_side(arm.label, side, figure),
                "field_median": case.of_side(arm.label, side, figure, field=True),
            }
    trace = campaign.traces.get(case.plan.case.name, {}).get(arm.label)
    for side in ("server", "client") if trace else ():
        sent = getattr(trace, f"bytes_to_{side}")
        yield {**common, "metric": f"bytes to {side}", "unit": f"byte/{case.plan.unit}", "blocks": 0, "median": sent}


def _judged(case: CaseFigures, arm: Arm, metric: Metric) -> dict[str, Any]:
    """Say what is said of the primary metric only."""
    if metric is not case.plan.case.primary:
        return {}
    estimate = case.primary(arm.label) if case.is_simultaneous else None
    verdict, leaning, bound = case.verdict(arm.label), case.leaning(arm.label), case.bound_by(arm.label)
    return {
        "simultaneous_low": estimate and estimate.low,
        "simultaneous_high": estimate and estimate.high,
        "simultaneous_level": estimate and estimate.level,
        "verdict": verdict and verdict.value,
        "leaning": leaning and leaning.value,
        "letters": case.letters(arm.label) or None,
        "bound": bound.value if bound and arm.kind is not Kind.FLOOR else None,
    }


def _over_floor(case: CaseFigures, arm: Arm, metric: Metric) -> dict[str, Any]:
    """Set a CPU time beside the floor's of the same side."""
    side = next((side for side, each in SIDES.items() if each is metric), None)
    floor = case.floor(side) if side else None
    if side is None or floor is None or arm.kind is Kind.FLOOR:
        return {}
    return {"floor": floor.median, "own_cost": case.own_cost(arm.label, side)}
