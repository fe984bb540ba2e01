"""A matrix as maps: every contender as the client of every contender, by the CPU time of either side."""

from collections.abc import Iterator

from loopmark.charts.chart import Chart, Rows, Spec, tip, whole
from loopmark.charts.words import slugs
from loopmark.record import Campaign
from loopmark.report.cells import NOTHING
from loopmark.report.figures import SIDES
from loopmark.report.kinds import asked_for, load
from loopmark.report.pairs import Matrix, matrix_of

CELL = 54
"""Width of a pair, in pixels, and twice its height."""

PALE = ["#7fb8de", "#f5f5f5", "#f0b35a"]
"""From blue over grey to orange."""


def pairs(campaign: Campaign) -> Iterator[Chart]:
    """Chart each matrix twice: as servers under the same client, and as clients of the same server."""
    names = slugs(campaign)
    for plan in campaign.cases:
        matrix = matrix_of(campaign, plan)
        if matrix.labels:
            for side in SIDES:
                yield _map(matrix, side, names[plan.case.name])


def _map(matrix: Matrix, side: str, slug: str) -> Chart:
    own = matrix.case.plan.case
    found = {(caller, server): matrix.ratio(caller, server, side) for caller in matrix.names for server in matrix.names}
    values: Rows = [
        {
            "contender": caller,
            "server": server,
            "ratio": None if ratio is None else round(ratio, 6),
            "shown": _shown(ratio),
        }
        for (caller, server), ratio in found.items()
    ]
    other = "called by the same client" if side == "server" else "calling the same server"
    title = f"{asked_for(own)}, {load(own)}: {side}s, CPU time by that of {matrix.baseline}'s {side}, {other}"
    known = sorted((ratio, pair) for pair, ratio in found.items() if ratio is not None)
    ends = "; ".join(
        f"{word} {ratio:.2f}, {caller} as client and {server} as server"
        for word, (ratio, (caller, server)) in zip(("lowest", "highest"), (known[0], known[-1]), strict=True)
    )
    return Chart(
        slug=f"{slug}-{side}",
        title=title,
        alt=f"{title}, for {len(known)} pairs: {ends}.",
        spec=whole(
            title,
            ["Below 1, blue, is less; above 1 is orange. Plain numbers without intervals: no verdict."],
            values,
            _parts(),
        ),
        headers=("client", *matrix.names),
        rows=tuple((caller, *(_shown(found[caller, server]) for server in matrix.names)) for caller in matrix.names),
    )


def _shown(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.2f}"


def _parts() -> Spec:
    """Colour each pair, and write its number into it, which can be read on all of the colours."""
    x = {"field": "server", "type": "nominal", "sort": None, "axis": {"orient": "top", "labelAngle": -40}}
    y = {"field": "contender", "type": "nominal", "sort": None, "title": "client"}
    colour = {
        "field": "ratio",
        "type": "quantitative",
        "scale": {"range": PALE, "domainMid": 1},
        "legend": None,
    }
    tips = tip(contender="client", server="server", shown="ratio")
    return {
        "width": {"step": CELL},
        "height": {"step": CELL / 2},
        "encoding": {"x": x, "y": y},
        "layer": [
            {"mark": "rect", "encoding": {"color": colour, "tooltip": tips}},
            {
                "mark": {"type": "text", "fontSize": 12, "color": "black"},
                "encoding": {"text": {"field": "shown", "type": "nominal"}},
            },
        ],
    }
