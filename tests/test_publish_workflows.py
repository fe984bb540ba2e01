"""The workflows of GitHub Actions: pinned, with few permissions, and made of commands that exist.

They keep to a small part of YAML, which is read here, so that the tests need no library for it: mappings and lists by
indentation, flow lists and empty mappings on one line, literal blocks, and plain or double-quoted scalars.
"""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopmark.cli import cli, inspection, measuring

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
PIN = re.compile(r"^ +(?:- )?uses: (actions/[a-z-]+)@([0-9a-f]{40}) # v\d+\.\d+\.\d+$")

assert all((inspection, measuring))


class Lines:
    """The lines of a file that are not empty or comments, with their indentation."""

    def __init__(self, text: str) -> None:
        self._raw = text.splitlines()
        self._place = 0

    def next(self) -> tuple[int, str] | None:
        """Look at the next line."""
        while self._place < len(self._raw) and not re.sub(r"^\s*#.*", "", self._raw[self._place]).strip():
            self._place += 1
        if self._place == len(self._raw):
            return None
        line = self._raw[self._place]
        assert "\t" not in line
        return len(line) - len(line.lstrip()), line.strip()

    def replace(self, indent: int, rest: str) -> None:
        """Put what stands behind a dash in the line's place."""
        self._raw[self._place] = " " * indent + rest

    def skip(self) -> None:
        self._place += 1

    def block(self, indent: int) -> str:
        """Take a literal block: all lines that are deeper."""
        taken = []
        while self._place < len(self._raw):
            line = self._raw[self._place]
            if line.strip() and len(line) - len(line.lstrip()) <= indent:
                break
            taken.append(line.strip())
            self._place += 1
        return "\n".join(taken).rstrip() + "\n"


def node(lines: Lines, indent: int) -> Any:
    found = lines.next()
    assert found
    return sequence(lines, indent) if found[1].startswith("- ") else mapping(lines, indent)


def sequence(lines: Lines, indent: int) -> list[Any]:
    items = []
    while (found := lines.next()) and found[0] == indent and found[1].startswith("- "):
        rest = found[1][2:]
        if re.match(r"[\w-]+:( |$)", rest):
            lines.replace(indent + 2, rest)
            items.append(mapping(lines, indent + 2))
        else:
            lines.skip()
            items.append(scalar(rest))
    return items


def mapping(lines: Lines, indent: int) -> dict[str, Any]:
    items: dict[str, Any] = {}
    while (found := lines.next()) and found[0] == indent and not found[1].startswith("- "):
        key, colon, value = found[1].partition(":")
        assert colon, found[1]
        assert re.fullmatch(r"[\w-]+", key), key
        assert key not in items, key
        lines.skip()
        value = value.strip()
        if value == "|":
            items[key] = lines.block(indent)
        elif value and not value.startswith("#"):
            items[key] = scalar(value)
        else:
            below = lines.next()
            items[key] = node(lines, below[0]) if below and below[0] > indent else None
    follows = lines.next()
    assert follows is None or follows[0] <= indent, follows
    return items


def scalar(text: str) -> Any:
    if text.startswith('"'):
        return json.loads(text)
    text = text.partition(" #")[0].strip()
    if text == "{}":
        return {}
    if text.startswith("["):
        assert text.endswith("]")
        return [scalar(each.strip()) for each in text[1:-1].split(",")]
    # Behind these YAML has something else in mind than a plain scalar.
    assert text[0] not in "&*!{%@`>'", text
    assert ": " not in text, text
    return {"true": True, "false": False}.get(text, int(text) if text.isdecimal() else text)


def workflow(path: Path) -> dict[str, Any]:
    lines = Lines(path.read_text(encoding="utf-8"))
    found = mapping(lines, 0)
    assert lines.next() is None
    return found


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in workflow(path)["jobs"].values():
        yield from job["steps"]


def commands(path: Path) -> Iterator[str]:
    for step in steps(path):
        joined = re.sub(r"\\\n", " ", step.get("run", ""))
        yield from (line.strip() for line in joined.splitlines() if line.strip())


def test_the_workflows_are_there() -> None:
    assert [path.name for path in FILES] == ["campaign.yml", "tests.yml"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_action_is_an_official_one_pinned_to_a_whole_commit_with_its_version(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert PIN.match(line), line


def test_one_action_has_one_pin_in_all_workflows() -> None:
    found = {match.groups() for path in FILES for line in path.read_text().splitlines() if (match := PIN.match(line))}
    assert len({action for action, _ in found}) == len(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_step_either_uses_an_action_or_runs_a_command(path: Path) -> None:
    for step in steps(path):
        assert ("uses" in step) is not ("run" in step)
        assert step.keys() <= {"uses", "run", "with", "name", "env", "if"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_secret_is_named_and_the_token_only_where_it_is_needed(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "secrets." not in text
    assert text.count("github.token") == (1 if path.name == "campaign.yml" else 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_checkout_leaves_the_token_on_the_disk(path: Path) -> None:
    checkouts = [step for step in steps(path) if str(step.get("uses")).startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_expression_is_pasted_into_a_shell(path: Path) -> None:
    assert [command for command in commands(path) if "${{" in command] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_job_ends_some_time(path: Path) -> None:
    assert all(0 < job["timeout-minutes"] <= 360 for job in workflow(path)["jobs"].values())


def test_the_tests_run_on_two_systems_with_every_python_that_is_supported() -> None:
    found = workflow(ROOT / ".github/workflows/tests.yml")
    job = found["jobs"]["tests"]
    assert job["strategy"]["matrix"] == {
        "os": ["ubuntu-latest", "macos-latest"],
        "python": ["3.11", "3.12", "3.13", "3.14"],
    }
    assert found["permissions"] == {"contents": "read"}
    run = " ".join(step.get("run", "") for step in job["steps"])
    assert set(re.findall(r"\b(?:tests|lint|types)\b", run)) == {"tests", "lint", "types"}


def test_a_pull_request_is_smoke_tested() -> None:
    found = workflow(ROOT / ".github/workflows/tests.yml")
    assert "pull_request" in found["on"]
    job = found["jobs"]["smoke"]
    assert job["if"] == "github.event_name == 'pull_request'"
    assert any(step.get("run", "").startswith("loopmark run --fast") for step in job["steps"])


def test_a_campaign_is_started_by_hand_and_measures_without_any_right_to_write() -> None:
    found = workflow(ROOT / ".github/workflows/campaign.yml")
    assert list(found["on"]) == ["workflow_dispatch"]
    assert set(found["on"]["workflow_dispatch"]["inputs"]) == {"label", "max-time", "benchmarks"}
    assert found["permissions"] == {}
    jobs = found["jobs"]
    assert jobs["measure"]["permissions"] == {"contents": "read"}
    assert jobs["propose"]["permissions"] == {"contents": "write", "pull-requests": "write"}
    assert jobs["propose"]["needs"] == "measure"
    # Nothing of what was measured, or installed for it, runs beside the right to write.
    run = " ".join(step.get("run", "") for step in jobs["propose"]["steps"])
    assert {line.split()[0] for line in re.sub(r"\\\n", " ", run).splitlines()} <= {"git", "gh"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_commands_of_ours_in_workflows_are_understood(path: Path) -> None:
    for command in commands(path):
        words = shlex.split(re.split(r"\|\||>>|&&", command)[0])
        if words[0] == "loopmark":
            subcommand = cli.commands[words[1]]
            subcommand.make_context(words[1], words[2:], resilient_parsing=False)
        if words[0] == "nox":
            session = words[words.index("-s") + 1]
            assert session in sessions()
            if session == "bench":
                given = [word.replace("$MAX_TIME", "900") for word in words[words.index("--") + 1 :]]
                cli.commands["run"].make_context("run", given)


def sessions() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    "text",
    ["a:\n  b: 1\n   c: 2\n", "a: 1\na: 2\n", "a: &x 1\n", "a b: 1\n", "a: b: c\n", "a:\n\t- 1\n", "a: {x: 1}\n"],
)
def test_what_the_reader_does_not_know_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yml").write_text(text)
    with pytest.raises(AssertionError):
        workflow(tmp_path / "x.yml")


def test_what_the_reader_knows_is_read(tmp_path: Path) -> None:
    text = '# c\na:\n  - b: 1 # c\n    c: [x, "1.0"]\n  - d\ne: |\n  f\n\n  g\nh: {}\ni:\nj: true\n'
    (tmp_path / "x.yml").write_text(text)
    assert workflow(tmp_path / "x.yml") == {
        "a": [{"b": 1, "c": ["x", "1.0"]}, "d"],
        "e": "f\n\ng\n",
        "h": {},
        "i": None,
        "j": True,
    }
