"""`loopmark check` in a process of its own: whoever is checked may end it, or leave threads that never end.

Run as `python -m loopmark.testing PARENT NAME [--faults] [--plugin FILE]`. Only its last words are believed: the exit
status KEPT or BROKEN, or UNHEARD after a complaint, which nobody uses by chance.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from loopmark import certs
from loopmark.errors import LoopmarkError
from loopmark.peer import die_with_parent
from loopmark.probe import runnable
from loopmark.registry import registry
from loopmark.testing import Finding, Status, check_backend
from loopmark.testing.clientfaults import CLIENT_FAULTS, PATIENCE
from loopmark.testing.faults import check_faults

REFUSED, INTERRUPTED = 2, 130
BROKEN_PIPE = 141
KEPT, BROKEN, UNHEARD = 64, 65, 66


def main(arguments: Sequence[str]) -> int:
    """Check one contender, and tell every finding as it comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parent", type=int)
    parser.add_argument("name")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--plugin", type=Path)
    args = parser.parse_args(arguments)
    die_with_parent(args.parent)
    # A shell's background jobs ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _check(args.name, args.plugin, faults=args.faults)
    except LoopmarkError as error:
        sys.stderr.write(f"loopmark: {error}\n")
        return REFUSED
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError as error:
        # A full disk behind standard output, or a system that gives no more processes or files.
        sys.stderr.write(f"loopmark: the system refuses: {error}\n")
        return UNHEARD
    except KeyboardInterrupt:
        return INTERRUPTED


def _check(name: str, plugin: Path | None, *, faults: bool) -> int:
    contender = registry(plugin).contender(name)
    backend, identity = runnable(contender), certs.ensure()

    def tell(said: Finding | str) -> None:
        sys.stdout.write(f"{said}\n")
        sys.stdout.flush()

    if faults:
        findings = check_faults(contender, backend, identity, report=tell)
        findings += check_backend(backend, identity, clauses=CLIENT_FAULTS, deadline=PATIENCE, report=tell)
        what, kept = "faults did harm", f"{name} stands all faults"
    else:
        findings = check_backend(backend, identity, report=tell)
        what, kept = "clauses failed", f"{name} keeps the contract"
    failed = sum(finding.status is Status.FAILED for finding in findings)
    tell(f"{name}: {failed} of {len(findings)} {what}" if failed else kept)
    return BROKEN if failed else KEPT


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    # Not `sys.exit`: that would wait for threads of whoever was checked.
    os._exit(status)
