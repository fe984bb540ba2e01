"""What `loopmark serve` and `loopmark drive` have in common: one role each, in two terminals or on two machines."""

import dataclasses
import ipaddress
from pathlib import Path

import click

from loopmark import tls
from loopmark.case import Benchmark, Conversation, Traffic
from loopmark.cli.options import complete_benchmark, complete_contender
from loopmark.errors import UsageError
from loopmark.plan import Axes
from loopmark.probe import runnable
from loopmark.registry import registry
from loopmark.spi import Backend

benchmark_argument = click.argument("benchmark", shell_complete=complete_benchmark)
contender_option = click.option(
    "-b",
    "--contender",
    default="asyncio",
    show_default=True,
    metavar="NAME",
    shell_complete=complete_contender,
    help="Who plays the role.",
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Tell every event on standard error, with its time and the peer's address."
)


def load_part(
    benchmark: str, contender: str, plugin: Path | None, axes: Axes, *, serving: bool
) -> tuple[Benchmark, Conversation, Backend]:
    """Load a benchmark, the conversation that is meant, and a contender that can play its part."""
    known = registry(plugin)
    question, backend = _asked(known.benchmark(benchmark), axes), runnable(known.contender(contender))
    _, colon, variant = benchmark.partition(":")
    variant = variant if colon else next(iter(question.conversations))
    conversation = question.conversation(variant)
    if conversation.traffic not in (Traffic.CHURN, Traffic.MESSAGES):
        raise UsageError(
            f"{benchmark} is no conversation of one client and one server: use loopmark run -w {benchmark}"
        )
    if missing := question.needs(variant, serving=serving, calling=not serving) - backend.features:
        raise UsageError(f"{contender} cannot run {benchmark}: it has no {', '.join(sorted(missing))}")
    return question, conversation, backend


def _asked(question: Benchmark, axes: Axes) -> Benchmark:
    """Return a benchmark with the one way of doing TLS that is asked for; raises UsageError where that cannot be."""
    if question.tls is None and axes != Axes():
        raise UsageError(f"{question.name} has no TLS: leave its options out, or take another benchmark")
    profile, *others = axes.profiles(question.tls)
    if others:
        raise UsageError("one server has one version of TLS and one key: give one of each")
    if profile is not None:
        tls.check(profile)
    return dataclasses.replace(question, tls=profile)


def key_of(question: Benchmark) -> str | None:
    """Return the type of the server's key, None without TLS."""
    return question.tls.key if question.tls else None


def numeric(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address; raises UsageError for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(
            f"{host!r} is no numeric address: give one like 192.0.2.7 with --host; names are for --server-name of "
            "`loopmark drive`"
        ) from None
