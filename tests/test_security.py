"""Private keys stay private, nobody is listened to who was not asked in, and no code comes from data."""

import ast
import io
import os
import re
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loopmark import certs
from loopmark.task import Task

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for part in ("src", "backends", "benchmarks") for path in (ROOT / part).rglob("*.py"))


def loopmark(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "loopmark", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=110)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


# Private keys


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_keys_and_the_directory_that_we_make_are_private_under_any_umask(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        certs.ensure(tmp_path / "certs", client_key="p256")
    assert mode(tmp_path / "certs") == 0o700
    assert {mode(path) for path in (tmp_path / "certs").glob("*.key")} == {0o600}


@pytest.mark.parametrize("wide", [0o755, 0o777])
def test_keys_are_private_in_a_directory_that_is_not(tmp_path: Path, wide: int) -> None:
    tmp_path.chmod(wide)
    with umask(0):
        certs.ensure(tmp_path)
    assert {mode(path) for path in tmp_path.glob("*.key")} == {0o600}
    assert mode(tmp_path) == wide  # a user's own, and maybe for other things, too


def test_a_checkouts_own_directory_is_made_private_when_keys_come_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setattr(certs, "default_directory", lambda: tmp_path)
    certs.ensure()
    assert mode(tmp_path) == 0o700


def secrets(directory: Path) -> set[str]:
    """Return the lines of all private keys."""
    lines = (line for path in directory.glob("*.key") for line in path.read_text().splitlines())
    return {line for line in lines if not line.startswith("-----")}


def leaked(text: str, directory: Path) -> list[str]:
    found = [line for line in secrets(directory) if line in text]
    return [*found, *re.findall("-----BEGIN [A-Z ]*PRIVATE KEY-----", text)]


def test_no_key_and_no_path_to_one_is_in_what_a_run_leaves_and_says(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    options = ["--fast", "--blocks", "1", "-b", "asyncio", "-c", "1", "--role", "both", "--no-progress"]
    done = loopmark("run", *options, "--certs", str(kept), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (campaign,) = (tmp_path / "results").iterdir()
    shown = loopmark("show", str(campaign), cwd=tmp_path)
    assert shown.returncode == 0
    stored = "".join(path.read_text(encoding="utf-8") for path in campaign.rglob("*") if path.is_file())
    assert len(secrets(kept)) > 2
    for text in (done.stdout, done.stderr, shown.stdout, stored):
        assert leaked(text, kept) == []
        assert str(kept) not in text
        assert ".key" not in text


def test_what_is_told_of_an_identity_that_cannot_be_used_has_no_key_in_it(tmp_path: Path) -> None:
    identity = certs.ensure(tmp_path)
    text = identity.key.read_text()
    identity.key.write_text(text[: len(text) // 2])
    done = loopmark("certs", str(tmp_path), cwd=tmp_path)
    assert done.returncode != 0
    identity.key.write_text(text)
    assert leaked(done.stdout + done.stderr, tmp_path) == []


def test_no_package_has_a_key_or_a_certificate(tmp_path: Path) -> None:
    # So that there is something to leak.
    kept = certs.ensure().key.parent
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, capture_output=True, check=True)
    packed = dict(_packed(tmp_path))
    assert any(name.endswith("certs/README.md") for name in packed)
    assert [name for name in packed if name.endswith((".key", ".pem"))] == []
    secret = [line.encode() for line in secrets(kept)]
    assert [name for name, data in packed.items() if any(line in data for line in secret)] == []


def _packed(directory: Path) -> Iterator[tuple[str, bytes]]:
    for path in directory.iterdir():
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                yield from ((name, wheel.read(name)) for name in wheel.namelist())
        else:
            with tarfile.open(path) as source:
                for member in source.getmembers():
                    file = source.extractfile(member) or io.BytesIO()
                    yield member.name, file.read()


def test_git_ignores_every_key_in_the_checkouts_directory() -> None:
    names = ["ca.key", "p256.key", "client-rsa4096.key", "anything.pem"]
    command = ["git", "check-ignore", *(f"certs/{name}" for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode == 128:
        pytest.skip("no git checkout")
    assert done.stdout.split() == [f"certs/{name}" for name in names]


# Who is listened to


def test_what_is_measured_is_on_loopback_unless_told_otherwise() -> None:
    (host,) = (field.default for field in Task.__dataclass_fields__.values() if field.name == "host")
    assert host == "127.0.0.1"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_serving_others_takes_a_flag_of_its_own(tmp_path: Path, host: str) -> None:
    done = loopmark("serve", "tcp_pingpong", "--host", host, "--port", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert f"{host} is no loopback address" in done.stderr
    assert "--public" in done.stderr


# Code and data


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_deserialised_but_json(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
            found = {name.partition(".")[0] for name in names} & MAKE_OBJECTS_OF_DATA
            assert not found or (path.name, *found) in EXCEPTIONS, found
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}


MAKE_OBJECTS_OF_DATA = {
    *("pickle", "cPickle", "marshal", "shelve", "copyreg", "dbm", "yaml", "dill", "cloudpickle", "joblib"),
    *("runpy", "code", "codeop", "imp"),
}

EXCEPTIONS = {
    ("registry.py", "runpy"),  # runs the file that --plugin names
}


def test_a_plugin_runs_only_when_it_is_named(tmp_path: Path) -> None:
    plugin = tmp_path / "loopmark_plugin.py"
    plugin.write_text("import pathlib\npathlib.Path('it-ran').touch()\nbackends = {}\nloops = {'mine': None}\n")
    assert loopmark("list", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "it-ran").exists()
    loopmark("list", "--plugin", str(plugin), cwd=tmp_path)
    assert (tmp_path / "it-ran").exists()
