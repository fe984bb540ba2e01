"""A campaign that something has ended goes on as if nothing had happened, or says in one line why it cannot."""

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.campaigns import MACHINE as FACTS
from tests.campaigns import fake_campaign
from tests.test_run import CLIENT as NOBODYS_CLIENT
from tests.test_run import CUT, ONE, SIX, WRONG, Stage, stage

from loopmark import cli, codec, continuing, machine, store
from loopmark.arms import BlockDiedError
from loopmark.campaign import Prepared, Request
from loopmark.case import Role
from loopmark.cli import conducting
from loopmark.errors import UnavailableError, UsageError
from loopmark.plan import FAST, Effort, arms_of
from loopmark.probe import Finding, Survey
from loopmark.record import Campaign
from loopmark.registry import registry
from loopmark.testing import fake
from loopmark.testing.fake import FakeExecutor, Mishap

WELL = Request()
MACHINE: dict[str, Any] = dict(FACTS)
CLIENT = replace(NOBODYS_CLIENT, peer="uvloop-protocol")
SERVER = replace(CLIENT, role=Role.SERVER)


class Resumed(NamedTuple):
    """What is ready to go on, and with how much effort."""

    prepared: Prepared
    effort: Effort


Resume = Callable[..., Resumed]


@pytest.fixture
def resume(monkeypatch: pytest.MonkeyPatch) -> Resume:
    """Prepare a campaign for going on, on the machine of fake campaigns with `now` changed, where all is installed."""
    known = registry()

    def resume(
        campaign: Campaign,
        seconds: float | None = None,
        request: Request = WELL,
        now: Mapping[str, Any] | None = None,
        broken: str = "",
    ) -> Resumed:
        findings = {
            name: Finding(name=name, status="failed" if name == broken else "ok", reason="it is broken")
            for name in known.contenders
        }
        monkeypatch.setattr(continuing, "survey", lambda plugin: Survey(registry=known, findings=findings))
        monkeypatch.setattr(machine, "describe", lambda versions: now or campaign.machine)
        monkeypatch.setattr(continuing, "equip", lambda it, *rest: Prepared(campaign=it, assign=fake.assign))
        return Resumed(*continuing.resume(campaign, request, seconds))

    return resume


def finish(resumed: Resumed, *mishaps: Mishap) -> Campaign:
    """Conduct the rest of a campaign in another process, as far as an executor can tell."""
    acted = Stage(effort=resumed.effort, executor=FakeExecutor(mishaps=mishaps, seed=7))
    acted.campaign = resumed.prepared.campaign
    return acted.play()


def begun(*mishaps: Mishap, **settings: Any) -> Stage:
    """Return a stage whose campaign tells what `prepare` puts into it, and that has files."""
    acted = stage(*mishaps, **settings)
    acted.campaign.blocks_wanted = acted.effort.blocks
    acted.campaign.seconds_allowed = acted.effort.seconds
    acted.campaign.machine = deepcopy(MACHINE)
    return acted


def interrupted(*mishaps: Mishap, **settings: Any) -> Stage:
    acted = begun(*mishaps, **settings)
    with pytest.raises(KeyboardInterrupt):
        acted.play()
    return acted


def loaded(data: Any) -> Campaign:
    return codec.decode(data, Campaign)


def plan_of(campaign: Campaign) -> Any:
    """Return all that does not depend on how long anything took."""
    return (
        sorted((each.case, each.index, each.field, each.order, each.rounds) for each in campaign.blocks),
        sorted(campaign.dropped),
        [(each.case.name, each.arms, each.loops, each.ended, each.next_block) for each in campaign.cases],
        campaign.outcomes,
        campaign.ended,
    )


# The same plan


@pytest.mark.parametrize(
    "mishaps", [[], [Mishap(what=CUT, arm="trio", run=2)], [Mishap(what=WRONG, arm="trio", run=3)]]
)
def test_from_wherever_it_was_killed_a_campaign_comes_to_the_same_blocks(resume: Resume, mishaps: list[Mishap]) -> None:
    whole = begun(*mishaps, cases=(SERVER, ONE), effort=replace(SIX, blocks=8, field_every=2))
    expected = plan_of(whole.play())
    # The first is saved before the loops are known, which depend on noise, and the last one is complete.
    begun_and_failed = [each for each in whole.saved[1:-1] if not mishaps or each["dropped"] or each["outcomes"]]
    assert len(begun_and_failed) > 10
    for saved in begun_and_failed:
        assert loaded(saved).ended == "running"
        assert plan_of(finish(resume(loaded(saved))._replace(effort=whole.effort))) == expected


def test_cases_take_turns_where_they_were_interrupted(resume: Resume) -> None:
    acted = interrupted(Mishap(what=KeyboardInterrupt(), case=CLIENT.name, run=4 * 2 + 1), cases=(SERVER, CLIENT, ONE))
    campaign = finish(resume(loaded(acted.saved[-1])))
    assert [block.case for block in campaign.blocks] == [SERVER.name, CLIENT.name, ONE.name] * 2 + [SERVER.name] + [
        each for _ in range(3) for each in (CLIENT.name, ONE.name, SERVER.name)
    ] + [CLIENT.name, ONE.name]


def test_what_was_settled_is_not_done_again(resume: Resume) -> None:
    acted = interrupted(Mishap(what=KeyboardInterrupt(), run=9))
    again = resume(loaded(acted.saved[-1]))
    second = Stage(effort=again.effort)
    second.campaign = again.prepared.campaign
    campaign = second.play()
    assert all(order.values for order in second.executor.orders)
    assert not any(order.trace for order in second.executor.orders)
    assert len({each.loops for block in campaign.blocks for each in block.measurements.values()}) == 1


def test_who_failed_before_is_retired_when_it_fails_again(resume: Resume) -> None:
    acted = interrupted(Mishap(what=CUT, arm="trio", run=0), Mishap(what=KeyboardInterrupt(), run=13))
    campaign = finish(resume(loaded(acted.saved[-1])), Mishap(what=CUT, arm="trio", run=0))
    assert [(each.arm, each.status) for each in campaign.outcomes] == [("trio", "retired")]
    assert len(campaign.dropped) == 1


def test_who_was_retired_stays_out(resume: Resume) -> None:
    acted = interrupted(Mishap(what=WRONG, arm="trio", run=0), Mishap(what=KeyboardInterrupt(), run=9))
    campaign = finish(resume(loaded(acted.saved[-1])))
    assert all("trio" not in block.measurements for block in campaign.blocks)
    assert len(campaign.blocks) == 6


def test_who_does_other_work_than_the_baseline_did_before_is_not_comparable(resume: Resume) -> None:
    def older(answer: dict[str, Any]) -> None:
        answer["facts"]["equal"]["tls_version"] = "TLSv1.2"

    acted = interrupted(Mishap(what=KeyboardInterrupt(), run=9))
    campaign = finish(resume(loaded(acted.saved[-1])), Mishap(what=older, arm="asyncio", run=0))
    assert campaign.ended.startswith("the baseline asyncio was retired")


def test_a_dead_block_interpreter_is_no_reason_not_to_go_on(resume: Resume) -> None:
    acted = begun(Mishap(what=BlockDiedError("it died"), run=9))
    acted.play()
    campaign = finish(resume(loaded(acted.saved[-1])))
    assert (campaign.ended, len(campaign.blocks)) == ("done", 6)


def test_that_it_was_continued_is_noted_and_its_start_stays(resume: Resume) -> None:
    acted = interrupted(Mishap(what=KeyboardInterrupt(), run=9))
    started = acted.campaign.started
    campaign = finish(resume(loaded(acted.saved[-1])))
    assert campaign.started == started
    note = campaign.notes[-1]
    assert note.startswith("Continued at 20")
    assert ", after 2 blocks and " in note
    assert note.endswith(
        " s (interrupted): where the tables of then were the reason, intervals miss more often than they say."
    )


# Time


def test_seconds_add_up(resume: Resume) -> None:
    acted = interrupted(Mishap(what=KeyboardInterrupt(), run=9))
    before = acted.campaign.seconds
    again = resume(loaded(acted.saved[-1]))
    second = Stage(effort=again.effort)
    second.campaign = again.prepared.campaign
    assert second.play().seconds == pytest.approx(before + second.executor.now)


def test_without_more_time_the_rest_of_its_own_is_left(resume: Resume) -> None:
    acted = interrupted(Mishap(what=KeyboardInterrupt(), run=9), effort=replace(SIX, blocks=None, seconds=60.0))
    campaign = finish(resume(loaded(acted.saved[-1])))
    assert campaign.ended == "time cap"
    longest = max(block.seconds for block in campaign.blocks)
    assert 60.0 - 2 * longest < campaign.seconds < 60.0 + longest


@pytest.mark.parametrize("seconds", [20.0, 100.0])
def test_more_time_counts_from_now(resume: Resume, seconds: float) -> None:
    acted = begun(effort=replace(SIX, blocks=None, seconds=60.0))
    before = acted.play().seconds
    again = resume(loaded(acted.saved[-1]), seconds)
    assert again.effort.seconds == pytest.approx(before + seconds)
    campaign = finish(again)
    assert campaign.ended == campaign.cases[0].ended == "time cap"
    assert campaign.seconds_allowed == pytest.approx(before + seconds)
    assert campaign.seconds > before


def test_a_campaign_whose_time_is_up_wants_more(resume: Resume) -> None:
    acted = begun(effort=replace(SIX, blocks=None, seconds=60.0))
    acted.play()
    with pytest.raises(UsageError, match=r"time of the campaign is up, after .* s: give --max-time S"):
        resume(loaded(acted.saved[-1]))


def test_how_much_is_measured_comes_from_the_campaign(resume: Resume) -> None:
    campaign = fake_campaign(mode="fast", target=0.02)
    campaign.ended, campaign.seconds_allowed, campaign.blocks_wanted = "interrupted", 1e6, 40
    assert resume(campaign).effort == replace(FAST, seconds=1e6, blocks=40, target=0.02)


# Where it cannot go on


def stopped() -> Campaign:
    campaign = fake_campaign(blocks=2)
    campaign.ended, campaign.seconds_allowed = "interrupted", 1e6
    for each in campaign.cases:
        each.case = replace(each.case, peer=each.case.peer and "uvloop-protocol")
        each.ended = ""
    names = [each.case.name for each in campaign.cases]
    campaign.blocks = [replace(block, case=names[at % len(names)]) for at, block in enumerate(campaign.blocks)]
    return campaign


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"python": {**MACHINE["python"], "version": "3.14.0"}}, "the interpreter's version was 3.13.0 and is 3.14.0"),
        ({"cpu": {**MACHINE["cpu"], "usable_cores": 1}}, "the number of usable cores was unknown and is 1"),
        ({"cpu": {**MACHINE["cpu"], "logical_cores": 8}}, "the number of logical cores was 2 and is 8"),
        ({"system": "Linux 7.0"}, "the system was Linux 6.18.0 and is Linux 7.0"),
        ({"openssl": "OpenSSL 3.5.0"}, "the OpenSSL of the interpreter was"),
        ({"versions": {**MACHINE["versions"], "trio": "0.36.0"}}, "the version of trio was 0.35.0 and is 0.36.0"),
        ({"versions": {"trio": "0.35.0", "loopmark": "0.1.0"}}, "the version of uvloop was 0.23.0 and is unknown"),
        (
            {"source": {"revision": "f" * 40, "clean": True}},
            f"the revision of the checkout was 0123.* and is {'f' * 40}",
        ),
        ({"source": {**MACHINE["source"], "clean": False}}, "the checkout has changes that are not committed"),
    ],
    ids=lambda each: "" if isinstance(each, str) else next(iter(each)),
)
def test_what_differs_on_the_machine_is_named(resume: Resume, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        resume(stopped(), now={**MACHINE, **changes})


def test_on_the_same_machine_it_goes_on(resume: Resume) -> None:
    assert resume(stopped()).prepared.campaign.ended == "running"


def test_a_contender_that_cannot_run_any_more_is_told(resume: Resume) -> None:
    with pytest.raises(UnavailableError, match="trio cannot run here: it is broken"):
        resume(stopped(), broken="trio")


def test_a_retired_baseline_is_the_end(resume: Resume) -> None:
    campaign = stopped()
    campaign.cases[1].arms = campaign.cases[1].arms[1:]
    with pytest.raises(UsageError, match="the baseline asyncio was retired in tls_pingpong"):
        resume(campaign)


@pytest.mark.parametrize("option", ["--plugin", "--certs"])
@pytest.mark.parametrize("form", [("{}", ".../x"), ("{}=.../x",)])
def test_paths_are_not_stored_and_have_to_be_given_again(resume: Resume, option: str, form: tuple[str, ...]) -> None:
    campaign = stopped()
    campaign.command = ("loopmark", "run", *(each.format(option) for each in form))
    with pytest.raises(UsageError, match=f"started with {option}.*give {option} again"):
        resume(campaign)
    resume(campaign, request=Request(plugin=Path("x"), certificates=Path("y")))


@pytest.mark.parametrize("mode", ["instructions", "", "quick"])
def test_a_mode_that_nobody_knows_is_told(resume: Resume, mode: str) -> None:
    campaign = stopped()
    campaign.mode = mode
    with pytest.raises(UsageError, match="cannot be continued"):
        resume(campaign)


def test_a_file_without_the_number_of_the_next_block_is_continued_behind_its_last_one(resume: Resume) -> None:
    campaign = stopped()
    assert [each.next_block for each in resume(campaign).prepared.campaign.cases] == [2, 2, 2]


def test_a_smoke_pass_can_be_continued(resume: Resume) -> None:
    campaign = stopped()
    campaign.mode, campaign.blocks = "smoke", []
    assert resume(campaign).effort.values == 1


# The command


@pytest.fixture
def loopmark(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Any]]:
    """Run a command in this process; its status, output and standard error."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(conducting, "Interpreters", lambda: pytest.fail("something was measured"))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loopmark", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capfd.readouterr()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    store.write(tmp_path, stopped())
    return tmp_path


def refused(ended: tuple[int, str, str]) -> str:
    status, out, err = ended
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    return line


@pytest.mark.parametrize("options", [["-b", "trio"], ["--seed", "1"], ["--blocks", "3", "--margin", "2%"], ["--fast"]])
def test_what_the_campaign_says_cannot_be_said_again(
    loopmark: Callable[..., Any], stored: Path, options: list[str]
) -> None:
    line = refused(loopmark("run", "--continue", stored, *options))
    assert "comes from" in line
    assert all(each in line for each in options if each.startswith("--"))


def test_a_campaign_that_is_done_is_shown_again_with_its_status(loopmark: Callable[..., Any], tmp_path: Path) -> None:
    campaign = fake_campaign(blocks=12, noise=0.001)
    store.write(tmp_path, campaign)
    before = (tmp_path / "campaign.json").read_bytes()
    status, out, err = loopmark("run", "--continue", tmp_path)
    assert (status, "there is nothing to go on with" in err) == (conducting.status_of(campaign), True)
    assert "trio" in out
    assert (tmp_path / "campaign.json").read_bytes() == before


def test_a_directory_without_a_campaign_is_told(loopmark: Callable[..., Any], tmp_path: Path) -> None:
    assert "there is no such file" in refused(loopmark("run", "--continue", tmp_path))
    assert "No such file" in refused(loopmark("run", "--continue", tmp_path / "none"))


def test_counts_cannot_be_continued(loopmark: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "instructions.json").write_text("{}")
    assert "counts of instructions" in refused(loopmark("run", "--continue", tmp_path))


def test_two_cannot_write_into_one_directory(loopmark: Callable[..., Any], stored: Path) -> None:
    with store.held(stored):
        assert "another loopmark is at work" in refused(loopmark("run", "--continue", stored))


def test_a_refusal_leaves_the_campaign_as_it_was(loopmark: Callable[..., Any], stored: Path) -> None:
    before = {each.name: each.read_bytes() for each in stored.iterdir()}
    assert "blocks of now would not belong to the campaign" in refused(loopmark("run", "--continue", stored))
    assert {each.name: each.read_bytes() for each in stored.iterdir()} == before


def test_a_campaign_of_one_arm_has_nothing_to_do(resume: Resume) -> None:
    acted = begun()
    acted.campaign.cases[0].arms = arms_of(["asyncio"], "asyncio")[:1]
    assert acted.play().blocks == []
