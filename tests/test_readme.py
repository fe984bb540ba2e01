"""What the documentation says can be typed, and the published tables are what the committed campaigns give."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click
import pytest

from loopmark import store
from loopmark.cli import cli, drive, inspection, matrix, measuring, profile, publish, serve, setup
from loopmark.report import comparison

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *(ROOT / f"{name}/README.md" for name in ("backends", "benchmarks"))]
)
MARKED = re.compile(r"<!-- table: (\S+) -->\n(.*?)<!-- /table -->", re.DOTALL)
NO_TABLE_YET = "<!-- table: -->"

# Importing them is what registers the commands.
assert all((drive, inspection, matrix, measuring, profile, publish, serve, setup))


def commands(page: Path) -> Iterator[str]:
    """Yield every command that a page tells to type: lines of its code blocks, and code within its sentences."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))
    for line in lines:
        for command in re.split(r"&&|\|", line.partition("  #")[0]):
            yield command.strip().removeprefix("$ ").removeprefix(".venv/bin/")


def named(program: str) -> list[object]:
    return [
        pytest.param(command, id=f"{page.relative_to(ROOT)}: {command}")
        for page in PAGES
        for command in dict.fromkeys(commands(page))
        if command.split()[:1] == [program]
    ]


@pytest.mark.parametrize("command", named("loopmark"))
def test_a_command_of_the_documentation_is_understood(command: str) -> None:
    arguments = shlex.split(command)[1:]
    if not arguments:
        return
    if arguments[0].startswith("-"):
        with pytest.raises(click.exceptions.Exit) as asked:
            cli.make_context("loopmark", arguments)
        assert asked.value.exit_code == 0
        return
    subcommand = cli.commands[arguments[0]]
    # A command that is only named has no arguments to be understood.
    subcommand.make_context(arguments[0], arguments[1:], resilient_parsing=len(arguments) == 1)


@pytest.mark.parametrize("command", [*named("nox"), *named("uv"), *named("pipx")])
def test_a_session_of_the_documentation_exists(command: str) -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    known = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(each) == "nox.session" for each in node.decorator_list)
    }
    words = shlex.split(command)
    if "-s" in words:
        sessions = words[words.index("-s") + 1 :]
        asked = set(sessions[: sessions.index("--")] if "--" in sessions else sessions)
        assert asked
        assert asked <= known


def test_the_documentation_names_commands_and_sessions_at_all() -> None:
    assert len(named("loopmark")) > 10
    assert len(named("nox")) > 3


def test_ci_runs_the_readmes_own_test_command() -> None:
    (command,) = re.findall(r"^(python3 -m venv .*nox -s tests)\b", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert command in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_published_table_is_what_its_campaign_gives(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    marked = MARKED.findall(text)
    assert text.count("<!-- table:") == len(marked) + text.count(NO_TABLE_YET)
    for directory, table in marked:
        assert table.strip() == comparison(store.load(ROOT / directory), "github").strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_dependency_has_its_reason_written_down_and_no_other_has() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    lists = [project["dependencies"], pyproject["build-system"]["requires"]]
    lists += [*project["optional-dependencies"].values(), *pyproject["dependency-groups"].values()]
    # What is no text includes another group.
    wanted = {re.split(r"[^\w-]", each)[0] for each in chain(*lists) if isinstance(each, str)} - {"loopmark"}
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == wanted


def test_every_module_of_the_core_has_its_place_in_the_layout() -> None:
    page = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    layout = page.partition("src/loopmark/\n")[2].partition("```")[0]
    # Names of modules come before the first two spaces of a line, or alone on it.
    told = {name for line in layout.splitlines() for name in re.split(r"\s{2,}", line.strip())[0].split(", ")}
    known = {path.stem for path in (ROOT / "src/loopmark").glob("[!_]*.py")}
    known |= {f"{path.parent.name}/" for path in (ROOT / "src/loopmark").glob("*/__init__.py")}
    # These two are mounted from the checkout's own directories.
    assert known - {"backends/", "benchmarks/"} <= told
