"""Render what was collected: `python studies/analyse.py SECTION... --results DIR [--page docs/studies.md]`.

Without --page the tables are printed; with it they take the place of what stands between the page's markers.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import accuracy
import by_hand
import false_alarms
import hardening
import known
import minute
import power
import precision
import shelf
from catalogue import STUDIES
from tables import table

CHART = "half-width.svg"


def main(arguments: Sequence[str]) -> int:
    """Print the sections, or write them into a page."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if unknown := [name for name in args.sections if name not in SECTIONS]:
        parser.error(f"no section {unknown[0]}: give any of {', '.join(SECTIONS)}")
    for name in args.sections or SECTIONS:
        text = SECTIONS[name](args.results)
        if args.page is None:
            print(f"{name}\n\n{text}\n")
            continue
        if name == "width":
            text += f"\n\n{_drawn(args.results, args.page.parent)}"
        args.page.write_text(replaced(args.page.read_text(encoding="utf-8"), name, text), encoding="utf-8")
    return 0


def replaced(page: str, name: str, text: str) -> str:
    """Put a text between the markers of a section; raises ValueError when the page has none."""
    begin, end = f"<!-- study: {name} -->", "<!-- /study -->"
    new, count = re.subn(
        rf"({re.escape(begin)}\n).*?({re.escape(end)})",
        lambda marked: f"{marked[1]}\n{text}\n\n{marked[2]}",
        page,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"the page has {count} places for {begin}")
    return new


def times(_: Path | None = None) -> str:
    """Render what each study takes."""
    rows = [
        [f"`{name}`", study.question, str(sum(line.wanted for line in study.lines)), f"{study.seconds / 3600:.1f} h"]
        for name, study in STUDIES.items()
    ]
    total = sum(study.seconds for study in STUDIES.values())
    rows.append(["all", "", "", f"{total / 3600:.1f} h"])
    return table(("study", "question", "results", "time"), rows)


SECTIONS: Mapping[str, Callable[[Path], str]] = {
    "times": times,
    "by-hand": by_hand.rendered,
    "hardening": hardening.rendered,
    "hardening-instructions": hardening.instructions,
    "aa": false_alarms.rendered,
    "precision": precision.rendered,
    "width": lambda results: precision.curves_table(precision.curves(results)),
    "minute": minute.rendered,
    "power": power.rendered,
    "known": known.rendered,
    "accuracy": accuracy.rendered,
    "circumstances": accuracy.circumstances,
}


def _drawn(results: Path, directory: Path) -> str:
    import chart  # noqa: PLC0415  # needs what only the chart needs

    points = precision.curves(results)
    if not points:
        return ""
    chart.draw(points, directory / CHART)
    return f"![Median half-width of all pairs against time, by design]({CHART})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"any of {', '.join(SECTIONS)}")
    parser.add_argument("--results", type=Path, default=shelf.RESULTS, metavar="DIR", help=f"default: {shelf.RESULTS}")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write between the markers of this page")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
