import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.shelves import campaign, drawn, stored

from loopmark import cli, site
from loopmark.cli import publish as command
from loopmark.errors import UsageError


class Ended(NamedTuple):
    """How the command ended."""

    status: int
    out: str
    err: str


class Built(NamedTuple):
    """What the web report was made of."""

    names: list[str]
    out: Path
    raw: Mapping[str, Path]
    history: int


class Command:
    """`loopmark publish` in this process, with a fake for what draws and for what builds the web report."""

    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capfd = capfd
        self._monkeypatch = monkeypatch
        self.built: list[Built] = []
        self.refusal: UsageError | None = None
        monkeypatch.setattr(command, "svg", drawn)
        monkeypatch.setattr(site, "build", self._build)
        monkeypatch.setattr("signal.signal", lambda number, handler: None)

    def __call__(self, *arguments: object) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["loopmark", "publish", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Ended(int(ended.value.code or 0), *self._capfd.readouterr())

    def _build(
        self, campaigns: Sequence[tuple[str, Any]], out: Path, *, raw: Mapping[str, Path], history: Sequence[Any]
    ) -> None:
        if self.refusal:
            raise self.refusal
        self.built.append(Built([name for name, _ in campaigns], out, raw, len(history)))


@pytest.fixture
def loopmark(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(capfd, monkeypatch)


def test_pages_and_the_web_report_are_named_and_the_status_is_0(loopmark: Command) -> None:
    directory = stored(Path("results"), campaign())
    ended = loopmark(directory)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [f"{directory}/README.md", "site/index.html"]


def test_the_web_report_has_all_that_have_a_page_with_their_files_and_their_history(loopmark: Command) -> None:
    first, second = (stored(Path("results"), campaign(day, day=day)) for day in (20, 21))
    hidden = stored(Path("results"), campaign(22, day=22))
    loopmark(first)
    loopmark(second, "--site", "public")
    assert hidden.name not in loopmark.built[-1].names
    assert loopmark.built[-1] == Built(
        [first.name, second.name], Path("public"), {each.name: each.resolve() for each in (first, second)}, 1
    )


def test_what_cannot_be_published_is_one_line_each_and_the_status_is_1(loopmark: Command) -> None:
    good, bad = (stored(Path("results"), campaign(day, day=day)) for day in (20, 21))
    (bad / "campaign.json").write_text("{")
    ended = loopmark("nowhere", bad, good)
    assert ended.status == 1
    first, second = ended.err.splitlines()
    assert first == "loopmark: nowhere: there is no such directory"
    assert second.startswith(f"loopmark: {bad}/campaign.json: it is cut short or damaged")
    assert ended.out.startswith(f"{good}/README.md\n")


def test_nothing_but_bad_input_builds_no_web_report(loopmark: Command) -> None:
    ended = loopmark("nowhere")
    assert (ended.status, ended.out, loopmark.built) == (1, "", [])


def test_a_web_report_that_cannot_be_written_is_told_and_the_pages_stand(loopmark: Command) -> None:
    directory = stored(Path("results"), campaign())
    loopmark.refusal = UsageError("site: somebody else's")
    ended = loopmark(directory)
    assert (ended.status, ended.err) == (1, "loopmark: site: somebody else's\n")
    assert (directory / "README.md").exists()


def test_without_the_plotting_library_it_says_what_to_install(
    loopmark: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loopmark.charts.vega import svg

    monkeypatch.setattr(command, "svg", svg)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    directory = stored(Path("results"), campaign())
    ended = loopmark(directory)
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert "pip install 'loopmark[publish]'" in line
    assert not (directory / "README.md").exists()


def test_no_path_at_all_is_wrong_usage(loopmark: Command) -> None:
    ended = loopmark()
    assert ended.status == 2
    assert len(ended.err.splitlines()) == 1
