"""`loopmark matrix`."""

import dataclasses
from pathlib import Path

import click

from loopmark import plan
from loopmark.campaign import prepare
from loopmark.case import Role
from loopmark.cli import cli
from loopmark.cli.conducting import measure
from loopmark.cli.options import (
    Listed,
    Seconds,
    baseline_option,
    benchmarks_option,
    contenders_option,
    label_option,
    plugin_option,
    positive,
    progress_option,
    request_of,
    results_option,
    seed_option,
)

EPILOG = """\b
Examples:
  loopmark matrix                               everybody with everybody, over TLS, 100 at a time
  loopmark matrix -b uvloop,trio                these two and the baseline: nine pairs
  loopmark matrix -w tcp_pingpong -c 10         plain TCP, ten at a time
  loopmark matrix -b trio --blocks 12           one contender and the baseline, more precisely
"""


@cli.command(epilog=EPILOG)
@contenders_option
@benchmarks_option
@click.option(
    "-c",
    "--concurrency",
    "concurrencies",
    type=Listed(positive, "whole numbers"),
    default="100",
    metavar="N[,..]",
    show_default=True,
    help="Connections at a time; a matrix for each number.",
)
@baseline_option
@label_option
@click.option(
    "--max-time",
    type=Seconds(min=1),
    default=plan.MATRIX.seconds,
    metavar="S",
    show_default=True,
    help="Seconds at most.",
)
@click.option(
    "--blocks",
    type=click.IntRange(min=1),
    default=plan.MATRIX.blocks,
    metavar="N",
    show_default=True,
    help="Blocks per matrix; every pair runs once in each.",
)
@seed_option
@results_option
@plugin_option
@progress_option
def matrix(*, max_time: float, blocks: int, results: Path, no_progress: bool, **wishes: object) -> int:
    """Let every contender call every contender, to see that they understand each other and what it costs both sides.

    Status 1 when a pair does not. How much a server's number depends on who calls it is in the last rows of its table;
    who is faster is the question of `loopmark run`.
    """
    effort = dataclasses.replace(plan.MATRIX, seconds=max_time, blocks=blocks)
    request = request_of(effort, {**wishes, "roles": (Role.PAIR,)})
    return measure(prepare(request), effort, results, wanted=not no_progress)
