# /// script
# requires-python = ">=3.11"
# dependencies = ["nox>=2025.2.9"]
# ///
"""Everything that is done with a checkout; `nox --list` shows it. Only nox is needed beforehand."""

import contextlib
import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- /table -->)", re.DOTALL)
PATIENCE = 1.0
"""Seconds after an interrupt until loopmark, which may not have seen it, is told to end."""

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "types", "tests", "smoke"]


@nox.session
def bench(session: nox.Session) -> None:
    """Measure everybody and print the comparison; what follows `--` goes to `loopmark run`."""
    # Editable, so that a second run measures what the checkout has by then.
    session.install("-e", ".[all]")
    session.log("loopmark run")
    status = _passed_through([f"{session.bin}/loopmark", "run", *session.posargs])
    # The result's path stays the last line.
    logging.getLogger("nox").addFilter(lambda record: "bench was successful" not in record.getMessage())
    if status:
        sys.exit(status)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on the package as users install it; what follows `--` goes to pytest."""
    session.install(".[all]", *_group("tests"))
    # Some tests wait more than they work. The seed gives all processes the tests in one order.
    session.run("pytest", "-n", "2", "--dist", "loadfile", *session.posargs, env={"PYTHONHASHSEED": "0"})


@nox.session
def lint(session: nox.Session) -> None:
    """Look for mistakes and for unusual formatting."""
    session.install(*_group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, strictly."""
    session.install("-e", ".[all]", *_group("types"))
    session.run("mypy")


@nox.session
def smoke(session: nox.Session) -> None:
    """Measure for a few seconds, to see that everything plays together."""
    session.install(".[all]")
    with tempfile.TemporaryDirectory() as results:
        arguments = ["--fast", "--blocks", "1", "-b", "uvloop,trio", "-c", "1,10", "--results", results]
        session.run("loopmark", "run", "--no-progress", *arguments)
        for directory in Path(results).iterdir():
            session.run("loopmark", "show", str(directory))
    session.run("loopmark", "check", "asyncio")
    session.run("python", "-m", "loopmark.cell", "--help", silent=True)


@nox.session
def aa(session: nox.Session) -> None:
    """Run A/A campaigns of eight identical arms and print how often they were called different.

    After `--`: how many of each case, 2 by default, and --results DIR, where later runs go on.
    """
    session.install("-e", ".[all]", *_group("studies"))
    numbers = [each for each in session.posargs if each.isdecimal()]
    others = [each for each in session.posargs if each not in numbers]
    session.run("python", "studies/collect.py", "aa", "--campaigns", *(numbers or ["2"]), *others)
    session.run("python", "studies/analyse.py", "aa", *others)


@nox.session
def soak(session: nox.Session) -> None:
    """Do every harm to every server a thousand times; what follows `--` names one contender and goes to pytest."""
    session.install(".[all]", *_group("tests"))
    names = [each for each in session.posargs if not each.startswith("-")]
    others = [each for each in session.posargs if each not in names]
    chosen = ["-k", " or ".join(f"[{name}]" for name in names)] if names else []
    environment = {"LOOPMARK_SOAK": "1000"}
    session.run("pytest", "tests/test_faults_servers.py", "--timeout", "0", *chosen, *others, env=environment)


@nox.session
def robustness(session: nox.Session) -> None:
    """Do all harm to all contenders and write what became of it into docs/robustness.md."""
    session.install(".[all]", *_group("tests"))
    session.run("python", "-m", "tests.robustness")


@nox.session
def studies(session: nox.Session) -> None:
    """Collect a study (-- collect NAME) or render what was collected (-- analyse [SECTION]); see docs/studies.md."""
    session.install("-e", ".[all]", *_group("studies"))
    task, *others = session.posargs or ["analyse", "times"]
    session.run("python", f"studies/{task}.py", *others)


@nox.session
def publish(session: nox.Session) -> None:
    """Write the pages of all campaigns below results/, or of those after `--`, and what is about them all."""
    session.install("-e", ".[publish]")
    session.notify("readme")
    session.run("loopmark", "publish", *(session.posargs or ["results"]))


@nox.session
def readme(session: nox.Session) -> None:
    """Write the tables between the markers of README.md again, from the campaigns that they name."""
    session.install("-e", ".")
    path = ROOT / "README.md"

    def rendered(marked: re.Match[str]) -> str:
        table = session.run("loopmark", "compare", marked[2], "--format", "github", silent=True, stderr=None)
        return f"{marked[1]}\n{table}\n{marked[3]}"

    path.write_text(MARKED.sub(rendered, path.read_text(encoding="utf-8")), encoding="utf-8")


def _group(name: str) -> tuple[str, ...]:
    """Return a dependency group's requirements: pip before 25.1 cannot read groups itself."""
    return nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), name)


def _passed_through(command: list[str]) -> int:
    """Run a command on our own terminal and return its status, which `session.run` would not tell."""
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # From a terminal the command was interrupted, too, and is about to end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(PATIENCE)
        process.terminate()
        return process.wait()


if __name__ == "__main__":
    nox.main()
