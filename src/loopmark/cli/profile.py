"""`loopmark profile`."""

import re
from pathlib import Path
from typing import Any

import click

from loopmark import plan, pyspy
from loopmark.campaign import prepare
from loopmark.case import Role, Traffic
from loopmark.certs import KEYS
from loopmark.cli import cli
from loopmark.cli.options import (
    Seconds,
    certificates_option,
    complete_benchmark,
    complete_contender,
    plugin_option,
    request_of,
)
from loopmark.errors import UnavailableError, UsageError
from loopmark.profiling import SIDES, Processes, Subject, check_output, profile
from loopmark.record import Kind
from loopmark.registry import registry
from loopmark.report.profile import profile_report
from loopmark.tls import VERSIONS

EPILOG = """\b
Examples:
  loopmark profile tls_pingpong -b uvloop              the server's side
  loopmark profile tls_pingpong -b trio --side client
  loopmark profile tls_pingpong -b asyncio --key rsa2048 -c 1000
  loopmark profile tcp_pingpong -b anyio --output anyio.svg

\b
A flame graph needs py-spy: pip install py-spy
"""

QUIET = 2.0
"""Seconds that a command may be silent for."""


@cli.command("profile", epilog=EPILOG)
@click.argument("benchmark", shell_complete=complete_benchmark)
@click.option(
    "-b",
    "--contender",
    default="asyncio",
    show_default=True,
    metavar="NAME",
    shell_complete=complete_contender,
    help="Who is profiled.",
)
@click.option("--side", type=click.Choice(SIDES), default="server", show_default=True, help="Which side it plays.")
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="Connections at a time.",
)
@click.option(
    "--seconds",
    type=Seconds(min=0.1, max=600),
    default=3.0,
    show_default=True,
    metavar="S",
    help="Of traffic in each of the two or three runs.",
)
@click.option("--tls", "version", type=click.Choice(VERSIONS), help="Version of TLS; the benchmark's own by default.")
@click.option("--key", type=click.Choice(KEYS), help="The server's key; the benchmark's own by default.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="For the flame graph; profile-BENCHMARK-NAME-SIDE.svg by default. Never overwritten.",
)
@click.option(
    "--peer",
    metavar="NAME",
    shell_complete=complete_contender,
    help=f"The other side; by default the first that is installed of {', '.join(plan.PEERS)}.",
)
@plugin_option
@certificates_option
def profile_command(
    *,
    benchmark: str,
    contender: str,
    side: str,
    concurrency: int,
    seconds: float,
    version: str | None,
    key: str | None,
    output: Path | None,
    **wishes: Any,
) -> None:
    """Show where one side's CPU time goes: TLS, kernel, functions, and a flame graph.

    For finding out what is slow; who is faster is the question of `loopmark run`.
    """
    tool = pyspy.find()
    if output is not None and tool is None:
        raise UnavailableError(f"--output is for a flame graph, and {pyspy.MISSING}")
    asked = {
        "contenders": (contender,),
        "baseline": contender,
        "twins": 0,
        "benchmarks": (benchmark,),
        "roles": (Role(side),),
        "concurrencies": (concurrency,),
        "versions": (version,) if version else (),
        "keys": (key,) if key else (),
    }
    subject = subject_of(asked | wishes, side)
    file = output or Path(default_name(benchmark, subject.contender, side))
    if tool is not None:
        check_output(file)

    def tell(what: str) -> None:
        if seconds * (2 if tool is None else 3) > QUIET:
            click.echo(f"{what}, {seconds:g} s", err=True)

    found = profile(subject, Processes(), seconds=seconds, tool=tool, output=file, tell=tell)
    click.echo(profile_report(found), nl=False)


def subject_of(wishes: dict[str, Any], side: str) -> Subject:
    """Resolve what is asked for, as `loopmark run` would, to the one case whose one side is profiled."""
    (name,) = wishes["benchmarks"]
    asked = registry(wishes["plugin"]).benchmark(name)
    if Role(side) not in asked.roles:
        raise UsageError(f"{name} has no role {side}: there is no side of its own to be profiled")
    prepared = prepare(request_of(plan.DEFAULT, wishes))
    # Of a benchmark with several cases the first, as in `loopmark serve`.
    planned = prepared.campaign.cases[0]
    (arm,) = (each for each in planned.arms if each.kind is Kind.CONTENDER)
    server, client, _ = prepared.assign(planned.case, arm)
    traffic = server.conversation().traffic
    if traffic is Traffic.IDLE:
        raise UsageError(f"{planned.case.benchmark} has connections that do nothing: there is no time to profile")
    return Subject(
        contender=arm.label,
        side=side,
        case=planned.case,
        unit=planned.unit,
        server=server,
        client=client,
        has_floor=any(each.kind is Kind.FLOOR for each in planned.arms),
    )


def default_name(benchmark: str, contender: str, side: str) -> str:
    """Name the flame graph's file."""
    return re.sub(r"[^\w.+-]+", "-", f"profile-{benchmark}-{contender}-{side}.svg")
