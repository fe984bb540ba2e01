"""`loopmark certs` and `loopmark check`."""

from pathlib import Path

import click

from loopmark import certs as certificates
from loopmark.cli import cli
from loopmark.cli.options import complete_contender
from loopmark.probe import runnable
from loopmark.registry import registry


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
@click.option("--plugin", type=click.Path(path_type=Path), metavar="FILE", help="See `loopmark run`.")
def check(*, name: str, faults: bool, plugin: Path | None) -> int:
    """Run the contract test on one contender; status 1 when it breaks the contract."""
    # No other command needs these.
    from loopmark.testing import Finding, Status, check_backend  # noqa: PLC0415
    from loopmark.testing.clientfaults import CLIENT_FAULTS, PATIENCE  # noqa: PLC0415
    from loopmark.testing.faults import check_faults  # noqa: PLC0415

    contender = registry(plugin).contender(name)
    backend, identity = runnable(contender), certificates.ensure()

    def tell(finding: Finding) -> None:
        click.echo(str(finding))

    if faults:
        findings = check_faults(contender, backend, identity, report=tell)
        findings += check_backend(backend, identity, clauses=CLIENT_FAULTS, deadline=PATIENCE, report=tell)
        what, kept = "faults did harm", f"{name} stands all faults"
    else:
        findings = check_backend(backend, identity, report=tell)
        what, kept = "clauses failed", f"{name} keeps the contract"
    failed = sum(finding.status is Status.FAILED for finding in findings)
    click.echo(f"{name}: {failed} of {len(findings)} {what}" if failed else kept)
    return int(failed > 0)
