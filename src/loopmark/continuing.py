"""Goes on with a campaign that something has ended: the same plan, on the same machine, in the same directory.

Orders and rounds come from the seed, the case and the number of a block, so that the blocks of a continuation are those
that would have come anyway. What was settled (loops, traces, who is retired, who has failed once) is in the campaign.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from loopmark import machine, plan, redact
from loopmark.campaign import REFERENCES, Prepared, Request, equip, runnable
from loopmark.errors import UnavailableError, UsageError
from loopmark.plan import Effort
from loopmark.probe import survey
from loopmark.record import Campaign, Kind
from loopmark.sameness import changes

EFFORTS = {each.mode: each for each in (plan.FAST, plan.DEFAULT, plan.RIGOROUS, plan.SMOKE, plan.MATRIX)}

CAPPED = "time cap"

_NOT_STORED = {"--plugin": "plugin", "--certs": "certificates"}
"""Options with a path, which no campaign holds, and the fields of a request that they become."""


def resume(campaign: Campaign, request: Request, seconds: float | None) -> tuple[Prepared, Effort]:
    """Prepare a campaign that was loaded for going on, `seconds` longer, or as long as it was allowed at first.

    Of the request only `plugin` and `certificates` count. Raises UsageError when it cannot be continued at all, or not
    here and now; nothing is written, and the campaign may only be thrown away then.
    """
    effort = _effort(campaign, seconds)
    for option, field in _NOT_STORED.items():
        given = any(each.partition("=")[0] == option for each in campaign.command)
        if given and getattr(request, field) is None:
            raise UsageError(f"the campaign was started with {option}, and stores no paths: give {option} again")
    for planned in campaign.cases:
        if campaign.baseline_of(planned) not in {arm.label for arm in planned.arms}:
            raise UsageError(
                f"the baseline {campaign.baseline_of(planned)} was retired in {planned.case.name}, so that there is "
                "nothing to go on with: run a new campaign"
            )
    if not campaign.cases:
        raise UsageError("the campaign has no cases: run a new one")
    if differences := [*_differences(campaign), *_other_references(campaign)]:
        raise UsageError(
            f"blocks of now would not belong to the campaign: {'; '.join(differences)}; run a new one, or go on where "
            "it was begun"
        )
    known = survey(request.plugin)
    for planned in campaign.cases:
        known.registry.benchmark(planned.case.benchmark).conversation(planned.case.variant)
    for name in _names(campaign):
        runnable(known, name)
    prepared = equip(campaign, known, replace(request, fresh=campaign.fresh), campaign.baseline)
    _reopen(campaign, effort)
    return prepared, effort


def _effort(campaign: Campaign, seconds: float | None) -> Effort:
    """Return what was asked for at first, with the seconds that it may take by now in all."""
    if campaign.mode not in EFFORTS:
        raise UsageError(f"a campaign of the mode {campaign.mode!r} cannot be continued: run a new one")
    allowed = campaign.seconds_allowed if seconds is None else campaign.seconds + seconds
    if allowed <= campaign.seconds or (seconds is None and campaign.ended == CAPPED):
        raise UsageError(
            f"the time of the campaign is up, after {campaign.seconds:.0f} s: give --max-time S for so many more"
        )
    return replace(EFFORTS[campaign.mode], seconds=allowed, blocks=campaign.blocks_wanted, target=campaign.target)


def _differences(campaign: Campaign) -> Iterator[str]:
    versions = campaign.machine.get("versions")
    now = machine.describe(versions if isinstance(versions, dict) else ())
    return changes(campaign.machine, redact.deep(now))


def _other_references(campaign: Campaign) -> Iterator[str]:
    """Tell of servers that are not ours and not those of the campaign's first part."""
    arms = (arm for planned in campaign.cases for arm in planned.arms if arm.kind is Kind.REFERENCE)
    for name in dict.fromkeys(arm.contender for arm in arms):
        if name not in REFERENCES:
            raise UnavailableError(f"there is no reference {name!r}; there are {', '.join(REFERENCES)}")
        _, build = REFERENCES[name].find()
        told = redact.text(f": {build}, ")
        if not any(note.startswith(f"{name} is a reference") and told in note for note in campaign.notes):
            yield f"{name} is another one, {build}"


def _names(campaign: Campaign) -> list[str]:
    """Return the contenders that a campaign needs, in whatever part."""
    names: dict[str | None, None] = {}
    for planned in campaign.cases:
        names[planned.case.peer] = None
        for arm in planned.arms:
            if arm.kind not in (Kind.FLOOR, Kind.REFERENCE):
                names |= {arm.contender: None, arm.caller: None}
    return [name for name in names if name is not None]


def _reopen(campaign: Campaign, effort: Effort) -> None:
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    campaign.notes.append(
        f"Continued at {moment}, after {len(campaign.blocks)} blocks and {campaign.seconds:.0f} s ({campaign.ended}): "
        "where the tables of then were the reason, intervals miss more often than they say."
    )
    campaign.ended = "running"
    campaign.seconds_allowed = effort.seconds
    for planned in campaign.cases:
        if planned.ended == CAPPED:
            planned.ended = ""
        # A file of an older version does not tell.
        indexes = (block.index + 1 for block in campaign.blocks if block.case == planned.case.name)
        planned.next_block = max(planned.next_block, *indexes, 0)
