"""What lies in a directory that is to be published: a campaign, or counts of instructions; or why it is neither."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from loopmark import store
from loopmark.counts import Counts
from loopmark.errors import DamagedError, UsageError
from loopmark.judgement import Gate
from loopmark.record import Campaign
from loopmark.report.figures import figures

FILES = (store.FILE, store.COUNTS_FILE)

FINISHED = ("done", "time cap")
"""How a campaign ends that ran as it was meant to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One directory with results, read."""

    directory: Path
    """Absolute."""
    content: Campaign | Counts
    files: tuple[str, ...]
    """Names of the raw files."""
    gates: tuple[tuple[str, Gate], ...]
    """The name of each case with what its own controls say; none for counts, which have no controls."""

    @property
    def name(self) -> str:
        """Return the name of the directory."""
        return self.directory.name

    @property
    def campaign(self) -> Campaign:
        """Return the campaign; that of counts has no blocks."""
        return self.content.campaign if isinstance(self.content, Counts) else self.content

    @property
    def moment(self) -> str:
        """Tell when it began, to the minute."""
        return f"{self.campaign.started[:16].replace('T', ' ')} UTC"

    @property
    def address(self) -> str:
        """Return what links from the index lead to."""
        return f"{quote(self.name)}/"

    @property
    def stamps(self) -> tuple[str, ...]:
        """Return what must be read before anything else, in capitals; empty for a campaign that is as it should be."""
        campaign = self.campaign
        gates = [gate for _, gate in self.gates]
        invalid = gates.count(Gate.INVALID)
        found = ["INVALID" if invalid == len(gates) else "INVALID IN PART"] if invalid else []
        return (*found, *([] if campaign.ended in FINISHED else ["UNFINISHED"]))


def directories(paths: Sequence[Path]) -> Iterator[Path | str]:
    """Yield the directories that some paths stand for, each once; for a path that is none, a sentence that says so.

    A directory of results stands for everything in it that could be published.
    """
    seen = set()
    for path in paths:
        for found in _within(path):
            known = found.resolve() if isinstance(found, Path) else found
            if known not in seen:
                seen.add(known)
                yield found


def _within(path: Path) -> list[Path | str]:
    try:
        if path.name in FILES and path.is_file():
            return [path.parent]
        if not path.exists():
            return [f"{path}: there is no such directory"]
        if not path.is_dir():
            return [f"{path}: this is a file; give the directory of a campaign"]
        if has_results(path):
            return [path]
        below = sorted(each for each in path.iterdir() if each.is_dir() and has_results(each))
    except OSError as error:
        return [f"{path}: it cannot be read ({error.strerror or error})"]
    return [*below] or [f"{path}: this is no campaign, nor a directory of campaigns: there is no {' or '.join(FILES)}"]


def has_results(path: Path) -> bool:
    """Tell whether a directory has what `read` reads."""
    return any((path / name).is_file() for name in FILES)


def read(directory: Path) -> Entry:
    """Read a directory's campaign or counts.

    Raises DamagedError for what cannot be read, and UsageError where there are both, which no command makes.
    """
    if all((directory / name).is_file() for name in FILES):
        raise UsageError(f"{directory}: it has both {' and '.join(FILES)}; leave the one that belongs there")
    content = store.load_counts(directory) if store.has_counts(directory) else store.load(directory)
    try:
        files = sorted(each.name for each in directory.iterdir() if each.suffix == ".json" and each.is_file())
    except OSError as error:
        raise DamagedError(f"{directory}: it cannot be read ({error.strerror or error})") from error
    return Entry(directory=directory.resolve(), content=content, files=tuple(files), gates=tuple(_gates(content)))


def _gates(content: Campaign | Counts) -> Iterator[tuple[str, Gate]]:
    if isinstance(content, Campaign):
        for plan in content.cases:
            yield plan.case.name, figures(content, plan).judgement.gate
