"""The page of one campaign."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from loopmark import charts
from loopmark.charts import Chart
from loopmark.charts.words import heading
from loopmark.judgement import Gate
from loopmark.publish.page import LIMITS
from loopmark.record import COMPARED, Campaign
from loopmark.report import sections as report_sections
from loopmark.report.describe import description_sections
from loopmark.report.document import ending, machine_line
from loopmark.report.figures import CaseFigures, figures, ranked, shown_name
from loopmark.report.matrix import is_matrix
from loopmark.report.smoke import is_smoke
from loopmark.site import figure
from loopmark.site.html import Html, joined, tag
from loopmark.site.sections import sections
from loopmark.site.shell import page

FINISHED = ("done", "time cap")
"""How a campaign ends that ran as it was meant to."""


def campaign_page(name: str, campaign: Campaign, files: Sequence[str]) -> str:
    """Render a campaign's page, which lies in a folder beside that of its raw files."""
    names = charts.slugs(campaign)
    cases = [] if is_matrix(campaign) or is_smoke(campaign) else _cases(campaign)
    drawn = {chart.slug: chart for chart in charts.specs(campaign)}
    data = {"figures": _data(campaign, cases, drawn), "baseline": campaign.baseline}
    contents = {
        **{names[case.plan.case.name]: heading(case) for case in cases},
        **({"more": "Charts of several cases" if cases else "Charts"} if _loose(cases, names, drawn) else {}),
        "tables": "Tables, and what they do not say by themselves",
        "made": "How it was made",
        "check": "Raw files, and how to check them",
        "limits": "What it does not say",
    }
    body = [
        *_stamps(campaign),
        tag("p", _summary(campaign)),
        _controls(campaign, cases, names, drawn),
        _contents(contents),
        *(_case(case, names[case.plan.case.name], drawn) for case in cases),
        *_more(contents, _loose(cases, names, drawn)),
        _part("tables", contents, sections(report_sections(campaign))),
        _part("made", contents, sections(description_sections(campaign))),
        _part("check", contents, _check(name, campaign, files)),
        _part("limits", contents, tag("ul", [tag("li", each) for each in LIMITS])),
    ]
    title = f"{campaign.label}, {moment(campaign)}"
    marks = "".join(f"{stamp}: " for stamp in stamps(campaign))
    return page(
        title=f"{marks}{title}",
        heading=title,
        navigation=tag("a", "All campaigns", href="../index.html"),
        body=body,
        data=data,
        root="../",
    )


def moment(campaign: Campaign) -> str:
    """Tell when a campaign began, to the minute."""
    return f"{campaign.started[:16].replace('T', ' ')} UTC"


def stamps(campaign: Campaign) -> list[str]:
    """Return what must be read before anything else, in capitals."""
    gates = gates_of(campaign)
    invalid = gates.count(Gate.INVALID)
    found = ["INVALID" if invalid == len(gates) else "INVALID IN PART"] if invalid else []
    return found if campaign.ended in FINISHED else [*found, "UNFINISHED"]


def gates_of(campaign: Campaign) -> list[Gate]:
    """Return what the controls of each case say."""
    return [figures(campaign, plan).judgement.gate for plan in campaign.cases]


def _cases(campaign: Campaign) -> list[CaseFigures]:
    return [case for plan in campaign.cases if (case := figures(campaign, plan)).arms]


def _summary(campaign: Campaign) -> str:
    return (
        f"{shlex.join(campaign.command)}. Baseline {campaign.baseline}, mode {campaign.mode}. {machine_line(campaign)}."
    )


def _stamps(campaign: Campaign) -> Iterator[Html]:
    reasons = {
        "INVALID": "The campaign's own controls say that something is wrong. Do not use these numbers.",
        "INVALID IN PART": "The controls of some cases say that something is wrong. Do not use their numbers.",
        "UNFINISHED": " ".join(ending(campaign)),
    }
    for stamp in stamps(campaign):
        yield tag("p", tag("strong", stamp), " ", reasons[stamp], class_="stamp")


def _data(campaign: Campaign, cases: Sequence[CaseFigures], drawn: dict[str, Chart]) -> dict[str, Any]:
    """Return every figure for the script: ratios to each arm that may be the baseline, the others as they are."""
    names = charts.slugs(campaign)
    owner = {slug: names[case.plan.case.name] for case in cases for slug in _own(names[case.plan.case.name], drawn)}
    found = {slug: figure.data(owner.get(slug), {"": chart}) for slug, chart in drawn.items()}
    for case in cases:
        slug = names[case.plan.case.name]
        others = [label for label in case.plan.labels(*COMPARED) if label != case.baseline and _has(case, label)]
        views = {label: charts.ratios(campaign, case, slug, label) for label in others}
        found[f"{slug}-ratio"]["views"] |= {label: figure.view(chart) for label, chart in views.items()}
    return found


def _has(case: CaseFigures, label: str) -> bool:
    return any(arm.label == label for arm in case.arms)


def _own(slug: str, drawn: dict[str, Chart]) -> list[str]:
    """Return the charts of one case, in their order."""
    kinds = ("ratio", "cost-server", "cost-client", "blocks")
    return [name for kind in kinds if (name := f"{slug}-{kind}") in drawn]


def _loose(cases: Sequence[CaseFigures], names: dict[str, str], drawn: dict[str, Chart]) -> list[Chart]:
    """Return the charts that are of no single case."""
    owned = {own for case in cases for own in _own(names[case.plan.case.name], drawn)}
    return [chart for slug, chart in drawn.items() if slug not in owned]


def _controls(campaign: Campaign, cases: Sequence[CaseFigures], names: dict[str, str], drawn: dict[str, Chart]) -> Html:
    """Return what a reader may choose; it is of no use without the script, which shows it."""
    if not drawn:
        return Html("")
    labels = dict.fromkeys(label for case in cases for label in case.plan.labels(*COMPARED) if _has(case, label))
    shown = dict.fromkeys(shown_name(campaign, arm.label) for arm in ranked(cases)) or {
        row[0]: None for chart in drawn.values() for row in chart.rows
    }
    choices: list[Html] = []
    if cases:
        own = tag("option", "each case's own", value="")
        choices += [
            _select("baseline", "Baseline", [own, *(tag("option", each, value=each) for each in labels)]),
            _select(
                "order",
                "Order by",
                [
                    tag("option", text, value=value)
                    for value, text in (("", "ratio"), ("cost", "cost"), ("name", "name"))
                ],
            ),
        ]
    choices.append(_checks("contender", "Contenders", {each: each for each in shown}))
    if len(cases) > 1:
        slugs = {names[case.plan.case.name]: heading(case) for case in cases}
        choices.append(_checks("case", "Benchmarks", slugs))
    choices += [tag("a", "Link to this view", id="view", href="#"), tag("button", "Show everything", type="reset")]
    return joined(
        tag("form", choices, id="controls", aria_label="Choose what is shown", hidden=True),
        tag("p", "Without JavaScript there are the tables, and no charts.", id="without-script"),
    )


def _select(name: str, title: str, options: Sequence[Html]) -> Html:
    return tag("label", title, " ", tag("select", options, name=name))


def _checks(name: str, title: str, choices: dict[str, str]) -> Html:
    boxes = [
        tag("label", tag("input", type="checkbox", name=name, value=value, checked=True), " ", text)
        for value, text in choices.items()
    ]
    return tag("details", tag("summary", title), tag("fieldset", tag("legend", title, class_="unseen"), boxes))


def _contents(parts: dict[str, str]) -> Html:
    links = [tag("li", tag("a", text, href=f"#{slug}")) for slug, text in parts.items()]
    return tag("nav", tag("ul", links), aria_label="On this page", class_="contents")


def _case(case: CaseFigures, slug: str, drawn: dict[str, Chart]) -> Html:
    return tag(
        "section",
        tag("h2", heading(case), tabindex="-1"),
        tag("p", case.plan.question) if case.plan.question else "",
        [figure.figure(drawn[name], is_open=name.endswith("-ratio")) for name in _own(slug, drawn)],
        id=slug,
        data_case=slug,
    )


def _more(contents: dict[str, str], found: Sequence[Chart]) -> Iterator[Html]:
    if found:
        yield _part("more", contents, joined(figure.figure(chart) for chart in found))


def _part(slug: str, contents: dict[str, str], content: Html) -> Html:
    return tag("section", tag("h2", contents[slug], tabindex="-1"), content, id=slug)


def _check(name: str, campaign: Campaign, files: Sequence[str]) -> Html:
    """Link the raw files, and give the two commands that check them."""
    links = [tag("li", tag("a", each, href=f"../raw/{quote(name)}/{quote(each)}", download=True)) for each in files]
    stored = [f"{label}.json" for label in _compared(campaign) if f"{label}.json" in files]
    commands = [f"loopmark compare {shlex.quote(name)}"]
    if len(stored) > 1:
        paths = (shlex.quote(str(Path(name) / each)) for each in stored)
        commands.append(f"python -m pyperf compare_to {' '.join(paths)} --table")
    return joined(
        tag("p", f"Put the files into a directory named {name}, and type:"),
        tag("pre", tag("code", "\n".join(commands)), tabindex="0"),
        tag("ul", links, class_="files"),
    )


def _compared(campaign: Campaign) -> list[str]:
    labels = dict.fromkeys([campaign.baseline])
    for plan in campaign.cases:
        labels.update(dict.fromkeys(plan.labels(*COMPARED)))
    return list(labels)
