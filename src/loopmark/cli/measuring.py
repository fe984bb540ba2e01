"""`loopmark run`."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import click

from loopmark import plan
from loopmark.campaign import Request, prepare
from loopmark.case import ROLES
from loopmark.certs import KEYS
from loopmark.cli import cli
from loopmark.cli.conducting import go_on, measure
from loopmark.cli.counting import count
from loopmark.cli.options import (
    Listed,
    RoundTripTime,
    Share,
    benchmark_names,
    complete_contender,
    contender_names,
    one_of,
    one_role,
    positive,
    request_of,
)
from loopmark.deadlines import CONVERSATION
from loopmark.errors import UsageError
from loopmark.registry import registry
from loopmark.tls import VERSIONS

EPILOG = """\b
Examples:
  loopmark run                                  the default campaign: two tables in five minutes
  loopmark run --fast                           the same in a minute, with wide intervals
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
@click.option(
    "-b",
    "--contender",
    "contenders",
    type=Listed(str, "contenders", contender_names),
    default=(),
    metavar="NAME[,..]",
    help="Who takes part, besides the baseline; everybody by default.",
)
@click.option(
    "-w",
    "--benchmark",
    "benchmarks",
    type=Listed(str, "benchmarks", benchmark_names),
    default="tls_pingpong",
    metavar="NAME[:CASE][,..]",
    show_default=True,
    help="What is measured: all cases of a benchmark, or one.",
)
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
@click.option(
    "--tls",
    "versions",
    type=Listed(one_of(VERSIONS), "TLS versions"),
    default=(),
    metavar="VERSION[,..]",
    help="1.2 or 1.3; 1.3 by default. This and the next six are for benchmarks with TLS.",
)
@click.option(
    "--key",
    "keys",
    type=Listed(one_of(KEYS), "key types"),
    default=(),
    metavar="TYPE[,..]",
    help=f"The server's key: {', '.join(KEYS)}.",
)
@click.option("--cipher", metavar="NAME", help="OpenSSL's name of the one cipher, with TLS 1.2 only.")
@click.option("--group", metavar="NAME", help="The key exchange: X25519, prime256v1, ...")
@click.option("--tickets", type=click.IntRange(min=0), metavar="N", help="Session tickets after a handshake.")
@click.option("--tls-resume", "resumed", is_flag=True, help="Every handshake takes up an older session.")
@click.option(
    "--client-key", type=click.Choice(KEYS), help="Clients show a certificate with such a key; servers verify it."
)
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
@click.option(
    "--baseline",
    metavar="NAME",
    default="asyncio",
    show_default=True,
    shell_complete=complete_contender,
    help="What all ratios refer to.",
)
@click.option("--label", metavar="TEXT", help="Name of the campaign; CPU model and core count by default.")
@click.option("--fast", is_flag=True, help="Six short blocks per case: intervals, no verdict.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="With --fast: one block of every case of every benchmark, which proves the work and compares nothing.",
)
@click.option("--rigorous", is_flag=True, help="Sixty blocks per case, within an hour.")
@click.option("--max-time", type=click.FloatRange(min=1), metavar="S", help="Seconds at most; 300 by default.")
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
    "--twins", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="A/A twins of the baseline."
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="For the order of the arms; random by default.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default="results",
    show_default=True,
    metavar="DIR",
    help="Where the campaign's directory is made.",
)
@click.option(
    "--plugin",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A Python file with any of the dicts backends, loops, benchmarks (name to object). It is run.",
)
@click.option(
    "--instructions",
    is_flag=True,
    help="Count instructions with valgrind instead of taking time, one connection at a time by default: for gates on "
    "machines that are too noisy for time.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    default=CONVERSATION,
    show_default=True,
    metavar="S",
    help="Seconds that one conversation may take; where many handshakes queue, time for those is added.",
)
@click.option("--fresh", is_flag=True, hidden=True)
@click.option("--hidden", type=Listed(str, "contenders"), default=(), hidden=True)
@click.option(
    "--certs",
    "certificates",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where certificates are, and made on first use.",
)
@click.option(
    "--continue",
    "continued",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Go on with the campaign in this directory, by its own plan; --max-time is how much longer.",
)
@click.option("--no-progress", is_flag=True, help="Print the result only.")
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
    if max_time is not None and not math.isfinite(max_time):
        raise UsageError(f"--max-time {max_time}: give a number of seconds")
    if continued is not None:
        request = Request(plugin=wishes["plugin"], certificates=wishes["certificates"], deadline=wishes["deadline"])
        return go_on(continued, request, max_time, wanted=not no_progress)
    if everything:
        if not fast or rigorous or blocks is not None or target is not None:
            raise UsageError("--all is for a smoke pass: give it with --fast, and without --blocks and --target")
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
