"""The page of one campaign: what came out, how it was made, how to check it, and what it does not say.

Tables and sentences are those of `loopmark compare` and `loopmark show`. A page depends on what is in the campaign's
directory and on nothing else, so that whoever renders it again gets the same bytes.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from loopmark import redact
from loopmark.charts.chart import Chart
from loopmark.counts import Counts
from loopmark.judgement import Gate
from loopmark.publish.entry import Entry
from loopmark.record import COMPARED, Campaign
from loopmark.report import comparison
from loopmark.report.describe import description_sections
from loopmark.report.document import ending, machine_line
from loopmark.report.instructions import instructions_report
from loopmark.report.render import github, pipe_table, printable
from loopmark.report.tables import Table

FILE = "README.md"

CHARTS = "charts"
"""The directory of a page's pictures."""

MOST_FILES = 12
"""Of one command."""

MARK = "<!-- Written by `loopmark publish`: whatever is changed here by hand is lost. -->"
"""How a file begins that may be written again."""

LIMITS = (
    "An interval covers repetition within one campaign, on this machine, with this interpreter and these libraries.",
    (
        "Of plain 95 % intervals some are wrong: among ten of them that is not rare. Simultaneous ones are all right "
        "in 95 % of campaigns."
    ),
    "The twin is the baseline against itself. It shows noise and cannot see bias between libraries.",
    "On loopback the kernel charges the receiver's path to the sender.",
    "CPU time on a virtual machine is not free of noise. pyperf's own warnings apply.",
)
"""What docs/method.md says, word by word, which a test keeps so."""


def page(entry: Entry, charts: Sequence[Chart]) -> str:
    """Render a campaign's page with its charts, ended by a newline."""
    parts = [
        MARK,
        f"# {_stamped(entry)}{plain(entry.campaign.label)}, {entry.moment}",
        *_warnings(entry),
        "[All campaigns](../README.md) | [History](../history.md)",
        *_pictures(charts),
        "## Results",
        _results(entry),
        "## How it was made",
        *_made(entry.campaign),
        "## Check it",
        *_check(entry),
        "## What it does not say",
        bullets(LIMITS),
        "How it is measured, and why so, is in [docs/method.md](../../docs/method.md).",
    ]
    return redact.text("\n\n".join(part.strip("\n") for part in parts) + "\n")


def plain(words: str) -> str:
    """Make a text of one line that Markdown leaves as it is, also within a link."""
    return "".join(f"\\{each}" if each in "\\`*_[]<>|" else each for each in printable(words))


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, is_text: bool = True) -> str:
    """Render a table of cells that are Markdown, without a newline at its end."""
    return pipe_table(Table(title="", headers=tuple(headers), rows=tuple(map(tuple, rows)), is_text=is_text))


def bullets(lines: Iterable[str]) -> str:
    """Render a list."""
    return "\n".join(f"* {line}" for line in lines)


def _stamped(entry: Entry) -> str:
    return f"{', '.join(entry.stamps)}: " if entry.stamps else ""


def _warnings(entry: Entry) -> Iterator[str]:
    """Say in full what the stamps in the heading are about."""
    invalid = [name for name, gate in entry.gates if gate is Gate.INVALID]
    if invalid:
        where = ", ".join(f"`{name}`" for name in invalid)
        yield (
            f"**INVALID: do not use these numbers.** The campaign's own controls say that something is wrong in "
            f"{where}. It is published so that this can be seen; the reasons stand under the tables."
        )
    for stamp in entry.stamps:
        if stamp == "UNFINISHED":
            yield f"**UNFINISHED.** {plain(' '.join(ending(entry.campaign)))}"
    if isinstance(entry.content, Counts):
        yield "**Instructions, not time.** Nobody is faster or slower by what is counted here."


def picture(chart: Chart) -> str:
    """Render a chart's image, with its words for those who do not see it."""
    return f"![{plain(chart.alt)}]({CHARTS}/{quote(chart.slug)}.svg)"


def _pictures(charts: Sequence[Chart]) -> Iterator[str]:
    if charts:
        yield "## Pictures"
    for each in charts:
        yield f"### {plain(each.title)}"
        yield picture(each)
        yield "<details><summary>The same as a table</summary>"
        yield table(list(map(plain, each.headers)), [list(map(plain, row)) for row in each.rows], is_text=False)
        yield "</details>"


def _results(entry: Entry) -> str:
    if isinstance(entry.content, Counts):
        return instructions_report(entry.content, "github")
    return comparison(entry.content, "github")


def _made(campaign: Campaign) -> Iterator[str]:
    yield f"```\n{printable(shlex.join(campaign.command))}\n```"
    yield bullets(map(plain, _circumstances(campaign)))
    yield github(description_sections(campaign))


def _circumstances(campaign: Campaign) -> Iterator[str]:
    """Tell what somebody needs who wants to make it again."""
    yield f"Started {campaign.started}, mode {campaign.mode}; the seed {campaign.seed} drew every order."
    yield f"{machine_line(campaign)}."
    machine = campaign.machine
    kind = machine.get("virtualisation")
    governor = (machine.get("cpu") or {}).get("governor")
    yield (
        f"{f'A virtual machine ({kind})' if kind else 'No sign of a virtual machine'}; "
        f"the CPU's frequency governor {f'is {governor}' if governor else 'could not be read'}."
    )
    source = machine.get("source") or {}
    if not source.get("revision"):
        yield "It did not run from a git checkout: loopmark's version is all that is known of the code."
    elif source.get("clean"):
        yield f"Revision {source['revision']} of loopmark; the working tree was clean."
    else:
        changed = "with changes that were NOT committed: it does not tell what ran"
        yield f"Revision {source['revision']} of loopmark, {changed}."


def _check(entry: Entry) -> Iterator[str]:
    shelf = entry.directory.parent.name
    yield f"In the directory that `{printable(shelf)}` lies in:"
    commands = [("cd", f"{shelf}/{entry.name}"), ("loopmark", "compare", "."), ("loopmark", "show", ".")]
    files = _to_compare(entry)
    if len(files) > 1:
        # A matrix has more than one command should be asked for; any two of them can be compared.
        shown = files if len(files) <= MOST_FILES else files[:2]
        commands.append(("python", "-m", "pyperf", "compare_to", *shown, "--table"))
    yield "```\n" + "\n".join(map(shlex.join, commands)) + "\n```"
    if len(files) > 1:
        yield "Stock pyperf pools the values and knows of no blocks, so what it calls significant is its own affair."
    yield "The raw files: " + ", ".join(f"[{plain(name)}]({quote(name)})" for name in entry.files) + "."


def _to_compare(entry: Entry) -> list[str]:
    """Return the pyperf files of baseline and contenders, the baseline's first."""
    campaign = entry.campaign
    labels = dict.fromkeys([campaign.baseline])
    for plan in campaign.cases:
        labels.update(dict.fromkeys(plan.labels(*COMPARED)))
    return [name for label in labels if (name := f"{label}.json") in entry.files]
