"""What is shown while a campaign runs: lines for logs, a picture for terminals, nothing when not wanted."""

import io
import threading

import pytest
from rich.console import Console
from tests.campaigns import BOTH, fake_campaign

from loopmark.progress import Lines, Painted, Silent, progress
from loopmark.report.cells import plus_minus
from loopmark.report.figures import figures

CASES = (BOTH,)


def terminal() -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, force_terminal=True, width=200), screen


def test_nothing_is_shown_when_it_is_not_wanted(capfd: pytest.CaptureFixture[str]) -> None:
    shown = progress(60.0, wanted=False)
    assert isinstance(shown, Silent)
    shown.arm(fake_campaign(cases=CASES), BOTH, 0, "trio", 0, 4)
    shown.block(fake_campaign(cases=CASES), 10.0)
    shown.close()
    assert capfd.readouterr() == ("", "")


def test_where_there_is_no_terminal_lines_are_written() -> None:
    assert isinstance(progress(60.0, wanted=True), Lines)


def test_a_line_tells_of_every_block_how_wide_the_intervals_are_and_how_much_time_is_left(
    capfd: pytest.CaptureFixture[str],
) -> None:
    campaign = fake_campaign(blocks=8, cases=CASES, target=0.01)
    widest = figures(campaign, campaign.cases[0]).widest
    assert widest is not None
    lines = Lines()
    lines.arm(campaign, BOTH, 2, "trio", 0, 4)
    lines.block(campaign, 41.7)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (f"tls_pingpong both c=1: block 7, {plus_minus(widest)} (target +-1 %); at most 42 s left\n")


def test_a_line_before_there_are_intervals_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    Lines().block(fake_campaign(blocks=3, cases=CASES), 41.7)
    assert capfd.readouterr().err == "tls_pingpong both c=1: block 2, no intervals yet; at most 42 s left\n"


def test_a_line_tells_a_field_block(capfd: pytest.CaptureFixture[str]) -> None:
    Lines().block(fake_campaign(blocks=3, field_blocks=1, cases=CASES), 41.7)
    assert "tls_pingpong both c=1: field block 3, " in capfd.readouterr().err


def test_a_line_before_the_first_complete_block_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    Lines().block(fake_campaign(blocks=0, cases=CASES), -3.0)
    assert capfd.readouterr().err == "no block yet; at most 0 s left\n"


def test_a_dropped_block_is_told_once_with_its_reason(capfd: pytest.CaptureFixture[str]) -> None:
    campaign = fake_campaign(blocks=3, cases=CASES)
    campaign.dropped.append(f"block 3 of {BOTH.name}: trio lost its peer")
    lines = Lines()
    lines.block(campaign, 40.0)
    lines.block(campaign, 30.0)
    first, second = capfd.readouterr().err.splitlines()
    assert first == "dropped block 3 of tls_pingpong both c=1: trio lost its peer; at most 40 s left"
    assert "dropped" not in second


def test_the_picture_shows_case_block_arm_and_time_left() -> None:
    console, screen = terminal()
    painted = Painted(60.0, console)
    painted.arm(fake_campaign(cases=CASES), BOTH, 3, "trio", 1, 5)
    painted.close()
    assert BOTH.name in screen.getvalue()
    assert "block 3, arm 2 of 5: trio" in screen.getvalue()
    assert "s left" in screen.getvalue()


def test_the_picture_shows_the_estimates_so_far_but_of_hidden_arms() -> None:
    console, screen = terminal()
    painted = Painted(60.0, console)
    assert "so far" not in screen.getvalue()
    campaign = fake_campaign(blocks=8, cases=CASES, hidden=("anyio+uvloop",), target=0.01)
    painted.block(campaign, 30.0)
    painted.close()
    shown = screen.getvalue()
    estimate = figures(campaign, campaign.cases[0]).primary("uvloop")
    assert estimate is not None
    assert estimate.half_width is not None
    assert "ratio to asyncio so far" in shown
    assert f"{estimate.ratio:.3f} {plus_minus(estimate.half_width)}" in shown
    assert "(target +-1 %)" in shown
    assert "asyncio (A/A twin)" in shown
    assert "anyio+uvloop" not in shown
    assert "floor" not in shown


def test_the_picture_is_painted_from_the_first_block_on_whatever_is_there_yet() -> None:
    console, _ = terminal()
    painted = Painted(60.0, console)
    for blocks in (0, 1, 2):
        painted.block(fake_campaign(blocks=blocks, cases=CASES), 30.0)
    painted.close()


def test_nothing_paints_by_itself_while_something_is_measured() -> None:
    before = threading.active_count()
    console, _ = terminal()
    painted = Painted(60.0, console)
    assert threading.active_count() == before
    painted.close()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    def colours() -> bool:
        console, screen = terminal()
        painted = Painted(60.0, console)
        painted.block(fake_campaign(cases=CASES), 30.0)
        painted.close()
        return any(f"\x1b[{code}" in screen.getvalue() for code in ("3", "38;", "9"))

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours()
