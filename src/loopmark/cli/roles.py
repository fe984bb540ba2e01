"""`loopmark serve` and `loopmark drive`: one role each, in two terminals or on two machines."""

import dataclasses
import errno
import time
from pathlib import Path

import click

from loopmark import certs, limits, tls
from loopmark.case import Benchmark
from loopmark.cli import cli
from loopmark.cli.options import Listed, complete_benchmark, complete_contender, positive
from loopmark.errors import Kind, TrafficError, UsageError, translate
from loopmark.ledger import Ledger
from loopmark.peer import read_address
from loopmark.probe import runnable
from loopmark.registry import registry
from loopmark.spi import Address, Backend, Main, Options
from loopmark.traffic import Target, churn, visit

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
certificates_option = click.option(
    "--certs",
    "directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Certificates, the same for both roles; made on first use.",
)
plugin_option = click.option("--plugin", type=click.Path(path_type=Path), metavar="FILE", help="See `loopmark run`.")


@cli.command(epilog="\b\nExamples:\n  loopmark serve tls_pingpong -b uvloop\n  loopmark serve tcp_pingpong --port 0")
@benchmark_argument
@contender_option
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Numeric address to listen on.")
@click.option("--port", default=8443, show_default=True, type=click.IntRange(0, 65535), help="0 for a free one.")
@certificates_option
@plugin_option
def serve(*, benchmark: str, contender: str, host: str, port: int, directory: Path | None, plugin: Path | None) -> None:
    """Serve a benchmark until Ctrl-C, then say what was counted."""
    question, backend = _load(benchmark, contender, plugin)
    context = tls.server_context(question.tls, certs.ensure(directory)) if question.tls else None
    ledger = Ledger(question.service)

    async def main() -> None:
        async with backend.serve(ledger.accept, Address(host, port), tls=context, options=Options()) as server:
            click.echo(f"{contender} serves {benchmark} on {read_address(server)}; Ctrl-C ends it")
            while True:
                await backend.sleep(3600.0)

    try:
        _until_interrupted(backend, main)
    except OSError as error:
        raise UsageError(_listen_failure(error, host, port)) from error
    counts = ledger.counts()
    faults = ", ".join(f"{count} {kind}" for kind, count in counts.faults.items()) or "none"
    click.echo(f"accepted {counts.accepted}, served {counts.served}, faults: {faults}")


def _until_interrupted(backend: Backend, main: Main[None]) -> None:
    """Run until Ctrl-C, which nurseries and task groups wrap into a group."""
    try:
        backend.run(main)
    except* KeyboardInterrupt:
        pass


def _listen_failure(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: give another one with --port, or --port 0 for a free one"
    return f"cannot listen on {host} port {port}: {error.strerror or error}"


@cli.command(
    epilog="\b\nExamples:\n  loopmark drive tls_pingpong -b trio\n"
    "  loopmark drive tls_pingpong -n 1000,1500,2000,2500     one line per burst\n"
    "  loopmark drive tls_pingpong -n 5000 -c 100"
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
    default="1000",
    show_default=True,
    metavar="N[,..]",
    help="Connections; one line for each number.",
)
@click.option("-c", "--concurrency", type=click.IntRange(min=1), metavar="N", help="At a time; all at once by default.")
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
    directory: Path | None,
    plugin: Path | None,
) -> None:
    """Call a server and say how fast it went. For numbers to compare, use `loopmark run`."""
    question, backend = _load(benchmark, contender, plugin)
    limits.check(concurrency or max(connections))
    client = None
    if question.tls:
        identity = certs.ensure(directory)
        client = tls.client_tls(
            question.tls, dataclasses.replace(identity, server_name=server_name or identity.server_name)
        )
    target = Target(address=Address(host, port), talk=question.talk, tls=client, options=Options())
    try:
        backend.run(lambda: visit(backend, target))
        for count in connections:
            click.echo(_drive(backend, target, count, min(concurrency or count, count)))
    except Exception as error:
        raise _calling_failure(translate(error), target.address, benchmark) from error


def _drive(backend: Backend, target: Target, connections: int, concurrency: int) -> str:
    async def timed() -> tuple[int, float, float]:
        cpu, start = time.process_time(), time.perf_counter()
        replies = await churn(backend, target, connections=connections, concurrency=concurrency)
        return replies, time.perf_counter() - start, time.process_time() - cpu

    replies, wall, cpu = backend.run(timed)
    return (
        f"{replies} connections, {concurrency} at a time: {wall:.3f} s, {replies / wall:.0f} connections/s, "
        f"{replies / cpu:.0f} connections per client-CPU-second"
    )


def _calling_failure(error: TrafficError, address: Address, benchmark: str) -> TrafficError:
    text = str(error).removeprefix(f"{error.kind}: ")
    if error.kind in (Kind.RESET, Kind.OTHER):
        return TrafficError(error.kind, f"{text}; is `loopmark serve {benchmark}` running on {address}?")
    if error.kind is Kind.CERTIFICATE:
        return TrafficError(
            error.kind, f"{text}; both roles need the same certificates: give both the same --certs DIR"
        )
    return error


def _load(benchmark: str, contender: str, plugin: Path | None) -> tuple[Benchmark, Backend]:
    known = registry(plugin)
    question, backend = known.benchmark(benchmark), runnable(known.contender(contender))
    if missing := question.needs - backend.features:
        raise UsageError(f"{contender} cannot run {benchmark}: it has no {', '.join(sorted(missing))}")
    return question, backend
