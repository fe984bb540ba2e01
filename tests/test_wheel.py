"""The packages as users get them: what is inside, and that it runs where no checkout is."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import loopmark

ROOT = Path(__file__).parents[1]
INFO = f"loopmark-{loopmark.__version__}.dist-info"
WHEEL = f"loopmark-{loopmark.__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from the checkout."""
    return build(tmp_path_factory.mktemp("wheel"), "--wheel")


def build(directory: Path, *options: str) -> Path:
    """Build with what is installed here, so that no network is needed."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), *options, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / WHEEL


def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def below(directory: Path, pattern: str) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob(pattern)}


def test_the_wheel_has_every_module_of_the_checkout_and_nothing_else(wheel: Path) -> None:
    core = below(ROOT / "src/loopmark", "*.py") | {"py.typed"}
    core |= below(ROOT / "src/loopmark", "site/assets/*")
    backends, benchmarks = below(ROOT / "backends", "*.py"), below(ROOT / "benchmarks", "*.py")
    expected = {f"loopmark/{name}" for name in core}
    expected |= {f"loopmark/backends/{name}" for name in backends}
    expected |= {f"loopmark/benchmarks/{name}" for name in benchmarks}
    found = files(wheel)
    assert {name for name in found if not name.startswith(f"{INFO}/")} == expected
    assert {f"{INFO}/entry_points.txt", f"{INFO}/licenses/LICENSE"} <= found


def test_the_source_distribution_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    # Without options the wheel is built from the unpacked source distribution.
    assert files(build(tmp_path)) == files(wheel)


def test_the_wheel_measures_a_cell_where_no_checkout_is(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", site, wheel], check=True)
    # Before the path of this interpreter's own loopmark, and for all processes that are started.
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def output(*command: str) -> str:
        ours = [sys.executable, "-P", *command]
        return subprocess.run(ours, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment).stdout

    modules = "loopmark, loopmark.backends.blocking, loopmark.benchmarks.tls_pingpong"
    places = output(
        "-c", f"import {modules} as last; print(loopmark.__file__, loopmark.backends.__path__, last.__file__)"
    )
    assert places.split()[0] == str(site / "loopmark/__init__.py")
    assert str(ROOT) not in places
    arguments = ["run", "--fast", "--blocks", "1", "-b", "asyncio", "-c", "1", "--role", "both", "--no-progress"]
    arguments += ["--certs", "certificates"]
    printed = output("-c", "from loopmark.cli import main; main()", *arguments)
    *_, last = printed.splitlines()
    campaign = json.loads((tmp_path / last.removeprefix("results: ") / "campaign.json").read_text())
    assert campaign["ended"] == "done"
    (block,) = campaign["blocks"]
    assert set(block["measurements"]) == {"asyncio", "asyncio.twin", "floor"}
