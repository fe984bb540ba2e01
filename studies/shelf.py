"""Where the results of studies lie: `<results>/<study>/<line>/<one result>`. Only what is complete lies there.

A campaign is its `campaign.json`, or `instructions.json`, compressed, in one file `<campaign>.json.xz`: a study has a
hundred of them, and they are committed, so that anybody can render the tables again and go on where the last one
stopped. A pair of stock pyperf files is a directory.
"""

import lzma
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pyperf

from catalogue import STUDIES, Line
from loopmark import store
from loopmark.counts import Counts
from loopmark.record import Campaign

T = TypeVar("T")

RESULTS = Path(__file__).parent / "recorded"
UNFINISHED = ".unfinished-"
"""Begins the name of a directory that is still written to, or that nobody came to remove."""

STOCK_FILES = ("asyncio-1.json.gz", "asyncio-2.json.gz")

PACKED = ".json.xz"

COMPLETE = ("done", "time cap")
"""How a campaign ends that nothing has ended early."""


def complete(results: Path, study: str, line: str) -> list[Path]:
    """Return where a line's results are, the oldest first."""
    directory = results / study / line
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if not path.name.startswith("."))


def campaigns(results: Path, study: str, line: str) -> list[Campaign]:
    """Load a line's campaigns."""
    return [unpacked(path) for path in complete(results, study, line)]


def counts(results: Path, study: str, line: str) -> list[Counts]:
    """Load what a line has counted."""
    return [_unpacked(path, store.COUNTS_FILE, store.load_counts) for path in complete(results, study, line)]


def pack(campaign: Path, directory: Path) -> None:
    """Put a campaign, given by its directory, among a line's results."""
    name = store.COUNTS_FILE if store.has_counts(campaign) else store.FILE
    content = lzma.compress((campaign / name).read_bytes())
    with tempfile.TemporaryDirectory(dir=directory, prefix=UNFINISHED) as name:
        unfinished = Path(name) / f"{campaign.name}{PACKED}"
        unfinished.write_bytes(content)
        unfinished.rename(directory / unfinished.name)


def unpacked(path: Path) -> Campaign:
    """Load a campaign that was packed."""
    return _unpacked(path, store.FILE, store.load)


def _unpacked(path: Path, name: str, load: Callable[[Path], T]) -> T:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / name).write_bytes(lzma.decompress(path.read_bytes()))
        return load(Path(directory))


def pairs(results: Path, study: str, line: str) -> list[tuple[pyperf.Benchmark, pyperf.Benchmark]]:
    """Load a line's pairs of stock pyperf files."""
    return [
        (pyperf.Benchmark.load(str(path / STOCK_FILES[0])), pyperf.Benchmark.load(str(path / STOCK_FILES[1])))
        for path in complete(results, study, line)
    ]


def lines(study: str, *, stock: bool = False) -> Iterator[Line]:
    """Yield the lines of a study that give campaigns, or pairs of stock files."""
    yield from (line for line in STUDIES[study].lines if line.stock is stock)


def origin(found: Sequence[Campaign]) -> str:
    """Say in one sentence where numbers come from: how many campaigns, when, where, with what."""
    if not found:
        return ""
    days = sorted({each.started[:10] for each in found})
    machines = sorted({_machine(each) for each in found})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    lost = sum(len(each.dropped) for each in found)
    return (
        f"{len(found)} campaigns, {when}, with {sum(len(each.blocks) for each in found)} blocks"
        f" ({lost} dropped){_slices(found)}; {'; '.join(machines)}."
    )


def _slices(found: Sequence[Campaign]) -> str:
    """Tell how long the slices were in which arms took turns: ratios of many arms depend on it."""
    blocks = [block for each in found for block in each.blocks if not block.field]
    lengths = {one.metadata.get("slice") for block in blocks for one in block.measurements.values()}
    told = [f"{1000 * float(each):g} ms" if each else "none" for each in sorted(lengths, key=lambda each: each or 0)]
    return f", slices of {' and '.join(told)}" if any(lengths) else ""


def _machine(campaign: Campaign) -> str:
    facts = campaign.machine
    python, cpu, source = facts["python"], facts["cpu"], facts["source"]
    build = "with PGO" if python["pgo"] else "without PGO"
    revision = f" ({source['revision'][:12]})" if source else ""
    return (
        f"{cpu['model']}, {cpu['logical_cores']} cores, {python['implementation']} {python['version']} {build}, "
        f"{facts['openssl']}, loopmark {facts['versions']['loopmark']}{revision}"
    )
