"""`loopmark drive`."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import click

from loopmark import certs, eventlog, limits, tls
from loopmark.case import UNITS, Conversation, Traffic
from loopmark.cli import cli
from loopmark.cli.options import (
    Listed,
    axes_of,
    certificates_option,
    deadline_option,
    plugin_option,
    positive,
    tls_options,
)
from loopmark.cli.roles import benchmark_argument, contender_option, key_of, load_part, numeric, verbose_option
from loopmark.deadlines import deadlines, of_traffic
from loopmark.errors import Kind, TrafficError, UsageError, translate
from loopmark.http1 import Fetch
from loopmark.report.requests import request_report
from loopmark.reqtimes import request_timings
from loopmark.resumption import resume_from_now_on
from loopmark.spi import Address, Backend, TLSProfile
from loopmark.tls import Identity
from loopmark.traffic import Stopwatch, Target, converse, visit


@cli.command(
    epilog="\b\nExamples:\n  loopmark drive tls_pingpong -b trio\n"
    "  loopmark drive tls_pingpong -n 1000,1500,2000,2500     one line per burst\n"
    "  loopmark drive tls_pingpong -n 5000 -c 100\n"
    "  loopmark drive tls_echo -b trio -v                     one connection, every event\n"
    "  loopmark drive https_static -n 3000 -c 1000 --report   requests as ab and its like report them\n"
    "  loopmark drive tls_echo --host 192.0.2.7 --server-name myhost.example"
)
@benchmark_argument
@contender_option
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="The server's numeric address.")
@click.option("--port", default=8443, show_default=True, type=click.IntRange(1, 65535), help="The server's port.")
@click.option("--server-name", metavar="NAME", help="Name to verify; localhost by default.")
@click.option(
    "-n",
    "--connections",
    type=Listed(positive, "whole numbers"),
    default=(),
    metavar="N[,..]",
    help="Connections, or round trips where they stay open; one line for each number. 1000, or 1 with -v, by default.",
)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    metavar="N",
    help="At a time; by default all, or 1 where they stay open.",
)
@click.option("--report", "reported", is_flag=True, help="Time every request of an HTTP benchmark by itself, and tell.")
@tls_options
@verbose_option
@deadline_option
@certificates_option
@plugin_option
def drive(
    *,
    benchmark: str,
    contender: str,
    host: str,
    port: int,
    server_name: str | None,
    connections: tuple[int, ...],
    concurrency: int | None,
    reported: bool,
    verbose: bool,
    deadline: float,
    certificates: Path | None,
    plugin: Path | None,
    **wishes: Any,
) -> None:
    """Call a server and say how fast it went. For numbers to compare, use `loopmark run`.

    One more connection comes first, which is not timed; with -v there is none.
    """
    numeric(host)
    question, conversation, backend = load_part(benchmark, contender, plugin, axes_of(wishes), serving=False)
    connections = connections or ((1,) if verbose else (1000,))
    if concurrency is None and conversation.traffic is Traffic.MESSAGES:
        concurrency = 1
    limits.check(concurrency or max(connections))
    client = None
    if question.tls:
        identity = _trusted(certificates or certs.default_directory(), question.tls)
        client = tls.client_tls(
            question.tls, dataclasses.replace(identity, server_name=server_name or identity.server_name)
        )
    talk, *others = conversation.talks
    if reported and not isinstance(talk, Fetch):
        raise UsageError(f"--report is about HTTP, which {benchmark} is not: give it with https_static, say")
    patience = deadlines(concurrency or max(connections), key_of(question), conversation=deadline)
    options = dataclasses.replace(patience, go_ahead=conversation.go_ahead)
    target = Target(address=Address(host, port), talk=talk, tls=client, options=options, others=tuple(others))
    if verbose:
        eventlog.start()
        backend = eventlog.TellingBackend(backend)
    try:
        if client is not None and question.tls and question.tls.resumed:
            resume_from_now_on(client, target.address, talk, options)
        if not verbose:
            # What a first connection costs more is no part of a burst.
            backend.run(lambda: visit(backend, target))
        for count in connections:
            at_once = min(concurrency or count, count)
            if reported:
                click.echo(
                    _requests(backend, target, f"{benchmark}: {contender} calls {target.address}", count, at_once)
                )
                continue
            line = _drive(backend, target, conversation, count, at_once)
            click.echo(f"{line}; telling every event slows it down" if verbose else line)
    except Exception as error:
        raise _calling_failure(translate(error), target.address, benchmark) from error


def _requests(backend: Backend, target: Target, title: str, connections: int, concurrency: int) -> str:
    timings = backend.run(lambda: request_timings(backend, target, connections=connections, concurrency=concurrency))
    return request_report(title, timings)


def _trusted(directory: Path, profile: TLSProfile) -> Identity:
    """Return whom a client trusts; where it shows no certificate, the authority's file alone will do for that."""
    ca = directory / "ca.pem"
    if profile.client_key is None and ca.exists() and not (directory / "ca.key").exists():
        return Identity(ca=ca, chain=directory / f"{profile.key}.pem", key=directory / f"{profile.key}.key")
    return certs.ensure(directory, key=profile.key, client_key=profile.client_key)


def _drive(backend: Backend, target: Target, conversation: Conversation, count: int, concurrency: int) -> str:
    clocks = _Clocks()
    watch = Stopwatch(start=clocks.start, stop=clocks.stop, rest=clocks.rest)

    async def burst() -> tuple[int, int]:
        return await converse(backend, target, conversation, watch, count=count, concurrency=concurrency)

    replies, _ = backend.run(lambda: backend.within(of_traffic(target.options, count), burst))
    unit = UNITS[conversation.traffic]
    return (
        f"{replies} {unit}{'' if replies == 1 else 's'}, {concurrency} at a time: {clocks.wall:.3f} s, "
        f"{replies / clocks.wall:.0f} {unit}s/s, {replies / clocks.cpu:.0f} {unit}s per client-CPU-second"
    )


class _Clocks:
    """Wall and CPU seconds of this process."""

    wall = cpu = 0.0

    def start(self, connections: int) -> None:
        del connections  # the server's clock is not ours to read
        self.cpu, self.wall = -time.process_time(), -time.perf_counter()

    def stop(self) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()

    def rest(self) -> None:
        pass


def _calling_failure(error: TrafficError, address: Address, benchmark: str) -> TrafficError:
    text = str(error).removeprefix(f"{error.kind}: ")
    if text.startswith(ConnectionRefusedError.__name__) or error.kind is Kind.OTHER:
        return TrafficError(error.kind, f"{text}; is `loopmark serve {benchmark}` running on {address}?")
    if error.kind is Kind.CERTIFICATE:
        return TrafficError(
            error.kind, f"{text}; both roles need the same certificates: give both the same --certs DIR"
        )
    return TrafficError(error.kind, f"{text}; was `loopmark serve {benchmark}` given the same options?")
