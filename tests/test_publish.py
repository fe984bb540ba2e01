import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.campaigns import BOTH, CLIENT, SERVER, TWIN
from tests.shelves import EFFECTS, campaign, content, page_of, published, stored

from loopmark import redact, store
from loopmark.case import Role
from loopmark.counts import Count, Counts
from loopmark.plan import SMOKE
from loopmark.publish import charts_of
from loopmark.publish import published as shelf_of
from loopmark.publish.entry import read
from loopmark.publish.page import LIMITS, MARK, page, plain
from loopmark.record import Arm, Campaign, Kind, Outcome
from loopmark.report import comparison

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
COMMITTED = sorted(path.parent for path in RESULTS.glob("*/README.md"))


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    return tmp_path / "results"


def headings(markdown: str) -> list[tuple[int, str]]:
    """Return the level and the text of each heading, without what stands in blocks of code."""
    text = re.sub(r"^```.*?^```$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    return [(len(marks), words) for marks, words in re.findall(r"^(#+) (.*)$", text, re.MULTILINE)]


def counts() -> Counts:
    made = campaign(blocks=0, floor=False)
    made.mode = "instructions"
    (plan,) = made.cases
    found = [
        Count(
            case=plan.case.name,
            arm=arm.label,
            side=side,
            layouts=(400_000.0 + 1000 * place,),
            connections=100,
            facts={},
        )
        for place, arm in enumerate(plan.arms)
        for side in ("server", "client")
    ]
    return Counts(campaign=made, counts=found)


def stored_counts(shelf: Path) -> Path:
    found = counts()
    directory = store.create(shelf, found.campaign)
    store.write_counts(directory, found)
    return directory


# What is committed


@pytest.mark.parametrize("directory", COMMITTED, ids=lambda path: path.name)
def test_a_committed_page_is_what_its_campaign_gives(directory: Path) -> None:
    entry = read(directory)
    assert (directory / "README.md").read_text(encoding="utf-8") == page(entry, charts_of(entry))


@pytest.mark.parametrize("directory", COMMITTED, ids=lambda path: path.name)
def test_every_chart_of_a_committed_page_is_there_and_no_other(directory: Path) -> None:
    slugs = {chart.slug for chart in charts_of(read(directory))}
    assert {path.stem for path in directory.glob("charts/*.svg")} == slugs


def test_the_committed_index_and_history_are_what_the_committed_campaigns_give() -> None:
    if not COMMITTED:
        pytest.skip("no campaign has a page yet")
    found = shelf_of(RESULTS)
    assert found.damaged == {}
    for name, text in found.pages.items():
        assert (RESULTS / name).read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "file", [*RESULTS.glob("*.md"), *RESULTS.glob("*/README.md")], ids=lambda path: path.parent.name
)
def test_every_link_of_a_committed_page_leads_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8")):
        assert (file.parent / target.replace("%2B", "+")).exists(), target


# Writing again


def test_publishing_again_changes_nothing(shelf: Path) -> None:
    for day in (20, 21):
        stored(shelf, campaign(day, day=day))
    assert published(shelf) == []
    before = content(shelf)
    assert published(shelf) == []
    assert content(shelf) == before


def test_a_page_is_the_same_wherever_its_campaign_lies(tmp_path: Path) -> None:
    first, second = (page_of(stored(tmp_path / where / "results", campaign())) for where in ("here", "there"))
    assert first == second


def test_files_that_do_not_change_are_not_written(shelf: Path) -> None:
    directory = stored(shelf, campaign())
    page_of(directory)
    before = (directory / "README.md").stat().st_mtime_ns, (directory / "README.md").stat().st_ino
    page_of(directory)
    assert ((directory / "README.md").stat().st_mtime_ns, (directory / "README.md").stat().st_ino) == before


def test_a_picture_that_no_page_shows_any_more_goes(shelf: Path) -> None:
    directory = stored(shelf, campaign())
    (directory / "charts").mkdir()
    (directory / "charts/old.svg").write_text("<svg/>")
    page_of(directory)
    assert not (directory / "charts/old.svg").exists()


def test_what_somebody_else_has_written_stays(shelf: Path) -> None:
    directory = stored(shelf, campaign())
    (directory / "README.md").write_text("mine\n")
    (complaint,) = published(directory)
    assert "README.md: `loopmark publish` did not write it" in complaint
    assert (directory / "README.md").read_text() == "mine\n"
    assert not (directory / "charts").exists()


def test_an_index_of_somebody_else_stays_and_the_page_is_written(shelf: Path) -> None:
    directory = stored(shelf, campaign())
    (shelf / "README.md").write_text("mine\n")
    (complaint,) = published(directory)
    assert "README.md" in complaint
    assert (shelf / "README.md").read_text() == "mine\n"
    assert (directory / "README.md").read_text().startswith(MARK)


# What a page has


def test_a_page_has_the_tables_of_compare(shelf: Path) -> None:
    made = campaign(cases=[SERVER, CLIENT, BOTH])
    assert comparison(made, "github").strip() in page_of(stored(shelf, made))


@pytest.mark.parametrize(
    "told",
    [
        "```\nloopmark run -c 1,100\n```",
        "the seed 1 drew every order",
        "AMD EPYC, 2 cores, virtual machine, Linux 6.18.0, CPython 3.13.0 (no PGO, no LTO), OpenSSL 3.0.19",
        "A virtual machine (hypervisor); the CPU's frequency governor is powersave.",
        "Revision 0123456789abcdef0123456789abcdef01234567 of loopmark; the working tree was clean.",
        "TLS 1.3, key p256, group X25519; tickets off, every handshake is a full one",
        r"| cipher ",
        r"\> handshake 517",
        "* trio: retired: it broke",
        "* nginx: skipped: not installed",
    ],
)
def test_a_page_tells_how_it_was_made(shelf: Path, told: str) -> None:
    made = campaign()
    made.command = ("loopmark", "run", "-c", "1,100")
    made.machine["cpu"]["governor"] = "powersave"
    made.outcomes = [
        Outcome(arm="trio", case=BOTH.name, status="retired", reason="it broke"),
        Outcome(arm="nginx", case="*", status="skipped", reason="not installed"),
    ]
    # The measurements of who was retired are gone by then.
    made.blocks = [block.without("trio") for block in made.blocks]
    assert told in page_of(stored(shelf, made))


def test_a_page_tells_what_the_gate_says(shelf: Path) -> None:
    assert "* Gate: passed. The A/A twin, asyncio against itself, came out at " in page_of(stored(shelf, campaign()))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"revision": "0" * 40, "clean": False}, "with changes that were NOT committed"),
        (None, "did not run from a git checkout"),
    ],
)
def test_a_page_tells_when_its_revision_does_not_tell_what_ran(shelf: Path, source: object, told: str) -> None:
    made = campaign()
    made.machine["source"] = source
    assert told in page_of(stored(shelf, made))


def test_a_page_says_what_it_does_not_say_in_the_words_of_the_method(shelf: Path) -> None:
    method = " ".join((ROOT / "docs/method.md").read_text(encoding="utf-8").split())
    text = page_of(stored(shelf, campaign()))
    for limit in LIMITS:
        assert f"* {limit}" in method
        assert f"* {limit}" in text


def test_a_page_links_to_every_raw_file(shelf: Path) -> None:
    directory = stored(shelf, campaign(effects={"anyio+trio": 1.2}))
    text = page_of(directory)
    assert "[campaign.json](campaign.json)" in text
    assert "[anyio+trio.json](anyio%2Btrio.json)" in text


def test_the_commands_that_check_a_page_work(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = stored(shelf, campaign())
    text = page_of(directory)
    assert f"cd results/{directory.name}\nloopmark compare .\nloopmark show .\n" in text
    (names,) = re.findall(r"^python -m pyperf compare_to (.*) --table$", text, re.MULTILINE)
    assert names == "asyncio.json uvloop.json trio.json"
    assert all((directory / name).is_file() for name in names.split())


def test_every_chart_has_words_and_its_table_beside_it(shelf: Path) -> None:
    directory = stored(shelf, campaign())
    text = page_of(directory)
    charts = charts_of(read(directory))
    assert charts
    for chart in charts:
        _, _, behind = text.partition(f"![{plain(chart.alt)}](charts/{chart.slug}.svg)\n\n<details><summary>")
        inside = behind.partition("</details>")[0]
        # A header, the line below it, and the rows.
        assert inside.count("\n|") == 2 + len(chart.rows)
        assert (directory / f"charts/{chart.slug}.svg").is_file()


def test_headings_never_skip_a_level_and_there_is_one_title(shelf: Path) -> None:
    stored(shelf, campaign(1, cases=[SERVER, CLIENT, BOTH]))
    stored(shelf, campaign(2, day=21))
    stored(shelf, campaign(3, day=22))
    assert published(shelf) == []
    for file in shelf.rglob("*.md"):
        levels = [level for level, _ in headings(file.read_text(encoding="utf-8"))]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))


def test_no_path_gets_onto_a_page_whatever_is_in_the_file(shelf: Path) -> None:
    directory = stored(shelf, campaign())
    data = json.loads((directory / "campaign.json").read_text())
    data["command"] = ["/home/alice/venv/bin/loopmark", "run", "--results=/home/alice/results"]
    data["notes"] = ["read /home/alice/secret/notes.txt"]
    (directory / "campaign.json").write_text(json.dumps(data))
    assert published(directory) == []
    for file in shelf.rglob("*.md"):
        text = file.read_text(encoding="utf-8")
        assert "alice" not in text
        assert redact.text(text) == text


@given(words=st.text(max_size=40))
def test_no_text_of_a_campaign_becomes_markup(words: str) -> None:
    shown = plain(words)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]<>|]", shown)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label=st.text(min_size=1, max_size=30))
def test_any_label_can_be_published(tmp_path_factory: pytest.TempPathFactory, label: str) -> None:
    made = campaign(blocks=1)
    made.label = label
    text = page_of(stored(tmp_path_factory.mktemp("shelf"), made))
    assert headings(text)[0][1].endswith("2026-11-20 09:15 UTC")


# Campaigns that are not as they should be


def test_an_invalid_campaign_is_published_as_such_in_large_letters(shelf: Path) -> None:
    text = page_of(stored(shelf, campaign(effects={"uvloop": 0.85, TWIN: 1.1})))
    assert headings(text)[0] == (1, "INVALID: amd-epyc-2-cores, 2026-11-20 09:15 UTC")
    assert "**INVALID: do not use these numbers.**" in text
    assert "**INVALID** [2026-11-20 09:15 UTC]" in (shelf / "README.md").read_text()


def test_a_campaign_that_is_invalid_in_one_case_names_it(shelf: Path) -> None:
    made = campaign(cases=[SERVER, BOTH])
    bad = campaign(cases=[SERVER, BOTH], effects={**EFFECTS, TWIN: 1.1})
    made.blocks = [each for each in made.blocks if each.case == SERVER.name]
    made.blocks += [each for each in bad.blocks if each.case == BOTH.name]
    text = page_of(stored(shelf, made))
    assert headings(text)[0][1].startswith("INVALID IN PART: ")
    assert f"something is wrong in `{BOTH.name}`." in text


@pytest.mark.parametrize("ended", ["running", "interrupted", "the baseline was retired"])
def test_an_unfinished_campaign_says_so(shelf: Path, ended: str) -> None:
    made = campaign(blocks=7)
    made.ended = ended
    text = page_of(stored(shelf, made))
    assert headings(text)[0][1].startswith("UNFINISHED: ")
    assert "**UNFINISHED.** The campaign " in text


def test_a_campaign_without_a_block_has_a_page(shelf: Path) -> None:
    made = campaign(blocks=0)
    made.ended = "running"
    assert "UNFINISHED" in page_of(stored(shelf, made))


def test_counts_of_instructions_have_a_page_that_says_what_they_are(shelf: Path) -> None:
    text = page_of(stored_counts(shelf))
    assert "**Instructions, not time.**" in text
    assert "instructions per connection" in text
    assert "[instructions.json](instructions.json)" in text
    assert "pyperf compare_to" not in text


def _smoke(made: Campaign) -> None:
    made.mode = SMOKE.mode


def _fast(made: Campaign) -> None:
    made.mode = "fast"


def _matrix(made: Campaign) -> None:
    (plan,) = made.cases
    plan.case = replace(plan.case, role=Role.PAIR)
    plan.arms = (Arm(label="asyncio", contender="asyncio", caller="asyncio"),)
    made.blocks, made.traces = [], {}


@pytest.mark.parametrize("change", [_smoke, _fast, _matrix])
def test_every_kind_of_campaign_can_be_published(shelf: Path, change: Callable[[Campaign], None]) -> None:
    made = campaign(blocks=2)
    change(made)
    assert "## How it was made" in page_of(stored(shelf, made))


# Bad input


def test_a_damaged_campaign_is_refused_by_name_and_the_rest_goes_on(shelf: Path) -> None:
    good, bad = (stored(shelf, campaign(day, day=day)) for day in (20, 21))
    (bad / "campaign.json").write_text('{"schema": 3, "cases": [')
    (complaint,) = published(bad, good)
    assert complaint.startswith(f"{bad}/campaign.json: it is cut short or damaged")
    assert (good / "README.md").exists()
    assert not (bad / "README.md").exists()
    assert bad.name not in (shelf / "README.md").read_text()


def test_a_campaign_that_was_damaged_later_is_told_in_the_index_without_its_path(shelf: Path) -> None:
    good, bad = (stored(shelf, campaign(day, day=day)) for day in (20, 21))
    assert published(shelf) == []
    (bad / "campaign.json").write_text("{}")
    assert published(good) == []
    index = (shelf / "README.md").read_text()
    assert f"* **DAMAGED** `{bad.name}`: campaign.json: this is not a campaign" in index
    assert str(shelf) not in index


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "there is no such directory"),
        (lambda path: path.write_text("x"), "this is a file; give the directory of a campaign"),
        (lambda path: path.mkdir(), "this is no campaign, nor a directory of campaigns"),
    ],
)
def test_what_is_no_campaign_is_told(tmp_path: Path, make: Callable[[Path], object], told: str) -> None:
    make(tmp_path / "x")
    good = stored(tmp_path / "results", campaign())
    (complaint,) = published(tmp_path / "x", good)
    assert complaint.startswith(f"{tmp_path / 'x'}: ")
    assert told in complaint
    assert (good / "README.md").exists()


def test_a_directory_with_both_kinds_of_results_is_refused(shelf: Path) -> None:
    directory = stored(shelf, campaign())
    (directory / "instructions.json").write_text("{}")
    (complaint,) = published(directory)
    assert "it has both campaign.json and instructions.json" in complaint


def test_a_campaigns_file_stands_for_its_directory_and_nothing_is_published_twice(shelf: Path) -> None:
    directory = stored(shelf, campaign())
    assert published(directory / "campaign.json", directory, shelf) == []
    assert (directory / "README.md").exists()


# The index


def test_the_index_has_what_has_a_page_and_nothing_else(shelf: Path) -> None:
    shown, hidden = (stored(shelf, campaign(day, day=day)) for day in (20, 21))
    assert published(shown) == []
    index = (shelf / "README.md").read_text()
    assert f"[2026-11-20 09:15 UTC]({shown.name}/)" in index
    assert hidden.name not in index


def test_the_newest_campaign_comes_first(shelf: Path) -> None:
    for day in (20, 22, 21):
        stored(shelf, campaign(day, day=day))
    assert published(shelf) == []
    days = re.findall(r"^\| \[2026-11-(\d\d)", (shelf / "README.md").read_text(), re.MULTILINE)
    assert days == ["22", "21", "20"]


@pytest.mark.parametrize(
    ("cores", "kind", "is_told"), [(2, "hypervisor", True), (1, "KVM", True), (2, None, False), (64, "KVM", False)]
)
def test_the_index_tells_what_a_small_virtual_machine_can_and_cannot_show(
    shelf: Path, cores: int, kind: str | None, is_told: bool
) -> None:
    made = campaign()
    made.machine |= {"virtualisation": kind, "cpu": {**made.machine["cpu"], "physical_cores": cores}}
    page_of(stored(shelf, made))
    index = (shelf / "README.md").read_text()
    assert ("## What a virtual machine with two cores can and cannot show" in index) is is_told


def test_the_index_counts_gates_and_names_what_was_run(shelf: Path) -> None:
    page_of(stored(shelf, campaign(cases=[SERVER, CLIENT, BOTH])))
    (row,) = re.findall(r"^\| \[2026.*$", (shelf / "README.md").read_text(), re.MULTILINE)
    assert r"tls\_pingpong at C = 1, 100" in row
    assert "passed: 3 of 3" in row
    assert Kind.TWIN not in row
