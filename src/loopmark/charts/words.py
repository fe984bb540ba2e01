"""What charts and pages call cases, metrics and figures."""

import re

from loopmark.case import TIMES, Metric, Role
from loopmark.judgement import Gate
from loopmark.record import Campaign
from loopmark.report.figures import CaseFigures
from loopmark.report.kinds import asked_for, has_server, load, short
from loopmark.report.tables import metric_name
from loopmark.stats import Summary

WHO = {Role.SERVER: "servers", Role.CLIENT: "clients", Role.BOTH: "both sides together", Role.PAIR: "pairs"}


def slugs(campaign: Campaign) -> dict[str, str]:
    """Give each case, by its name, a short one for files and links; cases that are alike get numbers."""
    found: dict[str, str] = {}
    for plan in campaign.cases:
        case = plan.case
        load = f"{'burst' if case.burst else 'c'}{case.concurrency}"
        words = [case.benchmark, case.variant, load, case.role.value]
        slug = re.sub(r"[^A-Za-z0-9_]+", "-", "-".join(filter(None, words))).strip("-")
        number = 1
        while (name := slug if number == 1 else f"{slug}-{number}") in found.values():
            number += 1
        found[case.name] = name
    return found


def heading(case: CaseFigures) -> str:
    """Name a case in a few words; by INVALID first, where it is."""
    own = case.plan.case
    invalid = "INVALID: " if case.judgement.gate is Gate.INVALID else ""
    profile = f", key {own.tls.key}" if own.tls and own.tls.key != "p256" else ""
    return f"{invalid}{asked_for(own)}, {load(own)}{profile}: {who(case)}"


def who(case: CaseFigures) -> str:
    """Tell what is compared: servers, clients, or both at once."""
    return WHO[case.plan.case.role] if has_server(case.plan) else "lookups"


def measure(metric: Metric) -> str:
    """Name what is compared: `server CPU time`, `client memory`."""
    return f"{metric_name(metric)}{' time' if metric in TIMES else ''}"


def scale(metric: Metric) -> tuple[float, str]:
    """Return the factor from what is stored to what is shown, and that unit."""
    return (1e6, "us") if metric in TIMES else (1 / 1024, "KiB")


def unit(case: CaseFigures, metric: Metric) -> str:
    """Name the unit of absolute figures: `us/conn`."""
    return f"{scale(metric)[1]}/{short(case.plan)}"


def digits(value: float) -> str:
    """Show a figure with three digits, or all before the point."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def shown(figure: Summary | None, metric: Metric) -> str:
    """Show an absolute figure with its lowest and its highest block."""
    if figure is None:
        return "-"
    factor = scale(metric)[0]
    middle, low, high = (digits(factor * each) for each in (figure.median, figure.lowest, figure.highest))
    return f"{middle} ({low}-{high})"
