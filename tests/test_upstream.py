"""The programs that show what was found in libraries run, and come to a result, whichever it is with these versions."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

UPSTREAM = Path(__file__).parents[1] / "docs" / "upstream"
PROGRAMS = sorted(UPSTREAM.glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_comes_to_a_result(program: Path) -> None:
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, timeout=60)
    # What a library writes to standard error may be what is shown.
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(seen|not seen): .+\n", done.stdout)


def test_the_page_tells_of_every_program_what_it_showed() -> None:
    rows = re.findall(
        r"^\| \[(\w+\.py)\]\(\1\) \|.*$", (UPSTREAM / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(rows) == [path.name for path in PROGRAMS]
