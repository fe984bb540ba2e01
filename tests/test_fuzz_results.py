"""Whatever a result file has become: one clear error, or the table of what it says; never a traceback."""

import copy
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.campaigns import BOTH, TWIN, fake_campaign

from loopmark import alongside, cli, foreign, store
from loopmark.counts import Counts
from loopmark.errors import DamagedError, UsageError
from loopmark.record import Campaign
from loopmark.report import comparison, comparison_of_files, description

Path_ = tuple[str | int, ...]

WRONG: Sequence[Any] = (None, True, "x", -1, 1e300, 2**127, [], {"x": [1]})
"""At every position at least six of these have the wrong type."""

CONSTANTS = ("NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "1" + "0" * 5000, "0x10", "'x'", "")


def minimal() -> Campaign:
    """Return the smallest campaign that has a table."""
    return fake_campaign(blocks=1, values=1, effects={}, cases=[BOTH], floor=False)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    store.write(tmp_path, minimal())
    return tmp_path


def shown(path: Path) -> str:
    """Return all that is printed of a stored campaign."""
    if store.has_counts(path):
        return str(store.load_counts(path).campaign)
    campaign = store.load(path)
    return comparison(campaign, "text") + description(campaign)


def compared(paths: Sequence[Path]) -> str:
    """Return all that is printed of pyperf files."""
    return comparison_of_files(alongside.compare(foreign.read(paths)), "text")


def refusal(show: Callable[[], str]) -> str | None:
    """Return the error of what is refused, in one line; None for what is shown. Nothing else may fly."""
    try:
        show()
    except (DamagedError, UsageError) as error:
        text = str(error)
        assert "\n" not in text
        assert len(text) < 600
        return text
    return None


def positions(data: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Yield the way to every value in JSON data."""
    yield path
    inner: Any = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for step, each in inner:
        yield from positions(each, (*path, step))


def changed(data: Any, path: Path_, value: Any) -> Any:
    """Return JSON data with another value at a position."""
    if not path:
        return value
    result = copy.copy(data)
    result[path[0]] = changed(data[path[0]], path[1:], value)
    return result


# Campaigns


def test_a_campaign_that_is_cut_at_any_byte_is_refused(stored: Path) -> None:
    file = stored / "campaign.json"
    whole = file.read_bytes()
    for length in range(len(whole.rstrip())):
        file.write_bytes(whole[:length])
        assert refusal(lambda: shown(stored)) is not None, length


def test_a_campaign_with_any_value_of_another_type_is_refused_or_shown(stored: Path) -> None:
    file = stored / "campaign.json"
    data = json.loads(file.read_text())
    places = list(positions(data))
    refused = 0
    for path in places:
        for value in WRONG:
            file.write_text(json.dumps(changed(data, path, value)))
            refused += refusal(lambda: shown(stored)) is not None
    # What is left to be shown is free text, and facts of any kind.
    assert refused > len(places) * len(WRONG) / 2


@pytest.mark.parametrize("constant", CONSTANTS, ids=lambda each: each[:10])
def test_what_is_no_number_is_refused_wherever_one_stands(stored: Path, constant: str) -> None:
    file = stored / "campaign.json"
    text = file.read_text()
    for name in ("seed", "margin", "seconds", "wall", "loops", "schema", "index", "memory_mib"):
        start = text.index(f'"{name}": ') + len(name) + 4
        start += text[start] == "["
        end = min(text.find(each, start) for each in ",]}\n" if text.find(each, start) > 0)
        file.write_text(text[:start] + constant + text[end:])
        assert refusal(lambda: shown(stored)) is not None, name


@pytest.mark.parametrize("schema", [0, 1, 4, 99, -1, 2.0, "3", True, None, [3], 2**200])
def test_another_version_is_refused_with_what_to_do(stored: Path, schema: Any) -> None:
    file = stored / "campaign.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": schema}))
    assert "with the version of loopmark that wrote it" in (refusal(lambda: shown(stored)) or "")


def test_a_key_that_is_there_twice_is_refused_at_every_place(stored: Path) -> None:
    file = stored / "campaign.json"
    text = file.read_text()
    for at, sign in enumerate(text):
        if sign == "{" and text[at + 1] == '"':
            key = text[at + 1 : text.index(":", at)]
            file.write_text(f"{text[: at + 1]}{key}: null, {text[at + 1 :]}")
            assert "twice" in (refusal(lambda: shown(stored)) or ""), at


@pytest.mark.parametrize("depth", [10, 200, 900, 5_000, 200_000])
def test_nesting_without_end_is_refused_or_shown(stored: Path, depth: int) -> None:
    file = stored / "campaign.json"
    text = file.read_text()
    nested = "[" * depth + "]" * depth
    for name in ("sysctls", "notes", "seed"):
        start = text.index(f'"{name}": ')
        file.write_text(f'{text[:start]}"{name}": {nested}, "x": {text[start + len(name) + 4 :]}')
        assert refusal(lambda: shown(stored)) is not None
    start = text.index('"memory_mib": ')
    file.write_text(f'{text[:start]}"more": {nested}, {text[start:]}')
    refused = refusal(lambda: shown(stored))
    assert refused is None or depth > 100
    file.write_text(nested)
    assert refusal(lambda: shown(stored)) is not None


def test_counts_that_are_cut_at_any_byte_are_refused(tmp_path: Path) -> None:
    campaign = minimal()
    campaign.blocks, campaign.mode = [], "instructions"
    store.write_counts(tmp_path, Counts(campaign=campaign))
    file = tmp_path / "instructions.json"
    whole = file.read_bytes()
    for length in range(len(whole.rstrip())):
        file.write_bytes(whole[:length])
        assert refusal(lambda: shown(tmp_path)) is not None, length


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_bytes_is_refused_or_shown(stored: Path, data: st.DataObject) -> None:
    file = stored / "campaign.json"
    store.write(stored, minimal())
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    gone = data.draw(st.integers(0, 40))
    file.write_bytes(whole[:at] + data.draw(st.binary(max_size=8)) + whole[at + gone :])
    refusal(lambda: shown(stored))


# pyperf's files


@pytest.fixture
def files(stored: Path) -> list[Path]:
    return [stored / "asyncio.json", stored / f"{TWIN}.json"]


@pytest.mark.parametrize("which", [0, 1])
def test_a_pyperf_file_that_is_cut_at_any_byte_is_refused(files: list[Path], which: int) -> None:
    whole = files[which].read_bytes()
    for length in range(len(whole.rstrip())):
        files[which].write_bytes(whole[:length])
        assert refusal(lambda: compared(files)) is not None, length


def test_a_pyperf_file_with_any_value_of_another_type_is_refused_or_shown(files: list[Path]) -> None:
    data = json.loads(files[1].read_text())
    # One benchmark has all positions that there are.
    data["benchmarks"] = data["benchmarks"][:1]
    for path in positions(data):
        for value in WRONG:
            files[1].write_text(json.dumps(changed(data, path, value)))
            refusal(lambda: compared(files))


@pytest.mark.parametrize("constant", CONSTANTS[:-1], ids=lambda each: each[:10])
def test_what_is_no_number_in_a_pyperf_file_is_refused(files: list[Path], constant: str) -> None:
    data = json.loads(files[1].read_text())
    (value,) = data["benchmarks"][0]["runs"][0]["values"]
    text = json.dumps(data)
    files[1].write_text(text.replace(json.dumps(value), constant, 1))
    assert refusal(lambda: compared(files)) is not None


# Files in the place of others


def test_files_that_are_swapped_are_refused(stored: Path, tmp_path: Path) -> None:
    campaign, mine = stored / "campaign.json", stored / "asyncio.json"
    own = {each: each.read_bytes() for each in (campaign, mine)}
    campaign.write_bytes(own[mine])
    mine.write_bytes(own[campaign])
    assert "not a campaign of loopmark" in (refusal(lambda: shown(stored)) or "")
    assert "no pyperf file" in (refusal(lambda: compared([mine, stored / f"{TWIN}.json"])) or "")
    (stored / "instructions.json").write_bytes(own[mine])
    assert "not a campaign of loopmark" in (refusal(lambda: shown(stored)) or "")
    (stored / "instructions.json").write_bytes(own[campaign])
    assert refusal(lambda: shown(stored)) is not None


def test_one_file_under_two_names_has_no_verdict(stored: Path) -> None:
    shutil.copy(stored / "asyncio.json", stored / "copy.json")
    out = compared([stored / "asyncio.json", stored / "copy.json"])
    assert "are both asyncio" in out
    assert "equivalent" not in out


def test_files_of_two_campaigns_have_no_verdict(stored: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    campaign = fake_campaign(seed=2, blocks=1, values=1, effects={}, cases=[BOTH], floor=False)
    store.write(other, campaign)
    assert "different campaigns" in compared([stored / "asyncio.json", other / f"{TWIN}.json"])


# The command


@pytest.mark.parametrize("command", ["compare", "show"])
@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b'{"schema": 3}', b"[]", b'"x"', b"null", b'{"schema": 99}'])
def test_the_command_says_one_line_and_ends_with_status_2(
    command: str, damage: bytes, stored: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (stored / "campaign.json").write_bytes(damage)
    monkeypatch.setattr(sys, "argv", ["loopmark", command, str(stored)])
    monkeypatch.setattr("signal.signal", lambda *given: None)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("loopmark: ")
    assert "campaign.json" in line
