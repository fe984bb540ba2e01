"""What a stored campaign must be so that its tables are not nonsense."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.campaigns import BOTH, fake_campaign

from loopmark.record import Campaign
from loopmark.soundness import complaints

Change = Callable[[Campaign], None]


def campaign_of() -> Campaign:
    return fake_campaign(blocks=2, cases=[BOTH])


def measured(**changes: Any) -> Change:
    def change(campaign: Campaign) -> None:
        measurements = campaign.blocks[0].measurements
        measurements["asyncio"] = replace(measurements["asyncio"], **changes)

    return change


def started(campaign: Campaign) -> None:
    campaign.started = "yesterday"


def the_case_twice(campaign: Campaign) -> None:
    campaign.cases.append(campaign.cases[0])


def an_arm_twice(campaign: Campaign) -> None:
    plan = campaign.cases[0]
    campaign.cases[0] = replace(plan, arms=(*plan.arms, plan.arms[0]))


def a_block_twice(campaign: Campaign) -> None:
    campaign.blocks.append(campaign.blocks[0])


def another_case(campaign: Campaign) -> None:
    campaign.blocks[0] = replace(campaign.blocks[0], case="tcp_echo")


def without_loops(campaign: Campaign) -> None:
    campaign.cases[0] = replace(campaign.cases[0], loops=0)


def another_arm(campaign: Campaign) -> None:
    measurements = campaign.blocks[0].measurements
    measurements["curio"] = measurements["asyncio"]


def rounds_of_others(campaign: Campaign) -> None:
    campaign.blocks[0] = replace(campaign.blocks[0], rounds=(campaign.blocks[0].order[1:],))


def a_margin_of_nothing(campaign: Campaign) -> None:
    campaign.margin = 0.0


def a_block_before_the_first(campaign: Campaign) -> None:
    campaign.blocks[0] = replace(campaign.blocks[0], index=-1)


def for_ever(campaign: Campaign) -> None:
    campaign.seconds = 1e12


def no_block_wanted(campaign: Campaign) -> None:
    campaign.blocks_wanted = 0


def test_a_campaign_as_it_is_made_is_sound() -> None:
    assert list(complaints(campaign_of())) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (started, "the start 'yesterday' is no time in UTC"),
        (the_case_twice, "two cases have one name"),
        (an_arm_twice, "have one label"),
        (a_block_twice, "is there twice"),
        (another_case, "belongs to no case"),
        (without_loops, "has 0 connections a value"),
        (another_arm, "has the unknown arm 'curio'"),
        (rounds_of_others, "has a round of others than its own arms"),
        (a_margin_of_nothing, "the margin 0.0 is no share"),
        (a_block_before_the_first, "-1 is less than nothing"),
        (for_ever, "longer than any campaign"),
        (no_block_wanted, "0 blocks were wanted"),
        (measured(wall=(), client_cpu=(), server_cpu=()), "the same number of values, at least one"),
        (measured(wall=(1e-3,)), "the same number of values, at least one"),
        (measured(loops=0), "asyncio: 0 connections a value"),
        (measured(warmups=(1e9,)), "1000000000.0 seconds per connection is out of range"),
    ],
)
def test_what_does_not_fit_together_is_told(change: Change, complaint: str) -> None:
    campaign = campaign_of()
    change(campaign)
    assert any(complaint in each for each in complaints(campaign))
