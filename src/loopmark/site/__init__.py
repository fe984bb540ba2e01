"""The static web report: one folder that works from the disk and from any host, and never asks anybody for anything."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from loopmark import charts
from loopmark.charts import Chart
from loopmark.errors import UsageError
from loopmark.record import Campaign
from loopmark.site.campaign import campaign_page
from loopmark.site.index import index_page
from loopmark.site.shell import MARK

ASSETS = ("report.css", "report.js", "vega.LICENSE.txt")

INDEX = "index.html"


def build(
    campaigns: Sequence[tuple[str, Campaign]],
    out: Path,
    *,
    raw: Mapping[str, Path] | None = None,
    history: Sequence[Chart] = (),
) -> None:
    """Write the whole report of some campaigns, each with the name of its page, in place of an earlier one.

    `raw` names the directory of a campaign's files, which are copied to be downloaded; `history` are charts of several
    campaigns, for the first page. The same campaigns give the same bytes, with one version of vl-convert-python. Raises
    UnavailableError without that, and UsageError where `out` is not ours to replace or cannot be written.
    """
    if not _is_ours(out):
        raise UsageError(f"{out}: `loopmark publish` did not make it and leaves it alone; name another directory")
    fresh = out.with_name(f".{out.name}.new")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        copied = {name: list(_copied(fresh / "raw" / name, directory)) for name, directory in (raw or {}).items()}
        _write(fresh / INDEX, index_page(campaigns, history))
        for name, campaign in campaigns:
            _write(fresh / "campaigns" / f"{name}.html", campaign_page(name, campaign, copied.get(name, [])))
        for name in ASSETS:
            _write(fresh / "assets" / name, (files(__name__) / "assets" / name).read_text(encoding="utf-8"))
        _write(fresh / "assets" / "vega.js", charts.bundle())
        if out.exists():
            shutil.rmtree(out)
        fresh.replace(out)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}; name another directory") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _is_ours(out: Path) -> bool:
    """Tell whether a directory may be replaced: it is not there, empty, or an earlier report."""
    try:
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return True
        return MARK in (out / INDEX).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _copied(target: Path, directory: Path) -> Iterator[str]:
    """Copy a campaign's files, and yield their names."""
    target.mkdir(parents=True)
    for path in sorted(directory.glob("*.json")):
        shutil.copyfile(path, target / path.name)
        yield path.name


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
