"""`loopmark certs` and `loopmark check`."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click

from loopmark import certs as certificates
from loopmark.cli import BROKEN_PIPE, INTERRUPTED, USAGE, cli
from loopmark.cli.options import complete_contender, plugin_option

GRACE = 0.7
"""Seconds that an interrupted check has to clear up."""


@cli.command(
    epilog="\b\nExamples:\n  loopmark certs\n  loopmark certs --key rsa2048 --san myhost.example certs-for-two-machines"
)
@click.option("--key", type=click.Choice(certificates.KEYS), default="p256", show_default=True, help="Type of the key.")
@click.option(
    "--client-key", type=click.Choice(certificates.KEYS), help="Also make a client's certificate, with such a key."
)
@click.option("--san", "names", multiple=True, metavar="NAME", help="One more host name or address; may be repeated.")
@click.argument("directory", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
def certs(*, key: str, client_key: str | None, names: tuple[str, ...], directory: Path | None) -> None:
    """Make a throw-away authority and a server certificate, or keep those that are valid."""
    identity = certificates.ensure(directory, key=key, client_key=client_key, names=names)
    for chain in filter(None, (identity.chain, identity.client_chain)):
        click.echo(f"{chain}: {certificates.describe(chain)}")


@cli.command(
    epilog="\b\nExamples:\n  loopmark check trio\n  loopmark check --faults trio\n"
    "  loopmark check mine --plugin mine.py"
)
@click.argument("name", shell_complete=complete_contender)
@click.option(
    "--faults",
    is_flag=True,
    help="Instead: have bad peers do harm to its server and client, and see how they stand it.",
)
@plugin_option
def check(*, name: str, faults: bool, plugin: Path | None) -> int:
    """Run the contract test on one contender; status 1 when it breaks the contract."""
    # No other command needs these.
    from loopmark.testing.__main__ import BROKEN, KEPT, UNHEARD  # noqa: PLC0415

    options = [*(["--faults"] if faults else []), *(["--plugin", str(plugin)] if plugin else [])]
    command = [sys.executable, "-P", "-m", "loopmark.testing", *options, "--", str(os.getpid()), name]
    # In a session of its own Ctrl-C comes once, through us.
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as child:
        try:
            status = child.wait()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                child.wait(GRACE)
            child.kill()
            raise
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    told = {KEPT: 0, BROKEN: 1, UNHEARD: 1, USAGE: USAGE, BROKEN_PIPE: BROKEN_PIPE}
    if status not in told:
        click.echo(f"{name}: its process ended in the middle, with status {status}: nothing is proven", err=True)
    return told.get(status, 1)
