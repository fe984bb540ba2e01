"""`loopmark serve` and `loopmark drive`: one role each, in two terminals or on two machines."""

import contextlib
import dataclasses
import errno
import ipaddress
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from loopmark import certs, eventlog, limits, tls
from loopmark.case import UNITS, Benchmark, Conversation, Traffic
from loopmark.cli import cli
from loopmark.cli.options import Listed, complete_benchmark, complete_contender, positive
from loopmark.deadlines import CONVERSATION, deadlines, of_traffic
from loopmark.errors import Kind, TrafficError, UsageError, translate
from loopmark.http1 import Fetch
from loopmark.ledger import Ledger
from loopmark.peer import read_address
from loopmark.probe import runnable
from loopmark.registry import registry
from loopmark.report.requests import request_report
from loopmark.reqtimes import request_timings
from loopmark.resumption import resume_from_now_on
from loopmark.spi import Address, Backend
from loopmark.tls import Identity
from loopmark.traffic import Stopwatch, Target, converse, visit

SERVED_AT_ONCE = 2500
"""Handshakes for which a server's deadlines are made, as it does not know how many there will be."""

LOOK_EVERY = 0.2
"""Seconds between two looks whether a server is to end."""

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


deadline_option = click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    default=CONVERSATION,
    show_default=True,
    metavar="S",
    help="Seconds that one conversation may take; where many handshakes queue, time for those is added.",
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Tell every event on standard error, with its time and the peer's address."
)


@cli.command(
    epilog="\b\nExamples:\n  loopmark serve tls_pingpong -b uvloop\n  loopmark serve tcp_pingpong --port 0\n"
    "  loopmark serve tls_echo -b trio -v                        every event\n"
    "  loopmark serve tls_echo --host 192.0.2.7 --public         for other machines"
)
@benchmark_argument
@contender_option
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Numeric address to listen on.")
@click.option("--port", default=8443, show_default=True, type=click.IntRange(0, 65535), help="0 for a free one.")
@click.option("--public", is_flag=True, help="Listen on an address that others can reach.")
@verbose_option
@deadline_option
@certificates_option
@plugin_option
def serve(
    *,
    benchmark: str,
    contender: str,
    host: str,
    port: int,
    public: bool,
    verbose: bool,
    deadline: float,
    directory: Path | None,
    plugin: Path | None,
) -> None:
    """Serve a benchmark until Ctrl-C or SIGTERM, then say what was counted."""
    _check_served(host, public=public)
    question, conversation, backend = _load(benchmark, contender, plugin, serving=True)
    context = None
    if question.tls:
        context = tls.server_context(question.tls, certs.ensure(directory, key=question.tls.key))
    ledger = Ledger(conversation.service)
    accept = eventlog.telling(ledger.accept) if verbose else ledger.accept
    # Whoever calls decides how many there are at a time.
    patience = deadlines(SERVED_AT_ONCE, _key(question), conversation=deadline)
    options = dataclasses.replace(patience, go_ahead=conversation.go_ahead)
    reach = ", for whoever can reach that address" if public else ""
    if verbose:
        eventlog.start()

    async def main() -> None:
        async with backend.serve(accept, Address(host, port), tls=context, options=options) as server:
            click.echo(f"{contender} serves {benchmark} on {read_address(server)}{reach}; Ctrl-C ends it")
            while not ending:
                await backend.sleep(LOOK_EVERY)

    with _ended_by_signals() as ending:
        try:
            backend.run(main)
        except OSError as error:
            raise UsageError(_listen_failure(error, host, port)) from error
    counts = ledger.counts()
    faults = ", ".join(f"{count} {kind}" for kind, count in counts.faults.items()) or "none"
    click.echo(f"accepted {counts.accepted}, served {counts.served}, faults: {faults}")


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[list[int]]:
    """Collect the signals that ask for the end, instead of having loops interrupted: not all of them stand that.

    A signal that is ignored stays so: shells do that to SIGINT of jobs in the background. Whoever presses Ctrl-C again
    means it.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        came.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    wanted = [
        each for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is not signal.SIG_IGN
    ]
    before = {each: signal.signal(each, note) for each in wanted}
    try:
        yield came
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _check_served(host: str, *, public: bool) -> None:
    address = _numeric(host)
    if not public and not address.is_loopback:
        raise UsageError(
            f"{host} is no loopback address, and whoever reaches it could connect: add --public if they shall"
        )


def _numeric(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(
            f"{host!r} is no numeric address: give one like 192.0.2.7 with --host; names are for --server-name of "
            "`loopmark drive`"
        ) from None


def _listen_failure(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: give another one with --port, or --port 0 for a free one"
    return f"cannot listen on {host} port {port}: {error.strerror or error}"


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
    directory: Path | None,
    plugin: Path | None,
) -> None:
    """Call a server and say how fast it went. For numbers to compare, use `loopmark run`."""
    _numeric(host)
    question, conversation, backend = _load(benchmark, contender, plugin, serving=False)
    connections = connections or ((1,) if verbose else (1000,))
    if concurrency is None and conversation.traffic is Traffic.MESSAGES:
        concurrency = 1
    limits.check(concurrency or max(connections))
    client = None
    if question.tls:
        identity = _trusted(directory or certs.default_directory(), question.tls.key)
        client = tls.client_tls(
            question.tls, dataclasses.replace(identity, server_name=server_name or identity.server_name)
        )
    talk, *others = conversation.talks
    if reported and not isinstance(talk, Fetch):
        raise UsageError(f"--report is about HTTP, which {benchmark} is not: give it with https_static, say")
    patience = deadlines(concurrency or max(connections), _key(question), conversation=deadline)
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


def _trusted(directory: Path, key: str) -> Identity:
    """Return whom a client trusts, which is all that it needs: on a machine of its own the authority's file will do."""
    ca = directory / "ca.pem"
    if ca.exists() and not (directory / "ca.key").exists():
        return Identity(ca=ca, chain=directory / f"{key}.pem", key=directory / f"{key}.key")
    return certs.ensure(directory, key=key)


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


def _key(question: Benchmark) -> str | None:
    return question.tls.key if question.tls else None


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
    if error.kind in (Kind.RESET, Kind.OTHER):
        return TrafficError(error.kind, f"{text}; is `loopmark serve {benchmark}` running on {address}?")
    if error.kind is Kind.CERTIFICATE:
        return TrafficError(
            error.kind, f"{text}; both roles need the same certificates: give both the same --certs DIR"
        )
    return error


def _load(
    benchmark: str, contender: str, plugin: Path | None, *, serving: bool
) -> tuple[Benchmark, Conversation, Backend]:
    """Load a benchmark, the conversation that is meant, and a contender that can play its part."""
    known = registry(plugin)
    question, backend = known.benchmark(benchmark), runnable(known.contender(contender))
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
