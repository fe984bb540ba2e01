"""The charts of campaigns: that they show what the tables say, and draw."""

import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.campaigns import BOTH, CLIENT, EFFECTS, SERVER, TWIN, fake_campaign
from tests.test_matrix import simulated

from loopmark import charts, store
from loopmark.case import Metric, Role
from loopmark.charts import Chart, Point
from loopmark.errors import UnavailableError
from loopmark.record import Campaign, Kind
from loopmark.report.figures import CaseFigures, figures
from loopmark.stats import Estimate, ratio_interval

PUBLISHED = Path(__file__).parents[1] / "results/20261120T104527Z-amd-epyc-2-cores"

WITH_BLOCKING = {**EFFECTS, "blocking": 0.7}


def drawn(campaign: Campaign) -> dict[str, Chart]:
    return {chart.slug: chart for chart in charts.specs(campaign)}


def first(campaign: Campaign) -> CaseFigures:
    return figures(campaign, campaign.cases[0])


def values(chart: Chart) -> list[dict[str, object]]:
    found: list[dict[str, object]] = chart.spec["data"]["values"]
    return found


def test_every_case_has_its_ratios_its_costs_by_side_and_its_blocks() -> None:
    assert list(drawn(fake_campaign())) == [
        *("tls_pingpong-c100-server-ratio", "tls_pingpong-c100-server-cost-server", "tls_pingpong-c100-server-blocks"),
        *("tls_pingpong-c100-client-ratio", "tls_pingpong-c100-client-cost-client", "tls_pingpong-c100-client-blocks"),
        *("tls_pingpong-c1-both-ratio", "tls_pingpong-c1-both-cost-server", "tls_pingpong-c1-both-cost-client"),
        "tls_pingpong-c1-both-blocks",
    ]


def test_cases_that_differ_in_what_a_name_does_not_tell_have_names_of_their_own() -> None:
    assert SERVER.tls is not None
    other = replace(SERVER, tls=replace(SERVER.tls, key="rsa2048"))
    names = charts.slugs(fake_campaign(cases=[SERVER, other]))
    assert list(names.values()) == ["tls_pingpong-c100-server", "tls_pingpong-c100-server-2"]


@pytest.mark.parametrize("make", [fake_campaign, simulated], ids=["comparison", "matrix"])
def test_every_chart_has_a_table_and_words_with_all_of_its_contenders(make: Callable[[], Campaign]) -> None:
    for chart in charts.specs(make()):
        named = {str(each["contender"]) for each in values(chart) if "contender" in each}
        assert named
        assert named <= {row[0] for row in chart.rows}
        assert {len(row) for row in chart.rows} == {len(chart.headers)}
        assert chart.title in chart.alt


def test_ratios_are_those_of_the_tables_with_their_intervals_and_verdicts() -> None:
    campaign = fake_campaign(blocks=12)
    case = first(campaign)
    shown = {each["label"]: each for each in values(charts.ratios(campaign, case, "x")) if "label" in each}
    for label in ("uvloop", "trio", TWIN):
        estimate = case.primary(label)
        assert estimate is not None
        assert shown[label]["ratio"] == pytest.approx(estimate.ratio, abs=1e-6)
        assert shown[label]["low"] == pytest.approx(estimate.low, abs=1e-6)
        assert shown[label]["high"] == pytest.approx(estimate.high, abs=1e-6)
    assert [shown[label]["verdict"] for label in ("uvloop", "trio", "asyncio", TWIN)] == [
        *("faster", "slower", "baseline", "A/A twin")
    ]


def test_the_band_is_the_interval_of_the_twin_whoever_is_the_baseline() -> None:
    campaign = fake_campaign()
    case = first(campaign)
    twin = case.primary(TWIN)
    assert twin is not None
    for baseline in (None, "trio"):
        (band,) = (each for each in values(charts.ratios(campaign, case, "x", baseline)) if "band" in each)
        assert (band["low"], band["high"]) == (pytest.approx(twin.low, abs=1e-6), pytest.approx(twin.high, abs=1e-6))


def test_another_baseline_gets_plain_intervals_of_its_own_pairs_and_no_verdict() -> None:
    campaign = fake_campaign(blocks=12)
    case = first(campaign)
    chart = charts.ratios(campaign, case, "x", "trio")
    shown = {each["label"]: each for each in values(chart) if "label" in each}
    ours, theirs = (
        [block.measurements[label].values(Metric.SERVER_CPU) for block in case.blocks] for label in ("uvloop", "trio")
    )
    expected = ratio_interval(ours, theirs)
    assert shown["uvloop"]["ratio"] == pytest.approx(expected.ratio, abs=1e-6)
    assert shown["uvloop"]["high"] == pytest.approx(expected.high, abs=1e-6)
    assert shown["trio"]["ratio"] == 1.0
    assert {each["verdict"] for each in shown.values()} == {"baseline", "no verdict", "A/A twin"}
    assert chart.headers[1] == "ratio [plain 95 %]"


def test_without_enough_blocks_there_is_a_ratio_and_no_band() -> None:
    campaign = fake_campaign(blocks=3, mode="fast")
    chart = charts.ratios(campaign, first(campaign), "x")
    assert not [each for each in values(chart) if "band" in each]
    assert all(each["low"] == each["ratio"] for each in values(chart))
    assert "takes 6 blocks" in chart.spec["title"]["subtitle"][0]


def test_an_invalid_case_says_so_in_the_title_of_each_chart() -> None:
    campaign = fake_campaign(effects={**EFFECTS, TWIN: 1.05})
    assert {chart.title.partition(":")[0] for chart in charts.specs(campaign)} == {"INVALID"}


def test_the_parts_of_a_cost_add_up_to_floor_and_own() -> None:
    campaign = fake_campaign(blocks=12)
    case = first(campaign)
    (chart,) = charts.costs(campaign, case, "x")
    floor, own = case.floor("server"), case.own_cost("trio", "server")
    assert floor is not None
    assert own is not None
    parts = {each["part"]: each["cost"] for each in values(chart) if each["contender"] == "trio"}
    assert list(parts) == ["OpenSSL in memory (the floor)", "sockets, event loop and library"]
    assert sum(map(float, map(str, parts.values()))) == pytest.approx(1e6 * (floor.median + own), abs=1e-3)


def test_one_at_a_time_sockets_without_a_loop_are_a_part_of_their_own() -> None:
    campaign = fake_campaign(cases=[BOTH], effects=WITH_BLOCKING)
    case = first(campaign)
    chart = drawn(campaign)["tls_pingpong-c1-both-cost-client"]
    parts = {each["part"]: float(str(each["cost"])) for each in values(chart) if each["contender"] == "trio"}
    without, own = case.own_cost("blocking", "client"), case.own_cost("trio", "client")
    assert without is not None
    assert own is not None
    assert parts["sockets without a loop"] == pytest.approx(1e6 * without, abs=1e-3)
    assert parts["event loop and library"] == pytest.approx(1e6 * (own - without), abs=1e-3)


def test_who_costs_less_than_sockets_without_a_loop_has_no_negative_bar_but_a_negative_number() -> None:
    campaign = fake_campaign(cases=[BOTH], effects={"uvloop": 0.7, "blocking": 0.9})
    chart = drawn(campaign)["tls_pingpong-c1-both-cost-server"]
    assert all(float(str(each["cost"])) >= 0 for each in values(chart))
    (row,) = (row for row in chart.rows if row[0] == "uvloop")
    assert row[-1].startswith("-")


def test_with_several_connections_at_a_time_blocking_has_threads_and_splits_nothing() -> None:
    (chart,) = charts.costs(campaign := fake_campaign(cases=[SERVER], effects=WITH_BLOCKING), first(campaign), "x")
    assert "sockets without a loop" not in {each["part"] for each in values(chart)}


def test_blocks_show_that_drift_is_common_to_all_and_not_in_the_ratio() -> None:
    # The fake machine's speed wanders by tens of percent over the blocks; what is left is the noise of 1 %.
    campaign = fake_campaign(blocks=12)
    chart = charts.blocks(campaign, first(campaign), "x")
    off = {
        series: max(abs(float(str(each["off"]))) for each in values(chart) if each["series"] == series)
        for series in ("its own figure", "its ratio to the baseline")
    }
    assert off["its own figure"] > 10
    assert off["its ratio to the baseline"] < 3
    assert Counter(row[0] for row in chart.rows) == dict.fromkeys([row[0] for row in chart.rows], 12)


def test_field_blocks_are_not_among_the_blocks_over_time() -> None:
    campaign = fake_campaign(blocks=8, field_blocks=3)
    assert max(int(row[1]) for row in charts.blocks(campaign, first(campaign), "x").rows) == 8


def test_costs_against_concurrency_need_several_concurrencies() -> None:
    assert not [slug for slug in drawn(fake_campaign()) if slug.startswith("load")]
    several = fake_campaign(cases=[replace(SERVER, concurrency=count) for count in (10, 100, 1000)])
    chart = drawn(several)["load-1"]
    assert chart.headers == ("contender", "10 at a time", "100 at a time", "1000 at a time")
    assert {each["connections"] for each in values(chart)} == {10, 100, 1000}
    assert TWIN not in {each["contender"] for each in values(chart)}


def test_across_campaigns_ratios_are_set_side_by_side_and_the_latest_campaign_counts() -> None:
    found = []
    for started, count in (("2026-11-01", 10), ("2026-11-02", 100), ("2026-11-03", 100)):
        campaign = replace(fake_campaign(cases=[replace(SERVER, concurrency=count)]), started=f"{started}T00:00:00Z")
        found.append((campaign, [first(campaign)]))
    (chart,) = charts.loads_across(found)
    assert {str(each["campaign"])[-20:-10] for each in values(chart)} == {"2026-11-01", "2026-11-03"}
    assert "asyncio" not in {each["contender"] for each in values(chart)}
    assert not list(charts.loads_across(found[1:]))


def test_no_two_lines_look_alike() -> None:
    contenders = {f"loop{number}": 0.9 + number / 100 for number in range(24)}
    campaign = fake_campaign(
        blocks=3, effects=contenders, cases=[replace(SERVER, concurrency=count) for count in (10, 100)]
    )
    encodings = [layer["encoding"] for layer in drawn(campaign)["load-1"].spec["layer"]]
    scales = [encodings[0]["color"]["scale"], encodings[0]["strokeDash"]["scale"], encodings[1]["shape"]["scale"]]
    looks = list(zip(*(map(str, scale["range"]) for scale in scales), strict=True))
    assert len(set(looks)) == len(looks) == 25


def test_a_matrix_is_a_map_for_each_side() -> None:
    servers, clients = charts.specs(simulated())
    cells = {(each["contender"], each["server"]): each["ratio"] for each in values(servers)}
    assert cells["trio", "asyncio"] == pytest.approx(1.0)
    assert dict.fromkeys(row[0] for row in servers.rows).keys() == {pair[0] for pair in cells}
    assert servers.title != clients.title


def test_a_smoke_pass_has_no_charts() -> None:
    assert charts.specs(fake_campaign(blocks=1, values=1, mode="smoke")) == []


def test_a_trend_has_a_point_for_each_campaign_and_a_word_about_the_change() -> None:
    def point(started: str, ratio: float, change: str) -> Point:
        estimate = Estimate(ratio=ratio, low=ratio - 0.01, high=ratio + 0.01, blocks=8, level=0.95)
        return Point(started=started, contender="trio", estimate=estimate, change=change)

    chart = charts.trend("x", "Trend", "asyncio", [point("2026-11-01", 1.1, ""), point("2026-11-02", 1.2, "slower")])
    assert [row[3] for row in chart.rows] == ["-", "slower"]
    assert [each["look"] for each in values(chart)] == ["as before, or not known", "slower"]


def test_nothing_is_drawn_without_the_library_and_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    chart = charts.specs(fake_campaign())[0]
    with pytest.raises(UnavailableError, match=r"pip install 'loopmark\[publish\]'"):
        charts.svg(chart)
    with pytest.raises(UnavailableError, match=r"pip install 'loopmark\[publish\]'"):
        charts.bundle()


def test_the_library_is_not_imported_by_those_who_do_not_draw() -> None:
    code = "import sys, loopmark.cli, loopmark.charts; print('vl_convert' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


CAMPAIGNS: dict[str, Callable[[], Campaign]] = {
    "all kinds": lambda: fake_campaign(
        cases=[BOTH, *(replace(case, concurrency=count) for count in (10, 100) for case in (SERVER, CLIENT))],
        effects=WITH_BLOCKING,
    ),
    "two blocks, no floor": lambda: fake_campaign(blocks=2, values=1, mode="fast", floor=False),
    "plain TCP": lambda: fake_campaign(cases=[replace(SERVER, tls=None)]),
    "matrix": simulated,
    "published": lambda: store.load(PUBLISHED),
}


@pytest.mark.parametrize("make", CAMPAIGNS.values(), ids=CAMPAIGNS)
def test_every_chart_draws_and_twice_the_same(make: Callable[[], Campaign]) -> None:
    pytest.importorskip("vl_convert", reason="charts need vl-convert-python: pip install 'loopmark[publish]'")
    for chart in charts.specs(make()):
        text = charts.svg(chart)
        assert text == charts.svg(chart)
        assert "NaN" not in text
        assert "undefined" not in text
        root = ElementTree.fromstring(text)
        written = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
        assert {row[0] for row in chart.rows} <= written
        assert chart.title in written


DRAW = """
    import sys
    from pathlib import Path
    from loopmark import charts, store
    from loopmark.stats import Estimate
    about_one = Estimate(ratio=1.0, low=0.9, high=1.1, blocks=8, level=0.95)
    names = ("trio", "anyio+asyncio", "uvloop", "blocking")
    points = [
        charts.Point(started=f"2026-11-0{day}T10:00:00Z", contender=name, estimate=about_one)
        for name in names for day in (1, 2, 3)
    ]
    for chart in (*charts.specs(store.load(Path(sys.argv[1]))), charts.trend("x", "Trend", "asyncio", points)):
        print(chart.slug, charts.svg(chart))
"""


def test_drawings_are_the_same_whatever_fonts_a_machine_has(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="charts need vl-convert-python: pip install 'loopmark[publish]'")
    fonts = Path("/usr/share/fonts")
    if not fonts.is_dir():
        pytest.skip("this machine has no fonts that could be hidden")
    draw = [sys.executable, "-P", "-c", textwrap.dedent(DRAW), str(PUBLISHED)]
    hide = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", 'mount --bind "$0" "$1"; shift; exec "$@"']
    try:
        without = subprocess.run([*hide, tmp_path, fonts, *draw], capture_output=True, check=True, timeout=100)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not let its fonts be hidden: {error}")
    with_all = subprocess.run(draw, capture_output=True, check=True, timeout=100)
    assert without.stdout == with_all.stdout
    assert with_all.stdout.count(b"</svg>") > 10


def test_memory_is_charted_in_kib_and_has_no_costs_beside_it() -> None:
    campaign = fake_campaign(cases=[replace(SERVER, concurrency=1000, held=250)])
    for block in campaign.blocks:
        for label, each in block.measurements.items():
            memory = tuple(1024.0 * (20 + len(label)) for _ in each.wall)
            block.measurements[label] = replace(each, client_memory=memory, server_memory=memory)
    found = drawn(campaign)
    assert list(found) == ["tls_pingpong-c1000-server-ratio", "tls_pingpong-c1000-server-blocks"]
    (row,) = (row for row in found["tls_pingpong-c1000-server-ratio"].rows if row[0] == "uvloop")
    assert found["tls_pingpong-c1000-server-ratio"].headers[-1] == "KiB/conn"
    assert row[-1].startswith("26.0 ")
    assert "1000 held" in found["tls_pingpong-c1000-server-ratio"].title


def test_lookups_have_no_server_and_so_no_costs_of_one() -> None:
    campaign = fake_campaign(cases=[replace(BOTH, tls=None)])
    campaign.cases[0].unit = "lookup"
    for block in campaign.blocks:
        for label, each in block.measurements.items():
            block.measurements[label] = replace(each, server_cpu=tuple(0.0 for _ in each.wall))
    found = drawn(campaign)
    assert list(found) == [f"tls_pingpong-c1-both-{kind}" for kind in ("ratio", "cost-client", "blocks")]
    assert all(": lookups" in chart.title for chart in found.values())
    assert "loopback" not in str(found["tls_pingpong-c1-both-cost-client"].spec["title"])


def test_all_that_is_charted_has_the_roles_of_its_case() -> None:
    campaign = store.load(PUBLISHED)
    by_role = {plan.case.role: charts.slugs(campaign)[plan.case.name] for plan in campaign.cases}
    sides = {role: [slug for slug in drawn(campaign) if slug.startswith(f"{by_role[role]}-cost")] for role in by_role}
    assert {role: len(found) for role, found in sides.items()} == {Role.SERVER: 1, Role.CLIENT: 1, Role.BOTH: 2}


def test_hidden_arms_are_in_no_chart() -> None:
    campaign = fake_campaign(effects={**EFFECTS, "hand-trio": 1.1}, hidden=["hand-trio"])
    assert campaign.cases[0].labels(Kind.HIDDEN)
    assert not [row for chart in charts.specs(campaign) for row in chart.rows if "hand-trio" in row]
