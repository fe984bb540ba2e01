"""`loopmark matrix`."""

import dataclasses
import math
from pathlib import Path

import click

from loopmark import plan
from loopmark.campaign import prepare
from loopmark.case import Role
from loopmark.cli import cli
from loopmark.cli.conducting import measure
from loopmark.cli.options import (
    Listed,
    benchmark_names,
    complete_contender,
    contender_names,
    positive,
    request_of,
)
from loopmark.errors import UsageError

EPILOG = """\b
Examples:
  loopmark matrix                               everybody with everybody, over TLS, 100 at a time
  loopmark matrix -b uvloop,trio                these two and the baseline: nine pairs
  loopmark matrix -w tcp_pingpong -c 10         plain TCP, ten at a time
  loopmark matrix -b trio --blocks 12           one contender and the baseline, more precisely
"""


@cli.command(epilog=EPILOG)
@click.option(
    "-b",
    "--contender",
    "contenders",
    type=Listed(str, "contenders", contender_names),
    default=(),
    metavar="NAME[,..]",
    help="Who calls and serves, besides the baseline; everybody by default.",
)
@click.option(
    "-w",
    "--benchmark",
    "benchmarks",
    type=Listed(str, "benchmarks", benchmark_names),
    default="tls_pingpong",
    metavar="NAME[,..]",
    show_default=True,
    help="What they do with each other.",
)
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
@click.option(
    "--baseline",
    metavar="NAME",
    default="asyncio",
    show_default=True,
    shell_complete=complete_contender,
    help="Whose row and column the ratios refer to.",
)
@click.option("--label", metavar="TEXT", help="Name of the campaign; CPU model and core count by default.")
@click.option(
    "--max-time",
    type=click.FloatRange(min=1),
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
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="For the order of the pairs; random by default.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default="results",
    show_default=True,
    metavar="DIR",
    help="Where the campaign's directory is made.",
)
@click.option("--plugin", type=click.Path(path_type=Path), metavar="FILE", help="See `loopmark run`.")
@click.option("--no-progress", is_flag=True, help="Print the result only.")
def matrix(*, max_time: float, blocks: int, results: Path, no_progress: bool, **wishes: object) -> int:
    """Let every contender call every contender, to see that they understand each other and what it costs both sides.

    Status 1 when a pair does not. How much a server's number depends on who calls it is in the last rows of its table;
    who is faster is the question of `loopmark run`.
    """
    if not math.isfinite(max_time):
        raise UsageError(f"--max-time {max_time}: give a number of seconds")
    effort = dataclasses.replace(plan.MATRIX, seconds=max_time, blocks=blocks)
    request = request_of(effort, {**wishes, "roles": (Role.PAIR,)})
    return measure(prepare(request), effort, results, wanted=not no_progress)
