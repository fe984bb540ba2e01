"""Makes campaigns public: a page for each, an index and a history of all that lie beside each other.

Everything is rendered from what is stored, so that writing it again changes nothing. Of files that are there already
only those are replaced that begin with our mark, and pictures.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from loopmark.charts import specs
from loopmark.charts.chart import Chart
from loopmark.errors import DamagedError, UsageError
from loopmark.publish import history, index, page
from loopmark.publish.entry import Entry, directories, has_results, read
from loopmark.record import Campaign

__all__ = ["about_all", "charts_of", "publish", "published"]


def publish(paths: Sequence[Path], draw: Callable[[Chart], str], tell: Callable[[Path], None]) -> list[str]:
    """Write the pages of some campaigns, then index and history of the directories they lie in.

    A path is a campaign's directory, or one with campaigns in it. `draw` makes SVG of a chart; `tell` is called with
    every page that stands. Returns one sentence for everything that could not be published; the rest goes on.
    Raises what `draw` raises.
    """
    complaints = []
    shelves: dict[Path, None] = {}
    for found in directories(paths):
        if isinstance(found, str):
            complaints.append(found)
            continue
        shelves[found.resolve().parent] = None
        try:
            _write_page(found, draw)
        except (DamagedError, UsageError) as error:
            complaints.append(str(error))
        else:
            tell(found / page.FILE)
    for shelf in shelves:
        try:
            for name, text in about_all(shelf).items():
                _write(shelf / name, text)
        except (DamagedError, UsageError) as error:
            complaints.append(str(error))
    return complaints


def published(shelf: Path) -> tuple[list[Entry], dict[str, str]]:
    """Read all campaigns in a directory that have a page; return the reason of each that is damaged, by name."""
    entries, damaged = [], {}
    for directory in sorted(each for each in shelf.iterdir() if has_results(each) and _is_ours(each / page.FILE)):
        try:
            entries.append(read(directory))
        except (DamagedError, UsageError) as error:
            damaged[directory.name] = str(error).replace(f"{directory}/", "").removeprefix(f"{directory}: ")
    return entries, damaged


def charts_of(entry: Entry) -> Sequence[Chart]:
    """Return the charts of a page; counts have none."""
    return specs(entry.content) if isinstance(entry.content, Campaign) else ()


def about_all(shelf: Path) -> dict[str, str]:
    """Render what lies beside the published campaigns of a directory, by the name of its file."""
    entries, damaged = published(shelf)
    return {index.FILE: index.index(entries, damaged), history.FILE: history.history(entries)}


def _write_page(directory: Path, draw: Callable[[Chart], str]) -> None:
    entry = read(directory)
    shown = charts_of(entry)
    text = page.page(entry, shown)
    pictures = {directory / page.CHARTS / f"{each.slug}.svg": draw(each) for each in shown}
    _refuse_others(directory / page.FILE)
    for path, svg in pictures.items():
        _replace(path, svg)
    _replace(directory / page.FILE, text)
    for old in set((directory / page.CHARTS).glob("*.svg")) - pictures.keys():
        old.unlink()


def _write(path: Path, text: str) -> None:
    _refuse_others(path)
    _replace(path, text)


def _refuse_others(path: Path) -> None:
    """Raise UsageError for a file that somebody else has written."""
    if path.exists() and not _is_ours(path):
        raise UsageError(
            f"{path}: `loopmark publish` did not write it and leaves it alone; move it away to have it written"
        )


def _is_ours(path: Path) -> bool:
    try:
        return path.read_text(encoding="utf-8", errors="replace").startswith(page.MARK)
    except OSError:
        return False


def _replace(path: Path, text: str) -> None:
    """Put a whole new file in an old one's place, unless it has the same content already."""
    content, temporary = text.encode(), path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(exist_ok=True)
        if not path.is_file() or path.read_bytes() != content:
            temporary.write_bytes(content)
            temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
