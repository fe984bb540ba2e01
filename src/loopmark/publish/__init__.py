"""Makes campaigns public: a page for each, an index and a history of all that lie beside each other.

Everything is rendered from what is stored, so that writing it again changes nothing. Of files that are there already
only those are replaced that begin with our mark, and pictures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loopmark.charts import specs
from loopmark.charts.chart import Chart
from loopmark.errors import DamagedError, UsageError
from loopmark.publish import history, index, page
from loopmark.publish.entry import Entry, directories, has_results, read
from loopmark.publish.history import Series, series
from loopmark.record import Campaign

__all__ = ["Shelf", "charts_of", "publish", "published"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """All published campaigns of one directory: those that have a page."""

    entries: tuple[Entry, ...]
    damaged: dict[str, str]
    """By name, why others cannot be read."""
    history: tuple[Series, ...]

    @property
    def pages(self) -> dict[str, str]:
        """Return the pages about all of them, by the name of their file."""
        return {index.FILE: index.index(self.entries, self.damaged), history.FILE: history.history(self.history)}

    @property
    def charts(self) -> list[Chart]:
        """Return the charts of the history."""
        return [each.chart for each in self.history if each.steps]


def publish(
    paths: Sequence[Path], draw: Callable[[Chart], str], tell: Callable[[Path], None]
) -> tuple[list[Shelf], list[str]]:
    """Write the pages of some campaigns, then index and history of the directories they lie in.

    A path is a campaign's directory, or one with campaigns in it. `draw` makes SVG of a chart; `tell` is called with
    every page that stands. Returns those directories, and a sentence for everything that could not be published; the
    rest goes on. Raises what `draw` raises.
    """
    parents: dict[Path, None] = {}
    complaints = []
    for found in directories(paths):
        if isinstance(found, str):
            complaints.append(found)
            continue
        parents[found.resolve().parent] = None
        try:
            entry = read(found)
            _write(found, {page.FILE: page.page(entry, charts_of(entry))}, charts_of(entry), draw)
        except (DamagedError, UsageError) as error:
            complaints.append(str(error))
        else:
            tell(found / page.FILE)
    shelves = [(parent, published(parent)) for parent in parents]
    for parent, shelf in shelves:
        try:
            _write(parent, shelf.pages, shelf.charts, draw)
        except UsageError as error:
            complaints.append(str(error))
    return [shelf for _, shelf in shelves], complaints


def published(path: Path) -> Shelf:
    """Read all campaigns in a directory that have a page."""
    entries, damaged = [], {}
    for directory in sorted(each for each in path.iterdir() if has_results(each) and _is_ours(each / page.FILE)):
        try:
            entries.append(read(directory))
        except (DamagedError, UsageError) as error:
            damaged[directory.name] = str(error).replace(f"{directory}/", "").removeprefix(f"{directory}: ")
    return Shelf(entries=tuple(entries), damaged=damaged, history=tuple(series(entries)))


def charts_of(entry: Entry) -> Sequence[Chart]:
    """Return the charts of a page; counts have none."""
    return specs(entry.content) if isinstance(entry.content, Campaign) else ()


def _write(directory: Path, pages: dict[str, str], charts: Sequence[Chart], draw: Callable[[Chart], str]) -> None:
    """Write pages and the pictures on them, pictures first; remove pictures of earlier pages.

    Raises UsageError, with nothing written, where somebody else has written a page.
    """
    for name in pages:
        path = directory / name
        if path.exists() and not _is_ours(path):
            raise UsageError(
                f"{path}: `loopmark publish` did not write it and leaves it alone; move it away to have it written"
            )
    pictures = {directory / page.CHARTS / f"{each.slug}.svg": draw(each) for each in charts}
    try:
        for path, svg in pictures.items():
            path.parent.mkdir(exist_ok=True)
            _replace(path, svg)
        for name, text in pages.items():
            _replace(directory / name, text)
        for old in set((directory / page.CHARTS).glob("*.svg")) - pictures.keys():
            old.unlink()
    except OSError as error:
        raise UsageError(f"cannot write the pages of {directory}: {error.strerror or error}") from error


def _is_ours(path: Path) -> bool:
    try:
        return path.read_text(encoding="utf-8", errors="replace").startswith(page.MARK)
    except OSError:
        return False


def _replace(path: Path, text: str) -> None:
    """Put a whole new file in an old one's place, unless it has the same content already."""
    content, temporary = text.encode(), path.with_name(f".{path.name}.new")
    if not path.is_file() or path.read_bytes() != content:
        temporary.write_bytes(content)
        temporary.replace(path)
