"""`loopmark serve`."""

import contextlib
import dataclasses
import errno
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click

from loopmark import certs, eventlog, tls
from loopmark.cli import cli
from loopmark.cli.options import axes_of, certificates_option, deadline_option, plugin_option, tls_options
from loopmark.cli.roles import benchmark_argument, contender_option, key_of, load_part, numeric, verbose_option
from loopmark.deadlines import deadlines
from loopmark.errors import UsageError
from loopmark.ledger import Ledger
from loopmark.listening import read_address
from loopmark.spi import Address

SERVED_AT_ONCE = 2500
"""Handshakes for which a server's deadlines are made, as it does not know how many there will be."""

LOOK_EVERY = 0.2
"""Seconds between two looks whether a server is to end."""


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
@tls_options
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
    certificates: Path | None,
    plugin: Path | None,
    **wishes: Any,
) -> None:
    """Serve a benchmark until Ctrl-C or SIGTERM, then say what was counted."""
    _check_served(host, public=public)
    question, conversation, backend = load_part(benchmark, contender, plugin, axes_of(wishes), serving=True)
    context = None
    if question.tls:
        identity = certs.ensure(certificates, key=question.tls.key, client_key=question.tls.client_key)
        context = tls.server_context(question.tls, identity)
    ledger = Ledger(conversation.service)
    accept = eventlog.telling(ledger.accept) if verbose else ledger.accept
    # Whoever calls decides how many there are at a time.
    patience = deadlines(SERVED_AT_ONCE, key_of(question), conversation=deadline)
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
    failed = 0 if context is None else tls.unfinished(context)
    # Some libraries drop those, and tell nobody; of others they are among the faults, too.
    handshakes = f"; {failed} handshake{'s' * (failed != 1)} begun and not completed" if failed else ""
    click.echo(f"accepted {counts.accepted}, served {counts.served}, faults: {faults}{handshakes}")


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
    address = numeric(host)
    if not public and not address.is_loopback:
        raise UsageError(
            f"{host} is no loopback address, and whoever reaches it could connect: add --public if they shall"
        )


def _listen_failure(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: give another one with --port, or --port 0 for a free one"
    return f"cannot listen on {host} port {port}: {error.strerror or error}"
