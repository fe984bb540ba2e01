"""Campaigns on disk, to be published; charts are drawn by a fake, since drawing is not what is tested here."""

from copy import deepcopy
from pathlib import Path
from typing import Any

from tests.campaigns import BOTH, MACHINE, fake_campaign

from loopmark import store
from loopmark.charts.chart import Chart
from loopmark.publish import publish
from loopmark.record import Campaign

EFFECTS = {"uvloop": 0.85, "trio": 1.15}


def campaign(seed: int = 1, *, day: int = 20, **options: Any) -> Campaign:
    """Simulate a campaign of one case on some day of November."""
    given = {"blocks": 10, "noise": 0.005, "cases": [BOTH], "effects": EFFECTS}
    made = fake_campaign(seed, **{**given, **options})
    made.started = f"2026-11-{day:02}T09:15:00Z"
    made.machine = deepcopy(MACHINE)
    made.machine["distributions"] = {"uvloop": ["uvloop"], "trio": ["trio"]}
    return made


def stored(shelf: Path, made: Campaign) -> Path:
    """Write a campaign and return its directory."""
    directory = store.create(shelf, made)
    store.write(directory, made)
    return directory


def drawn(chart: Chart) -> str:
    """Stand in for a picture."""
    return f"<svg><!-- {chart.slug}: {len(chart.rows)} rows --></svg>\n"


def published(*paths: Path) -> list[str]:
    """Publish and return the complaints."""
    return publish(paths, drawn, lambda page: None)[1]


def page_of(directory: Path) -> str:
    """Publish one campaign that can be, and return its page."""
    assert published(directory) == []
    return (directory / "README.md").read_text(encoding="utf-8")


def content(directory: Path) -> dict[str, bytes]:
    """Read every file below a directory, by its path."""
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }
