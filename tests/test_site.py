"""The web report: what is written, and what a reader sees of it in a real browser."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from tests.campaigns import BOTH, EFFECTS, SERVER, TWIN, fake_campaign
from tests.test_matrix import simulated

from loopmark import charts, site, store
from loopmark.charts import Point
from loopmark.errors import UsageError
from loopmark.record import Campaign
from loopmark.report.figures import figures
from loopmark.stats import Estimate

pytest.importorskip("vl_convert", reason="charts need vl-convert-python: pip install 'loopmark[publish]'")

EVIL = "</script><img src=https://example.invalid/ onerror=alert(1)>\u2028"


def campaigns() -> dict[str, Campaign]:
    """One of every kind that pages differ by."""
    several = [BOTH, replace(SERVER, concurrency=10), SERVER]
    made = {
        "several": fake_campaign(cases=several, effects={**EFFECTS, "blocking": 0.7}),
        "another-load": fake_campaign(seed=2, cases=[replace(SERVER, concurrency=1000)]),
        "invalid": fake_campaign(cases=[SERVER], effects={**EFFECTS, TWIN: 1.05}),
        "few-blocks": replace(fake_campaign(blocks=2, mode="fast", cases=[BOTH]), ended="interrupted"),
        "smoke": fake_campaign(blocks=1, values=1, mode="smoke"),
        "matrix": simulated(noise=0.02),
        "evil": replace(fake_campaign(cases=[SERVER]), label=EVIL, command=("loopmark", EVIL), notes=[EVIL]),
    }
    return {
        name: replace(campaign, started=f"2026-11-{day:02}T09:15:00Z")
        for day, (name, campaign) in enumerate(made.items(), 1)
    }


def trend() -> charts.Chart:
    def point(day: int, ratio: float, change: str) -> Point:
        estimate = Estimate(ratio=ratio, low=ratio - 0.01, high=ratio + 0.01, blocks=8, level=0.95)
        return Point(started=f"2026-11-{day:02}T09:15:00Z", contender="trio", estimate=estimate, change=change)

    return charts.trend("history-1", "History of a case", "asyncio", [point(1, 1.1, ""), point(2, 1.2, "slower")])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of all kinds of campaigns, one of them with its raw files."""
    made, results = campaigns(), tmp_path_factory.mktemp("results")
    raw = store.create(results, made["several"])
    store.write(raw, made["several"])
    out = tmp_path_factory.mktemp("report") / "site"
    site.build(list(made.items()), out, raw={"several": raw}, history=[trend()])
    return out


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@dataclass
class Page(HTMLParser):
    """What a page is made of."""

    links: list[str] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    handlers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            if name == "id" and value:
                self.ids.append(value)
            if name.startswith("on") or name == "style":
                self.handlers.append(name)


def parsed(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def data_of(path: Path) -> Any:
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found
    return json.loads(found[1])


# What is written


def test_building_twice_gives_the_same_bytes_and_nothing_is_left_over(tmp_path: Path) -> None:
    made = list(campaigns().items())[:2]
    site.build(made, tmp_path / "one", history=[trend()])
    site.build([*made, ("gone", made[0][1])], tmp_path / "two")
    site.build(made, tmp_path / "two", history=[trend()])
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_directory_that_is_not_a_report_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(UsageError, match="leaves it alone"):
        site.build([], tmp_path)
    (tmp_path / "index.html").write_text("<!doctype html>my own page")
    with pytest.raises(UsageError, match="leaves it alone"):
        site.build([], tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "three years"


def test_a_report_that_cannot_be_written_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*name another directory"):
        site.build([], tmp_path / "file" / "site")


def test_every_link_leads_to_a_file_of_the_report_or_to_a_part_of_the_page(report: Path) -> None:
    for path in report.rglob("*.html"):
        page = parsed(path)
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme == "data":
                continue
            assert not parts.scheme, link
            assert not parts.netloc, link
            if parts.path:
                assert (path.parent / unquote(parts.path)).is_file(), link
            elif parts.fragment:
                assert parts.fragment in page.ids, link


def test_what_a_campaign_says_of_itself_stays_text(report: Path) -> None:
    page = parsed(report / "campaigns/evil.html")
    assert "img" not in page.elements
    assert not page.handlers
    assert page.elements.count("script") == 3
    assert data_of(report / "campaigns/evil.html")["figures"]


def test_ids_are_there_once(report: Path) -> None:
    for path in report.rglob("*.html"):
        ids = parsed(path).ids
        assert len(set(ids)) == len(ids)


def test_the_raw_files_are_there_as_they_were(report: Path) -> None:
    copied = contents(report / "raw/several")
    assert {"campaign.json", "asyncio.json", "asyncio.twin.json", "uvloop.json"} <= copied.keys()
    assert store.load(report / "raw/several").label == "amd-epyc-2-cores"
    links = map(unquote, parsed(report / "campaigns/several.html").links)
    assert {f"../raw/several/{name}" for name in copied} <= set(links)


def test_a_page_says_how_it_was_made_how_to_check_it_and_what_it_does_not_say(report: Path) -> None:
    text = (report / "campaigns/several.html").read_text(encoding="utf-8")
    for words in (
        *("seed: 1", "command: loopmark run", "OpenSSL 3.0.19", "trio 0.35.0", "0123456789abcdef", "AMD EPYC"),
        *("Gate as server: ", "first close_notify: server"),
        *("loopmark compare several", "python -m pyperf compare_to several/asyncio.json several/", "--table"),
        "The twin is the baseline against itself.",
    ):
        assert words in text, words


@pytest.mark.parametrize(("name", "stamp"), [("invalid", "INVALID"), ("few-blocks", "UNFINISHED")])
def test_what_is_not_as_it_should_be_is_stamped_on_its_page_and_in_the_index(
    report: Path, name: str, stamp: str
) -> None:
    assert f'<p class="stamp"><strong>{stamp}</strong>' in (report / f"campaigns/{name}.html").read_text()
    row = next(row for row in (report / "index.html").read_text().split("<tr>") if f"campaigns/{name}.html" in row)
    assert f'<strong class="bad">{stamp}</strong>' in row


# In a browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

SIZES: dict[str, dict[str, Any]] = {
    "wide": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 360, "height": 740}, "has_touch": True},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
}

Open = Callable[..., Any]
"""Opens a page of the report and waits until it is drawn; keyword arguments are those of Playwright's contexts."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """An installed Chromium."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="the browser is driven by playwright: pip install playwright"
    )
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield running
        running.close()


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Open]:
    """Open pages; in the end nothing may have been asked for outside of the report, and no page have complained."""
    complaints: list[str] = []
    contexts = []
    inside = report.as_uri()

    def asked(request: Any) -> None:
        if not request.url.startswith((inside, "data:")):
            complaints.append(f"request: {request.url}")

    def visit(address: str, **context: Any) -> Any:
        contexts.append(browser.new_context(**context))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("request", asked)
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.goto(f"{inside}/{address}")
        if context.get("java_script_enabled", True):
            drawn(page)
        return page

    yield visit
    for each in contexts:
        each.close()
    assert complaints == []


def drawn(page: Any) -> None:
    page.wait_for_selector("html[data-drawn=all]")


def first_cells(page: Any, figure: str) -> list[str]:
    cells: list[str] = page.locator(f"#{figure} tbody tr th").all_text_contents()
    return cells


def chart_text(page: Any, figure: str) -> list[str]:
    words: list[str] = page.locator(f"#{figure} .chart svg text").all_text_contents()
    return words


RATIO = "tls_pingpong-c10-server-ratio"
COST = "tls_pingpong-c10-server-cost-server"
BLOCKS = "tls_pingpong-c10-server-blocks"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["index", *(f"campaigns/{name}" for name in campaigns())])
def test_every_chart_of_every_page_is_drawn_and_fits(visit: Open, report: Path, name: str, size: str) -> None:
    page = visit(f"{name}.html", **SIZES[size])
    figures_there = data_of(report / f"{name}.html")["figures"]
    assert page.locator(".chart").count() == len(figures_there)
    for slug in figures_there:
        # Of marks, without axes and legends.
        marks = page.locator(f"[id='{slug}'] .chart svg .role-mark path, [id='{slug}'] .chart svg .role-mark line")
        assert marks.count() > 0, slug
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_contenders_are_sorted_in_charts_and_tables_alike(visit: Open) -> None:
    page = visit("campaigns/several.html")
    by_ratio = first_cells(page, RATIO)
    assert by_ratio == ["blocking", "uvloop", "anyio+uvloop", "asyncio", "trio", "asyncio (A/A twin)"]
    page.select_option("select[name=order]", "name")
    drawn(page)
    by_name = sorted(by_ratio)
    assert first_cells(page, RATIO) == by_name
    for figure in (RATIO, COST):
        assert [word for word in chart_text(page, figure) if word in by_name] == by_name


def test_a_header_sorts_its_table_up_and_down_and_says_so(visit: Open) -> None:
    page = visit("campaigns/several.html")
    header = page.locator(f"#{RATIO} thead th").nth(1)
    header.get_by_role("button").click()
    up = [float(cell.split()[0]) for cell in page.locator(f"#{RATIO} tbody td:nth-child(2)").all_text_contents()]
    assert up == sorted(up)
    assert header.get_attribute("aria-sort") == "ascending"
    header.get_by_role("button").click()
    down = [float(cell.split()[0]) for cell in page.locator(f"#{RATIO} tbody td:nth-child(2)").all_text_contents()]
    assert down == sorted(down, reverse=True)
    assert header.get_attribute("aria-sort") == "descending"


def test_the_index_is_sorted_by_its_headers(visit: Open) -> None:
    page = visit("index.html")
    newest = page.locator("table[data-sortable] tbody td:nth-child(2)").all_text_contents()
    assert newest == sorted(newest, reverse=True)
    page.get_by_role("button", name="started").click()
    assert page.locator("table[data-sortable] tbody td:nth-child(2)").all_text_contents() == sorted(newest)


def test_a_contender_that_is_taken_out_is_gone_from_every_chart_and_table(visit: Open) -> None:
    page = visit("campaigns/several.html")
    page.get_by_text("Contenders", exact=True).first.click()
    page.get_by_label("trio", exact=True).uncheck()
    drawn(page)
    for figure in (RATIO, COST, BLOCKS, "load-1"):
        assert "trio" not in first_cells(page, figure)
        assert "trio" not in chart_text(page, figure)
    assert "uvloop" in chart_text(page, RATIO)


def test_with_nobody_left_the_page_says_so(visit: Open) -> None:
    page = visit("campaigns/several.html")
    page.get_by_text("Contenders", exact=True).first.click()
    for box in page.locator("input[name=contender]").all():
        box.uncheck()
    drawn(page)
    assert page.locator(f"#{RATIO} .chart").text_content() == "Nobody is chosen."


def test_a_benchmark_that_is_taken_out_is_hidden_with_all_of_its_charts(visit: Open) -> None:
    page = visit("campaigns/several.html")
    page.get_by_text("Benchmarks", exact=True).first.click()
    page.get_by_label("tls_pingpong, 10 at a time: servers", exact=True).uncheck()
    drawn(page)
    assert not page.locator(f"#{RATIO}").is_visible()
    assert page.locator("#tls_pingpong-c100-server-ratio").is_visible()


def test_another_baseline_shows_the_intervals_that_python_has_computed(visit: Open) -> None:
    page = visit("campaigns/several.html")
    page.select_option("select[name=baseline]", "trio")
    drawn(page)
    campaign = campaigns()["several"]
    plan = next(plan for plan in campaign.cases if plan.case.concurrency == 10 and plan.case.role == "server")
    chart = charts.ratios(campaign, figures(campaign, plan), "x", "trio")
    expected = {row[0]: row[1:] for row in chart.rows}
    rows = page.locator(f"#{RATIO} tbody tr").all()
    assert {row.locator("th").text_content(): tuple(row.locator("td").all_text_contents()) for row in rows} == expected
    assert "ratio to trio" in chart_text(page, RATIO)
    assert "by that of trio" in page.locator(f"#{RATIO} .chart").get_attribute("aria-label")


def test_a_link_leads_to_the_same_view(visit: Open, report: Path) -> None:
    page = visit("campaigns/several.html")
    page.select_option("select[name=baseline]", "uvloop")
    page.select_option("select[name=order]", "cost")
    page.get_by_text("Contenders", exact=True).first.click()
    page.get_by_label("anyio+uvloop", exact=True).uncheck()
    page.locator(f"#{RATIO} thead button").nth(0).click()
    page.locator(".contents").get_by_text("10 at a time: servers").click()
    drawn(page)
    link = page.locator("#view").get_attribute("href")
    assert page.url.endswith(link)
    other = visit(f"campaigns/several.html{link}")
    assert first_cells(other, RATIO) == first_cells(page, RATIO)
    assert "anyio+uvloop" not in first_cells(other, RATIO)
    assert chart_text(other, RATIO) == chart_text(page, RATIO)
    assert other.locator("select[name=baseline]").input_value() == "uvloop"
    top = other.locator("#tls_pingpong-c10-server").evaluate("element => element.getBoundingClientRect().top")
    assert 0 <= top < 200


def test_everything_can_be_shown_again(visit: Open) -> None:
    page = visit("campaigns/several.html#baseline=trio&without-contender=uvloop&without-case=tls_pingpong-c1-both")
    assert "uvloop" not in first_cells(page, RATIO)
    page.get_by_role("button", name="Show everything").click()
    drawn(page)
    assert "uvloop" in first_cells(page, RATIO)
    assert page.locator("#tls_pingpong-c1-both").is_visible()
    assert page.locator("input[name=contender]:not(:checked)").count() == 0


@pytest.mark.parametrize(
    "view", ["#baseline=nobody", "#order=%ff&at=nowhere", "#by-x=9&without-case=no", "#=&=1", "#limits"]
)
def test_a_link_to_a_view_that_does_not_exist_shows_what_does(visit: Open, view: str) -> None:
    page = visit(f"campaigns/several.html{view}")
    assert len(first_cells(page, RATIO)) == 6


def test_numbers_are_told_on_hover(visit: Open) -> None:
    page = visit("campaigns/several.html")
    page.locator(f"#{COST} .chart svg .role-mark path").first.hover()
    page.wait_for_selector("#vg-tooltip-element.visible")
    told = page.locator("#vg-tooltip-element").text_content()
    assert "us/conn" in told
    assert "OpenSSL in memory" in told


def test_the_keyboard_reaches_the_results_the_controls_and_the_tables(visit: Open) -> None:
    page = visit("campaigns/several.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "baseline"
    page.keyboard.press("ArrowDown")
    drawn(page)
    assert "by that of" in page.locator(f"#{RATIO} h3").text_content()
    page.locator(f"#{RATIO} thead button").nth(0).focus()
    page.keyboard.press("Enter")
    assert page.locator(f"#{RATIO} th[aria-sort=ascending]").count() == 1
    assert page.locator(f"#{RATIO} .scroll").get_attribute("tabindex") == "0"


def test_every_chart_has_a_name_a_text_and_a_table_for_screen_readers(visit: Open) -> None:
    page = visit("campaigns/several.html")
    for figure in page.locator("figure").all():
        assert page.locator(f"#{figure.get_attribute('aria-labelledby')}").text_content()
        chart = figure.locator(".chart")
        assert chart.get_attribute("role") == "img"
        assert len(chart.get_attribute("aria-label")) > 40
        assert figure.locator("tbody tr").count() > 0
        assert figure.locator("thead th:not([scope=col])").count() == 0


def test_light_and_dark_follow_the_system_until_somebody_chooses(visit: Open) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = visit("campaigns/several.html", **SIZES["dark"])
    assert dark.evaluate(ground) == "rgb(21, 24, 28)"
    fill = "document.querySelector('.chart svg text').getAttribute('fill')"
    before = dark.evaluate(fill)
    dark.get_by_role("button", name="Light").click()
    drawn(dark)
    assert dark.evaluate(ground) == "rgb(255, 255, 255)"
    assert dark.evaluate(fill) != before
    assert visit("campaigns/several.html").evaluate(ground) == "rgb(255, 255, 255)"


def test_the_policy_of_the_page_keeps_every_request_inside(browser: Any, report: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto((report / "campaigns/several.html").as_uri())
    blocked = page.evaluate(
        """() => new Promise((resolve) => {
            document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
            fetch("https://example.invalid/").catch(() => {});
        })"""
    )
    context.close()
    assert blocked == "connect-src"


def test_without_javascript_there_are_the_tables(visit: Open) -> None:
    page = visit("campaigns/several.html", java_script_enabled=False)
    assert len(first_cells(page, RATIO)) == 6
    assert not page.locator("#controls").is_visible()
    assert page.get_by_text("Without JavaScript there are the tables").is_visible()


def test_nothing_moves_for_those_who_want_that(visit: Open) -> None:
    behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
    assert visit("index.html", reduced_motion="reduce").evaluate(behaviour) == "auto"
