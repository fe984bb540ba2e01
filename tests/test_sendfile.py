"""Files that a server sends: the conversation without sockets, the files on disk, and both with every contender."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopmark.case import Benchmark
from loopmark.errors import Kind, ProtocolError
from loopmark.ledger import Counts, Ledger
from loopmark.service import HANG_UP, KEEP_READING, File, Reply, Service, Talk, Then
from loopmark.spi import Address, Backend, Feature, Options
from loopmark.testing import call
from loopmark.testing.ground import Ground
from loopmark.tls import Identity
from loopmark.traffic import Target, churn

sendfile: Any = import_module("loopmark.benchmarks.sendfile")
BENCHMARK: Benchmark = sendfile.BENCHMARK
FILE = File("/some/where", 20480, zero_copy=True)
SIZE = 200_000
"""Neither one piece nor whole pieces."""

# As in test_backends: what a server has just accepted when it is left.
pytestmark = [pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"), pytest.mark.usefixtures("_collected")]


class Tally:
    def __init__(self) -> None:
        self.ended: list[str] = []

    def served(self) -> None:
        self.ended.append("served")

    def exchanged(self) -> None:
        self.ended.append("exchanged")

    def failed(self, kind: Kind, /) -> None:
        self.ended.append(kind)


def opened() -> tuple[Service, Tally]:
    service, tally = sendfile.SendFile(FILE), Tally()
    service.tally = tally
    return service, tally


@given(st.integers(min_value=1, max_value=3))
def test_the_request_is_answered_with_the_file_however_it_is_split(cut: int) -> None:
    service, tally = opened()
    assert service.receive(sendfile.REQUEST[:cut]) == KEEP_READING
    assert service.receive(sendfile.REQUEST[cut:]) == Reply(b"", Then.CLOSE, FILE)
    assert tally.ended == []


def test_a_conversation_is_served_when_all_of_the_file_is_sent() -> None:
    service, tally = opened()
    service.receive(sendfile.REQUEST)
    service.sent()
    service.lost(ConnectionResetError(104, "reset"))
    assert tally.ended == ["served"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [(FileNotFoundError(), Kind.OTHER), (ConnectionResetError(104, "reset"), Kind.RESET), (None, Kind.EOF)],
)
def test_a_file_that_is_not_sent_is_a_fault(error: Exception | None, kind: Kind) -> None:
    service, tally = opened()
    service.receive(sendfile.REQUEST)
    service.lost(error)
    assert tally.ended == [kind]


@pytest.mark.parametrize(("parts", "kind"), [([b"SEN", b""], Kind.EOF), ([b"SEND!"], Kind.PROTOCOL), ([b""], Kind.EOF)])
def test_another_request_gets_no_file(parts: list[bytes], kind: Kind) -> None:
    service, tally = opened()
    assert [service.receive(part) for part in parts][-1] == HANG_UP
    assert tally.ended == [kind]


def test_pieces_of_the_content_are_all_different() -> None:
    content = sendfile.CONTENTS["10MiB"]
    pieces = {content[start : start + 65536] for start in range(0, len(content), 65536)}
    assert len(pieces) == len(content) // 65536


@pytest.mark.parametrize(("name", "size"), [("20KiB", 20_480), ("10MiB", 10_485_760)])
def test_each_size_is_there_by_sendfile_and_as_a_copy(name: str, size: int) -> None:
    for variant, feature in ((name, Feature.SENDFILE), (f"copy-{name}", Feature.FILES)):
        assert BENCHMARK.needs(variant) == {Feature.TCP, feature}
        assert len(BENCHMARK.conversation(variant).talk.reply) == size


def test_a_file_is_made_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    sendfile.prepare(path, b"right")
    assert path.read_bytes() == b"right"
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_right_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    sendfile.prepare(path, b"right" * 50_000)
    before = path.stat()
    sendfile.prepare(path, b"right" * 50_000)
    assert path.stat().st_ino == before.st_ino


@pytest.mark.parametrize("wrong", [b"", b"righ", b"right!", b"wrong"])
def test_a_wrong_file_is_made_anew(tmp_path: Path, wrong: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(wrong)
    sendfile.prepare(path, b"right")
    assert path.read_bytes() == b"right"


def test_where_no_file_can_be_made_that_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(OSError, match="taken"):
        sendfile.prepare(tmp_path / "taken" / "file", b"right")


PREPARE_OFTEN = """
import sys
from pathlib import Path
from loopmark.benchmarks import sendfile
for _ in range(20):
    Path(sys.argv[1]).unlink(missing_ok=True)
    sendfile.prepare(Path(sys.argv[1]), sendfile.content(int(sys.argv[2])))
"""


def test_several_processes_may_make_a_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    # Not with multiprocessing, which leaves a process of its own to those who count children later.
    command = [sys.executable, "-c", PREPARE_OFTEN, str(path), str(SIZE)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert path.read_bytes() == sendfile.content(SIZE)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_the_benchmarks_file_lies_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    sendfile._file.cache_clear()
    try:
        service = BENCHMARK.conversation("20KiB").service()
        file = service.receive(sendfile.REQUEST).file
    finally:
        sendfile._file.cache_clear()
    assert file is not None
    assert Path(file.path).is_relative_to(tmp_path)
    assert Path(file.path).read_bytes() == sendfile.CONTENTS["20KiB"]


def test_a_cache_that_cannot_be_written_is_no_error_of_the_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "loopmark").write_bytes(b"in the way")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    sendfile._file.cache_clear()
    try:
        assert BENCHMARK.conversation("20KiB").service().receive(b"SEN") == KEEP_READING
    finally:
        sendfile._file.cache_clear()


ways = pytest.mark.parametrize("zero_copy", [True, False], ids=["sendfile", "copy"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(sendfile.content(SIZE))
    return path


def serve(backend: Backend, identity: Identity, path: Path, zero_copy: bool, work: Callable[[Address], None]) -> Counts:
    feature = Feature.SENDFILE if zero_copy else Feature.FILES
    if feature not in backend.features:
        pytest.skip(f"this backend has no {feature}")

    def work_and_settle(address: Address, ledger: Ledger) -> Counts:
        work(address)
        ground.settle(ledger, 0)
        return ledger.counts()

    ground = Ground(backend=backend, identity=identity, profile=None)
    return ground.serve(work_and_settle, service=partial(sendfile.SendFile, File(str(path), SIZE, zero_copy)))


@ways
def test_every_contender_sends_the_whole_file_each_time(
    contender: Backend, identity: Identity, path: Path, zero_copy: bool
) -> None:
    talk = Talk(parts=(sendfile.REQUEST,), reply=sendfile.content(SIZE), reply_size=None)

    def work(address: Address) -> None:
        target = Target(address=address, talk=talk, tls=None, options=Options())
        assert contender.run(lambda: churn(contender, target, connections=6, concurrency=3)) == 6

    counts = serve(contender, identity, path, zero_copy, work)
    assert (counts.accepted, counts.served, counts.faults) == (6, 6, {})


@ways
def test_a_missing_file_is_a_fault_of_every_contenders_server_and_no_reply(
    contender: Backend, identity: Identity, path: Path, zero_copy: bool
) -> None:
    path.unlink()

    def work(address: Address) -> None:
        for _ in range(2):
            with suppress(ConnectionError):
                assert call(address, None, sendfile.REQUEST) == b""

    counts = serve(contender, identity, path, zero_copy, work)
    assert (counts.served, counts.faults) == (0, {"other": 2})


@ways
def test_a_file_that_has_become_shorter_is_a_fault_and_no_right_reply(
    contender: Backend, identity: Identity, path: Path, zero_copy: bool
) -> None:
    path.write_bytes(sendfile.content(SIZE)[:-1])

    def work(address: Address) -> None:
        with suppress(ConnectionError):
            assert call(address, None, sendfile.REQUEST) != sendfile.content(SIZE)

    counts = serve(contender, identity, path, zero_copy, work)
    assert (counts.served, counts.faults) == (0, {"other": 1})


@ways
def test_a_file_that_has_changed_does_not_pass_the_clients_comparison(
    contender: Backend, identity: Identity, path: Path, zero_copy: bool
) -> None:
    path.write_bytes(b"!" + sendfile.content(SIZE)[1:])
    talk = Talk(parts=(sendfile.REQUEST,), reply=sendfile.content(SIZE), reply_size=None)

    def work(address: Address) -> None:
        target = Target(address=address, talk=talk, tls=None, options=Options())
        with pytest.raises(ProtocolError):
            contender.run(lambda: churn(contender, target, connections=1, concurrency=1))

    serve(contender, identity, path, zero_copy, work)


@ways
def test_a_file_that_has_grown_is_sent_as_far_as_was_promised(
    contender: Backend, identity: Identity, path: Path, zero_copy: bool
) -> None:
    path.write_bytes(sendfile.content(SIZE) + b"more")

    def work(address: Address) -> None:
        assert call(address, None, sendfile.REQUEST) == sendfile.content(SIZE)

    counts = serve(contender, identity, path, zero_copy, work)
    assert (counts.served, counts.faults) == (1, {})
