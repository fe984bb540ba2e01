"""The first page: all campaigns, and what only several of them show together."""

from collections.abc import Sequence
from urllib.parse import quote

from loopmark import charts
from loopmark.charts import Chart
from loopmark.publish.page import LIMITS
from loopmark.record import Campaign
from loopmark.report.document import machine_line
from loopmark.report.figures import figures
from loopmark.report.matrix import is_matrix
from loopmark.report.smoke import is_smoke
from loopmark.site import figure
from loopmark.site.campaign import gates_of, moment, stamps
from loopmark.site.html import Html, joined, tag
from loopmark.site.shell import page

Campaigns = Sequence[tuple[str, Campaign]]


def index_page(campaigns: Campaigns, history: Sequence[Chart]) -> str:
    """Render the first page; `history` is what campaigns of the same label became over time."""
    across = _across(campaigns)
    body = [
        tag(
            "p", "Event loops compared: the same work over asyncio, uvloop, trio and anyio, in blocks, with intervals."
        ),
        tag("h2", "Campaigns"),
        _table(campaigns),
        *([tag("h2", "By connections at a time, across campaigns"), _figures(across)] if across else []),
        *([tag("h2", "History"), _figures(history)] if history else []),
        tag("h2", "What it does not say"),
        tag("ul", [tag("li", each) for each in LIMITS]),
    ]
    drawn = [*across, *history]
    return page(
        title="loopmark: results",
        heading="loopmark: results",
        navigation=tag("a", "All campaigns", href="index.html", aria_current="page"),
        body=body,
        data={"figures": {chart.slug: figure.data(None, {"": chart}) for chart in drawn}},
        root="",
        script=bool(drawn),
    )


def _across(campaigns: Campaigns) -> list[Chart]:
    judged = [
        (campaign, [case for plan in campaign.cases if (case := figures(campaign, plan)).arms])
        for _, campaign in campaigns
        if not is_smoke(campaign) and not is_matrix(campaign)
    ]
    return list(charts.loads_across(judged))


def _figures(found: Sequence[Chart]) -> Html:
    return joined(figure.figure(chart) for chart in found)


def _table(campaigns: Campaigns) -> Html:
    """List campaigns, the newest first."""
    headers = ("campaign", "started", "what", "mode", "blocks", "gate", "machine")
    rows = [
        _row(name, campaign) for name, campaign in sorted(campaigns, key=lambda each: each[1].started, reverse=True)
    ]
    content = tag(
        "table",
        tag("thead", tag("tr", [tag("th", header, scope="col") for header in headers])),
        tag("tbody", rows),
        class_="text",
        data_sortable=True,
    )
    return figure.scrolled(content, "Campaigns")


def _row(name: str, campaign: Campaign) -> Html:
    what = ", ".join(dict.fromkeys(plan.case.benchmark for plan in campaign.cases))
    marks = stamps(campaign)
    gates = ", ".join(dict.fromkeys(gate.value for gate in gates_of(campaign)))
    state = tag("strong", ", ".join(marks), class_="bad") if marks else gates
    cells = (
        moment(campaign),
        what,
        campaign.mode,
        str(sum(not block.field for block in campaign.blocks)),
        state,
        machine_line(campaign).removeprefix("Machine: "),
    )
    link = tag("a", campaign.label, href=f"campaigns/{quote(name)}.html")
    return tag("tr", tag("th", link, scope="row"), [tag("td", cell) for cell in cells])
