import re
from pathlib import Path

import pytest
from tests.campaigns import BOTH, SERVER, TWIN
from tests.shelves import EFFECTS, campaign, drawn, published, stored

from loopmark.publish import publish
from loopmark.publish import published as shelf_of
from loopmark.publish.history import THRESHOLD
from loopmark.record import Campaign
from loopmark.regression import regression


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    return tmp_path / "results"


def history(shelf: Path, *made: Campaign) -> str:
    for each in made:
        stored(shelf, each)
    assert published(shelf) == []
    return (shelf / "history.md").read_text(encoding="utf-8")


def rows(text: str, contender: str) -> list[list[str]]:
    """Return a contender's rows without its name: campaign, ratio, change, finding."""
    found = re.findall(rf"^\| {re.escape(contender)} +\|(.*)\|$", text, re.MULTILINE)
    return [[cell.strip().replace("\\", "") for cell in row.split("|")] for row in found]


def test_a_contender_that_became_slower_is_found(shelf: Path) -> None:
    later = campaign(2, day=21, effects={**EFFECTS, "uvloop": 0.85 * 1.06})
    first, second = rows(history(shelf, campaign(1), later), "uvloop")
    assert first[2:] == ["-", "-"]
    assert second[2].startswith("1.06")
    assert second[3] == "slower"


def test_findings_are_those_of_the_gate(shelf: Path) -> None:
    old, new = campaign(1), campaign(2, day=21, effects={**EFFECTS, "trio": 1.2})
    text = history(shelf, old, new)
    for row in regression(old, new, THRESHOLD).rows:
        name = "asyncio (A/A twin)" if row.arm == TWIN else row.arm
        _, (_, ratio, change, finding) = rows(text, name)
        assert ratio.startswith(f"{row.new.ratio:.3f} [")
        assert change.startswith(f"{row.change.ratio:.3f} [")
        assert finding == ("noise" if row.arm == TWIN else row.finding)


def test_campaigns_are_in_the_order_in_which_they_began(shelf: Path) -> None:
    text = history(shelf, *(campaign(day, day=day) for day in (22, 20, 21)))
    assert [row[0][:11] for row in rows(text, "trio")] == ["[2026-11-20", "[2026-11-21", "[2026-11-22"]


def test_what_the_gate_refuses_is_not_compared_and_the_page_says_why(shelf: Path) -> None:
    other = campaign(2, day=21)
    other.machine["openssl"] = "OpenSSL 3.5.0"
    text = history(shelf, campaign(1), other)
    assert [row[2:] for row in rows(text, "uvloop")] == [["-", "-"]] * 2
    found = "the OpenSSL of the interpreter is OpenSSL 3.0.19 27 Jan 2026 in OLD and OpenSSL 3.5.0 in NEW"
    assert f"are not compared: {found}." in text


def test_cases_are_compared_one_by_one_whatever_else_the_campaigns_had(shelf: Path) -> None:
    text = history(shelf, campaign(1, cases=[SERVER, BOTH]), campaign(2, day=21, cases=[BOTH]))
    _, second = rows(text, "uvloop")
    assert second[3] == "passed"
    assert f"amd-epyc-2-cores, [2026-11-20 09:15](20261120T091500Z-amd-epyc-2-cores/): `{SERVER.name}`" in text


def test_campaigns_of_other_labels_are_not_neighbours(shelf: Path) -> None:
    other = campaign(2, day=21)
    other.label = "elsewhere"
    text = history(shelf, campaign(1), other)
    assert "## Measured once so far" in text
    assert rows(text, "uvloop") == []


def test_an_invalid_campaign_is_marked_and_in_no_chart(shelf: Path) -> None:
    invalid = campaign(3, day=22, effects={**EFFECTS, TWIN: 1.1})
    text = history(shelf, campaign(1), campaign(2, day=21), invalid)
    assert rows(text, "trio")[2][0].startswith("**INVALID** [2026-11-22")
    (chart,) = shelf_of(shelf).charts
    assert "2026-11-22T09:15:00Z" not in str(chart.rows)
    assert "2026-11-21T09:15:00Z" in str(chart.rows)


def test_a_contender_that_took_part_once_has_one_row(shelf: Path) -> None:
    text = history(shelf, campaign(1, effects={**EFFECTS, "anyio+trio": 1.3}), campaign(2, day=21))
    assert len(rows(text, "anyio+trio")) == 1
    assert len(rows(text, "trio")) == 2


def test_every_series_has_its_picture_and_two_series_never_share_one(shelf: Path) -> None:
    labels = ("a/b", "a b", "A b", "a b-tls_pingpong-c1-both") * 2
    made = [campaign(day, day=day) for day in range(20, 28)]
    # Nothing but characters that a file's name may not have, or not everywhere, tells these labels apart.
    for each, label in zip(made, labels, strict=True):
        each.label = label
    text = history(shelf, *made)
    pictures = re.findall(r"\]\(charts/(.*)\.svg\)", text)
    assert len(pictures) == len({each.lower() for each in pictures}) == 4
    assert {path.stem for path in (shelf / "charts").glob("*.svg")} == set(pictures)


def test_fast_campaigns_and_smoke_passes_do_not_come_between_neighbours(shelf: Path) -> None:
    made = [campaign(day, day=day) for day in (20, 21, 22, 23)]
    made[1].mode, made[2].mode = "smoke", "fast"
    text = history(shelf, *made)
    assert [row[3] for row in rows(text, "trio")] == ["-", "passed"]
    assert "2026-11-21" not in text
    assert "## Measured once so far\n\n* amd-epyc-2-cores, [2026-11-22 09:15]" in text


def test_fast_campaigns_have_a_history_of_their_own(shelf: Path) -> None:
    made = [campaign(day, day=day, blocks=2) for day in (20, 21)]
    for each in made:
        each.mode = "fast"
    text = history(shelf, *made)
    assert "Compared by wall. Fast campaigns: few and short blocks." in text
    assert "blocks in OLD and 2 in NEW give no interval" in text


def test_directories_of_several_shelves_have_an_index_each(tmp_path: Path) -> None:
    first, second = (stored(tmp_path / name, campaign()) for name in ("a", "b"))
    shelves, complaints = publish([first, second], drawn, lambda page: None)
    assert complaints == []
    assert [len(each.entries) for each in shelves] == [1, 1]
    assert all((tmp_path / name / "history.md").exists() for name in ("a", "b"))
