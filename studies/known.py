"""Is a difference of known size found at its size? Campaigns with the plug-in `busy.py`."""

from pathlib import Path
from statistics import median

import shelf
from busy import DIFFERENCE
from loopmark.record import Campaign
from loopmark.stats import hodges_lehmann, signed_rank_interval
from series import titled
from tables import paragraphs, table

LABEL = "asyncio-long"


def rendered(results: Path) -> str:
    """Render what was found, in microseconds of CPU time of the client; one row for each campaign."""
    campaigns = [each for line in shelf.lines("known") for each in shelf.campaigns(results, "known", line.name)]
    rows = []
    for campaign in campaigns:
        found = added(campaign)
        low, high = signed_rank_interval(found)
        shown = "too few blocks" if low is None or high is None else f"[{1e6 * low:.1f}, {1e6 * high:.1f}]"
        inside = low is not None and high is not None and low <= DIFFERENCE <= high
        rows.append(
            [
                titled(campaign.cases[0].case),
                str(len(found)),
                f"{1e6 * DIFFERENCE:.0f}",
                f"{1e6 * hodges_lehmann(found):.1f}",
                shown,
                "yes" if inside else "no",
            ]
        )
    headers = ("case", "blocks", "added, us", "found, us", "95 % interval", "contains it")
    return paragraphs(shelf.origin(campaigns), table(headers, rows) if rows else "No campaign yet.")


def added(campaign: Campaign) -> list[float]:
    """Return what the longer loop adds, in seconds per connection: each block's median over its rounds."""
    return [
        median(
            busy - usual
            for busy, usual in zip(
                block.measurements[LABEL].client_cpu,
                block.measurements[campaign.baseline].client_cpu,
                strict=True,
            )
        )
        for block in campaign.blocks
        if not block.field
    ]
