"""`loopmark run`."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from loopmark import plan
from loopmark.campaign import Request, prepare
from loopmark.case import ROLES
from loopmark.cli import cli
from loopmark.cli.conducting import go_on, measure
from loopmark.cli.counting import count
from loopmark.cli.options import (
    Listed,
    RoundTripTime,
    Seconds,
    Share,
    baseline_option,
    benchmarks_option,
    certificates_option,
    complete_contender,
    contenders_option,
    deadline_option,
    is_given,
    label_option,
    one_role,
    plugin_option,
    positive,
    progress_option,
    request_of,
    results_option,
    seed_option,
    tls_options,
)
from loopmark.errors import UsageError
from loopmark.registry import registry

EPILOG = """\b
Examples:
  loopmark run                                  the default campaign: two tables in five minutes
  loopmark run --fast                           a minute, 20 at a time instead of 100, wide intervals
  loopmark run -b uvloop,trio -c 1 --role both  two contenders and the baseline, one connection at a time
  loopmark run -w tcp_pingpong -c 10,100        plain TCP
  loopmark run -w tls_echo:open-1KiB,udp_echo   one case of a benchmark, and all of another
  loopmark run --all --fast                     a smoke pass: everybody proves all kinds of work, no ratios
  loopmark run -n 1000,1500,2000,2500           bursts, all connections of each started at once
  loopmark run -b trio -c 1 --target 0.5%       until every interval is within +-0.5 %, or for 300 s
  loopmark run -w tls_upgrade -c 1 --rtt 20ms   over a network of 20 ms: round trips become visible
  loopmark run -b trio --instructions           instructions per connection, counted by valgrind
  loopmark run --continue results/20261120T0... go on with a campaign that something has ended
"""

roles_type = Listed(one_role, f"roles ({', '.join(ROLES)})", lambda: [str(role) for role in ROLES])


@cli.command(epilog=EPILOG)
@contenders_option
@benchmarks_option
@click.option(
    "-c",
    "--concurrency",
    "concurrencies",
    type=Listed(positive, "whole numbers"),
    default=(),
    metavar="N[,..]",
    help="Connections at a time; 100 in the roles server and client, and 1 in the role both, by default.",
)
@click.option(
    "-n",
    "--connections",
    type=Listed(positive, "whole numbers"),
    default=(),
    metavar="N[,..]",
    help="Connections per value; calibrated by default. Without -c: bursts, all started at once.",
)
@click.option("--role", "roles", type=roles_type, default=(), metavar="ROLE[,..]", help="server, client or both.")
@tls_options
@click.option(
    "--rtt",
    type=RoundTripTime(),
    metavar="TIME",
    help="Put a network with this round-trip time between the two sides, like 20ms; on Linux.",
)
@click.option(
    "--peer",
    metavar="NAME",
    shell_complete=complete_contender,
    help="The other side in the roles server and client; uvloop-protocol by default.",
)
@baseline_option
@label_option
@click.option(
    "--fast",
    is_flag=True,
    help="Six short blocks per case, 20 connections at a time by default: intervals, no verdict.",
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="With --fast: one block of every case of every benchmark, which proves the work and compares nothing.",
)
@click.option("--rigorous", is_flag=True, help="Sixty blocks per case, within an hour.")
@click.option("--max-time", type=Seconds(min=1), metavar="S", help="Seconds at most; 300 by default.")
@click.option("--blocks", type=click.IntRange(min=1), metavar="N", help="Blocks per case; as many as fit by default.")
@click.option(
    "--target",
    type=Share(),
    metavar="SHARE",
    help="Half-width of all primary intervals at which a case stops by itself; 1% by default.",
)
@click.option("--margin", type=Share(), default="1%", show_default=True, help="Differences up to this count as none.")
@click.option(
    "--control", is_flag=True, help="Also the baseline with 2 % more work than is counted: it must be found as slower."
)
@click.option(
    "--twins",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="N",
    help="A/A twins of the baseline; without any there is no gate, and no verdict.",
)
@seed_option
@results_option
@plugin_option
@click.option(
    "--instructions",
    is_flag=True,
    help="Count instructions with valgrind instead of taking time, one connection at a time by default: for gates on "
    "machines that are too noisy for time.",
)
@deadline_option
@click.option("--fresh", is_flag=True, hidden=True)
@click.option("--hidden", type=Listed(str, "contenders"), default=(), hidden=True)
@certificates_option
@click.option(
    "--continue",
    "continued",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Go on with the campaign in this directory, by its own plan; --max-time is how much longer.",
)
@progress_option
def run(  # click's options are described where they are declared
    *,
    instructions: bool,
    fast: bool,
    everything: bool,
    rigorous: bool,
    max_time: float | None,
    blocks: int | None,
    target: float | None,
    results: Path,
    continued: Path | None,
    no_progress: bool,
    **wishes: Any,
) -> int:
    """Measure contenders against the baseline and print the comparison."""
    if instructions:
        return count(wishes, results, wanted=not no_progress)
    if continued is not None:
        request = Request(plugin=wishes["plugin"], certificates=wishes["certificates"], deadline=wishes["deadline"])
        return go_on(continued, request, max_time, wanted=not no_progress)
    if everything:
        if not fast or rigorous or blocks is not None or target is not None:
            raise UsageError("--all is for a smoke pass: give it with --fast, and without --blocks and --target")
        if is_given("benchmarks"):
            raise UsageError("--all is every benchmark: leave out -w")
        fast, wishes = False, {**wishes, "benchmarks": tuple(registry(wishes["plugin"]).benchmarks)}
    if fast and rigorous:
        raise UsageError("--fast and --rigorous exclude each other: give one of them")
    if target is not None and (fast or blocks is not None):
        raise UsageError("--target stops by width, --blocks and --fast by number: give one of them")
    effort = plan.SMOKE if everything else plan.FAST if fast else plan.RIGOROUS if rigorous else plan.DEFAULT
    effort = dataclasses.replace(effort, seconds=max_time or effort.seconds)
    if blocks is not None:
        effort = dataclasses.replace(effort, blocks=blocks, target=None)
    elif target is not None:
        effort = dataclasses.replace(effort, target=target)
    prepared = prepare(request_of(effort, wishes))
    return measure(prepared, effort, results, wanted=not no_progress)
