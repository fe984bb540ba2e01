"""What became of each fault on each contender: `python -m tests.robustness` finds it out, and writes it into the page.

The tests do the same harm, and compare what they find with the page.
"""

import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from loopmark import certs
from loopmark.registry import registry
from loopmark.testing import Finding, Status, check_backend
from loopmark.testing.clientfaults import CLIENT_FAULTS, PATIENCE
from loopmark.testing.faults import FAULTS, HANDSHAKE, check_faults
from loopmark.testing.faults_ground import Setting, Told

PAGE = Path(__file__).parents[1] / "docs" / "robustness.md"

OF_SERVERS: Mapping[str, Sequence[str]] = {
    each.name: (each.promise, ", ".join(setting for setting in Setting if setting in each.settings)) for each in FAULTS
}
OF_CLIENTS: Mapping[str, Sequence[str]] = {each.name: (each.promise,) for each in CLIENT_FAULTS}
"""What is said of each fault, before what became of it."""

HEADERS = {"servers": ("fault", "what happens", "where", "outcome"), "clients": ("fault", "promise", "outcome")}

MARKED = re.compile(r"<!-- outcomes: (\w+) -->\n(.*?)\n<!-- /outcomes -->", re.DOTALL)
ALL, BREAK = "all", "<br>"
_UNDECIDED = {each.name for each in FAULTS if each.told is Told.ANY}

Outcomes = dict[str, dict[str, str]]
"""By fault and contender."""


def outcome(finding: Finding) -> str:
    """Say in a few words what became of it."""
    match finding.status:
        case Status.OK:
            return finding.reason or "as promised"
        case Status.FAILED:
            return f"FAILED: {finding.reason}"
        case Status.NOT_APPLICABLE:
            return f"does not apply: {finding.reason}"


def rendered(side: str, told: Mapping[str, Sequence[str]], outcomes: Outcomes, names: Iterable[str]) -> str:
    """Render a section of the page; raise KeyError where a fault has no outcome for a contender."""
    rows = []
    for fault, words in told.items():
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(outcomes[fault][name], []).append(f"`{name}`")
        said = [f"{ALL if len(groups) == 1 else ', '.join(group)}: {what}" for what, group in groups.items()]
        rows.append([f"`{fault}`", *words, BREAK.join(said)])
    return tabulate(rows, HEADERS[side], tablefmt="github", disable_numparse=True)


def sections(page: str) -> dict[str, str]:
    """Return what stands between the page's markers, by side."""
    return dict(MARKED.findall(page))


def read(section: str, names: Sequence[str]) -> Outcomes:
    """Read back what `rendered` wrote."""
    found: Outcomes = {}
    for line in section.splitlines()[2:]:
        fault, *_, said = (cell.strip() for cell in line.strip("|").split(" | "))
        of_fault = found.setdefault(fault.strip("`"), {})
        for part in said.split(BREAK):
            group, _, what = part.partition(": ")
            of_fault.update(dict.fromkeys(names if group == ALL else re.findall(r"`([^`]+)`", group), what))
    return found


def disagreement(finding: Finding, name: str, outcomes: Outcomes) -> str | None:
    """Return in what a finding is another than the page has; None: it is the same.

    Which of several kinds a fault is counted as may depend on who was faster, and the system may lack what it takes.
    """
    fault, here, there = finding.clause, outcome(finding), outcomes[finding.clause][name]
    if finding.status is Status.NOT_APPLICABLE and not finding.reason.startswith("the backend has no"):
        return None
    if _manner(fault, here) == _manner(fault, there):
        return None
    return f"{fault} on {name}: {here}; docs/robustness.md has: {there} (`nox -s robustness` writes it anew)"


def _manner(fault: str, said: str) -> set[str]:
    manners = {HANDSHAKE if HANDSHAKE in part else part.split()[0] for part in said.split("; ")}
    return {"stood"} if fault in _UNDECIDED and manners <= {"counted", HANDSHAKE} else manners


def main() -> int:
    """Do all harm to all contenders, and write what became of it into the page; return 1 if any did not stand it."""
    names = list(registry().contenders)
    servers: Outcomes = {fault: {} for fault in OF_SERVERS}
    clients: Outcomes = {fault: {} for fault in OF_CLIENTS}
    with tempfile.TemporaryDirectory() as directory:
        identity = certs.ensure(Path(directory) / "certs")
        for name in names:
            contender = registry().contender(name)
            backend = contender.load()
            for finding in check_faults(contender, backend, identity):
                servers[finding.clause][name] = outcome(finding)
            for finding in check_backend(backend, identity, clauses=CLIENT_FAULTS, deadline=PATIENCE):
                clients[finding.clause][name] = outcome(finding)
            sys.stderr.write(f"{name}\n")
    page = PAGE.read_text(encoding="utf-8")
    tables = {
        "servers": rendered("servers", OF_SERVERS, servers, names),
        "clients": rendered("clients", OF_CLIENTS, clients, names),
    }
    page = MARKED.sub(lambda at: f"<!-- outcomes: {at[1]} -->\n{tables[at[1]]}\n<!-- /outcomes -->", page)
    PAGE.write_text(page, encoding="utf-8")
    return "FAILED" in page


if __name__ == "__main__":
    sys.exit(main())
