"""Pictures of a campaign, as Vega-Lite says what they are; each with a table of the same numbers.

Everything here is plain data but `svg` and `bundle`, which need vl-convert-python: the extra `loopmark[publish]`.
"""

from collections.abc import Iterator

from loopmark.charts.blocks import blocks
from loopmark.charts.chart import Chart
from loopmark.charts.costs import costs
from loopmark.charts.loads import loads, loads_across
from loopmark.charts.pairs import pairs
from loopmark.charts.ratios import ratios
from loopmark.charts.trend import Point, trend
from loopmark.charts.vega import bundle, svg
from loopmark.charts.words import slugs
from loopmark.record import Campaign
from loopmark.report.figures import figures
from loopmark.report.matrix import is_matrix
from loopmark.report.smoke import is_smoke

__all__ = [
    "Chart",
    "Point",
    "blocks",
    "bundle",
    "costs",
    "loads",
    "loads_across",
    "pairs",
    "ratios",
    "slugs",
    "specs",
    "svg",
    "trend",
]


def specs(campaign: Campaign) -> list[Chart]:
    """Return every chart of a campaign, case by case, then the costs against concurrency; a smoke pass has none."""
    return list(_specs(campaign))


def _specs(campaign: Campaign) -> Iterator[Chart]:
    if is_smoke(campaign):
        return
    if is_matrix(campaign):
        yield from pairs(campaign)
        return
    names = slugs(campaign)
    cases = [case for plan in campaign.cases if (case := figures(campaign, plan)).arms]
    for case in cases:
        slug = names[case.plan.case.name]
        yield ratios(campaign, case, slug)
        yield from costs(campaign, case, slug)
        yield blocks(campaign, case, slug)
    yield from loads(campaign, cases)
