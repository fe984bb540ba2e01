"""Collect the results of a study: `python studies/collect.py STUDY --results DIR`.

Campaigns run one after the other, the lines of a study in turns. Interrupt it at any time: what was not complete is not
counted, and the same command goes on with what is missing.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import shelf
from catalogue import STARTUP, STUDIES, Line
from loopmark import store
from loopmark.errors import LoopmarkError

PATIENCE = 3
"""So many failures one after the other are no accident: nobody wants to find in the morning what one accident ended."""


class CollectError(LoopmarkError):
    """A command line of a study did not give a complete result."""


def main(arguments: Sequence[str]) -> int:
    """Collect until nothing is missing."""
    parser = _parser()
    args = parser.parse_args(arguments)
    names = [line.name for line in STUDIES[args.study].lines]
    if unknown := [name for name in args.only if name not in names]:
        parser.error(f"{args.study} has no line {unknown[0]}: give any of {', '.join(names)}")
    # Whoever ends us with a signal ends the campaign, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        collect(args.study, args.results, args.campaigns, args.only, args.other_python)
    except CollectError as error:
        print(f"collect.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on", file=sys.stderr)
        return 130
    return 0


def collect(
    study: str,
    results: Path,
    campaigns: int | None = None,
    only: Sequence[str] = (),
    other_python: str | None = None,
) -> None:
    """Run the lines of a study in turns until each has its results; `campaigns` replaces how many it wants."""
    lines = [line for line in STUDIES[study].lines if not only or line.name in only]
    if not other_python and any(line.other_python for line in lines):
        print("without --other-python no other interpreter is measured")
        lines = [line for line in lines if not line.other_python]
    wanted = {line.name: campaigns or line.wanted for line in lines}
    failures = 0
    while line := following(lines, wanted, {line.name: _count(results, study, line) for line in lines}):
        there = _count(results, study, line)
        print(f"{study} {line.name}: {there + 1} of {wanted[line.name]}, {line.seconds} s", flush=True)
        python = other_python if line.other_python and other_python else sys.executable
        try:
            _run(line, results / study / line.name, python)
            failures = 0
        except CollectError as error:
            failures += 1
            print(error, file=sys.stderr, flush=True)
            if failures == PATIENCE:
                raise


def following(lines: Sequence[Line], wanted: Mapping[str, int], there: Mapping[str, int]) -> Line | None:
    """Return the line that is furthest behind, so that a machine's hours are shared by all; None when all is there."""
    open_ = [line for line in lines if there[line.name] < wanted[line.name]]
    return min(open_, key=lambda line: there[line.name] / wanted[line.name], default=None)


def commands(line: Line, python: str, directory: Path) -> list[list[str]]:
    """Return what has to be run, one after the other, to make one directory with one result in `directory`."""
    if line.stock:
        made = directory / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        made.mkdir()
        return [
            [python, "-m", "loopmark.cell", "--quiet", *line.arguments, "-o", str(made / name)]
            for name in shelf.STOCK_FILES
        ]
    return [
        [*line.prefix, python, "-m", "loopmark", "run", *line.arguments, "--no-progress", "--results", str(directory)]
    ]


def _count(results: Path, study: str, line: Line) -> int:
    return len(shelf.complete(results, study, line.name))


def _run(line: Line, directory: Path, python: str) -> None:
    """Make one result beside the others, and put it among them when it is complete."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=shelf.UNFINISHED) as name:
        unfinished = Path(name)
        for command in commands(line, python, unfinished):
            status = _status(command, line.environment)
            # 1 is how a campaign says that something was retired, or that it is invalid: that is a result.
            if status not in ((0,) if line.stock else (0, 1)) or not any(unfinished.iterdir()):
                raise CollectError(f"status {status} of: {' '.join(command)}")
        (made,) = unfinished.iterdir()
        if line.stock:
            made.rename(directory / made.name)
            return
        campaign = store.load_counts(made).campaign if line.counts else store.load(made)
        if (ended := campaign.ended) not in shelf.COMPLETE:
            raise CollectError(f"it ended early ({ended}): {' '.join(command)}")
        shelf.pack(made, directory)


def _status(command: Sequence[str], environment: Mapping[str, str]) -> int:
    changed = {**os.environ, **environment}
    if "LOOPMARK_STUDY" in environment:
        changed["PYTHONPATH"] = str(STARTUP)
    process = subprocess.Popen(command, env=changed, stdout=subprocess.DEVNULL)
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "study", choices=STUDIES, help="; ".join(f"{name}: {each.question}" for name, each in STUDIES.items())
    )
    parser.add_argument("--results", type=Path, default=shelf.RESULTS, metavar="DIR", help=f"default: {shelf.RESULTS}")
    parser.add_argument("--campaigns", type=int, metavar="N", help="of each line; by default what the study wants")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=(), metavar="LINE[,..]", help="not all lines"
    )
    parser.add_argument("--other-python", metavar="PATH", help="another interpreter with loopmark, uvloop, trio, anyio")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
