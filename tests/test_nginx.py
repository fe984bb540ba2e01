"""nginx as a reference: it does the work that is asked of everybody, it is counted, and nothing of it is left."""

import contextlib
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import static_page
from tests.static_page import BODY, REPLY, REQUEST, TALK

from loopmark import nginx_setup, tls, wire
from loopmark.case import Case, ClosePolicy, Cores, Role
from loopmark.errors import LoopmarkError, UnavailableError, UsageError
from loopmark.nginx import parse_status
from loopmark.nginx_setup import Build, configuration, content_of, find, parse_build
from loopmark.peer import Handle, ServerEndedError, spawned
from loopmark.registry import Contender, Source, registry
from loopmark.relay import RecordingRelay
from loopmark.service import Talk
from loopmark.spi import Address, Options, TLSProfile
from loopmark.task import Task, to_json
from loopmark.tls import Identity
from loopmark.traffic import Target, visit

PLUGIN = str(Path(static_page.__file__))
SOON = 1.0
"""Seconds within which nothing may be left."""

DEBIAN = """\
nginx version: nginx/1.22.1
built with OpenSSL 3.0.20 7 Apr 2026 (running with OpenSSL 3.0.19 27 Jan 2026)
TLS SNI support enabled
configure arguments: --with-cc-opt='-g -O2' --with-http_ssl_module --with-http_stub_status_module
"""
BUILD = parse_build(DEBIAN)


def missing() -> str | None:
    try:
        find()
    except UnavailableError as error:
        return str(error)
    return None if sys.platform.startswith("linux") else "that nothing is left can be seen on Linux only"


MISSING = missing()
needs_nginx = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def task_of(identity: Identity | None, profile: TLSProfile | None = None, **changes: object) -> Task:
    case = Case(
        benchmark="secure_page" if identity else "plain_page",
        concurrency=10,
        role=Role.SERVER,
        peer="asyncio",
        cores=Cores.SEPARATE,
        tls=(profile or TLSProfile()) if identity else None,
    )
    contender = Contender(name="nginx", backend=Source(value="loopmark.nginx:serve"), reference=True)
    source = Source(value=f"benchmarks:{case.benchmark}", plugin=PLUGIN)
    task = Task(contender=contender, benchmark=source, case=case, identity=identity)
    return replace(task, **changes)  # type: ignore[arg-type]  # whatever a task has


@contextlib.contextmanager
def running(task: Task, *, stderr: int | None = None) -> Iterator[Handle]:
    with spawned(task, stderr=stderr) as handle:
        handle.wait_until_ready()
        yield handle


@pytest.fixture
def server(identity: Identity) -> Iterator[Handle]:
    with running(task_of(identity)) as handle:
        yield handle


def fetch(
    address: Address, identity: Identity | None, profile: TLSProfile | None = None
) -> tuple[bytes, ssl.SSLSocket | socket.socket]:
    """Get the page, to the end of the stream; return it and the socket, closed."""
    with contextlib.ExitStack() as stack:
        sock: ssl.SSLSocket | socket.socket = stack.enter_context(socket.create_connection(address, timeout=30))
        if identity is not None:
            client = tls.client_tls(profile or TLSProfile(), identity)
            sock = stack.enter_context(client.context.wrap_socket(sock, server_hostname=client.server_name))
        sock.sendall(REQUEST)
        reply = b"".join(iter(lambda: sock.recv(65536), b""))
        return reply, sock


def body_of(reply: bytes) -> bytes:
    return reply.partition(b"\r\n\r\n")[2]


# What is read of nginx


def test_the_version_and_the_library_that_it_runs_with_are_read() -> None:
    assert (BUILD.version, BUILD.openssl) == ("nginx/1.22.1", "OpenSSL 3.0.19")


@pytest.mark.parametrize(
    ("line", "library"),
    [
        ("built with OpenSSL 3.5.4 30 Sep 2025\n", "OpenSSL 3.5.4"),
        ("built by gcc 12.2.0\nbuilt with LibreSSL 4.1.0\n", "LibreSSL 4.1.0"),
        ("", None),
    ],
)
def test_the_library_it_was_built_with_is_told_where_no_other_runs(line: str, library: str | None) -> None:
    build = parse_build(f"nginx version: nginx/1.29.1 (Ubuntu)\n{line}configure arguments: --prefix=/x\n")
    assert (build.version, build.openssl, build.arguments) == ("nginx/1.29.1", library, " --prefix=/x")


def test_a_program_that_is_no_nginx_is_refused() -> None:
    with pytest.raises(UnavailableError, match="which version"):
        parse_build("usage: nginx [-l]")


def fake_nginx(directory: Path, text: str) -> None:
    script = directory / "nginx"
    script.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{text}END\n")
    script.chmod(0o755)


def test_an_nginx_that_lacks_a_module_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nginx(tmp_path, DEBIAN.replace("--with-http_stub_status_module", ""))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(UnavailableError, match=r"nginx/1\.22\.1 was built without http_stub_status_module"):
        find()


def test_without_nginx_there_is_word_of_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nginx_setup, "_USUAL", ())
    with pytest.raises(UnavailableError, match="apt install nginx-light"):
        find()


numbers = st.integers(min_value=0, max_value=2**63)


@given(st.tuples(*[numbers] * 7), numbers)
def test_a_status_is_read_as_it_was_written(written: tuple[int, ...], waiting: int) -> None:
    worker, active, accepts, handled, requests, reading, writing = written
    status = parse_status(
        f"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nX-Worker: {worker}\r\nConnection: close\r\n\r\n"
        f"Active connections: {active} \nserver accepts handled requests\n {accepts} {handled} {requests} \n"
        f"Reading: {reading} Writing: {writing} Waiting: {waiting} \n"
    )
    assert (status.worker, status.active, status.accepts, status.handled) == (worker, active, accepts, handled)
    assert (status.requests, status.reading, status.writing) == (requests, reading, writing)


@given(st.text())
def test_anything_else_is_no_status(text: str) -> None:
    with pytest.raises(ServerEndedError):
        parse_status(text)


# What it is told


def test_what_is_served_is_the_body_of_the_conversations_reply() -> None:
    content = content_of(TALK)
    assert (content.path, content.media_type) == ("/files/page.txt", "text/plain; charset=utf-8")
    assert content.body == BODY
    assert len(BODY) == 20_480


@pytest.mark.parametrize(
    ("request_line", "reply"),
    [
        (b"POST / HTTP/1.1\r\n\r\n", REPLY),
        (b"GET /../x HTTP/1.1\r\n\r\n", REPLY),
        (b"GET /a/.. HTTP/1.1\r\n\r\n", REPLY),
        (b"GET // HTTP/1.1\r\n\r\n", REPLY),
        (b"GET x HTTP/1.1\r\n\r\n", REPLY),
        (b"GET / HTTP/1.1\r\n\r\n", b"PONG"),
        (b"PING", b"PONG"),
    ],
)
def test_a_conversation_that_is_about_no_file_is_refused(request_line: bytes, reply: bytes) -> None:
    with pytest.raises(UsageError, match="GET of a plain path"):
        content_of(Talk(parts=(request_line,), reply=reply, reply_size=None))


def configured(task: Task, build: Build = BUILD) -> str:
    return configuration(task, build, "text/plain", Address("127.0.0.1", 1), Address("127.0.0.1", 2))


def test_the_configuration_has_the_settings_of_everybody(identity: Identity) -> None:
    text = configured(task_of(identity, options=Options(backlog=77)))
    lines = {line.strip() for line in text.splitlines()}
    assert lines >= {
        "worker_processes 1;",
        "access_log off;",
        "keepalive_timeout 0;",
        "tcp_nodelay on;",
        "listen 127.0.0.1:1 ssl backlog=77;",
        "ssl_protocols TLSv1.3;",
        "ssl_ecdh_curve X25519;",
        "ssl_session_cache off;",
        "ssl_session_tickets off;",
        "ssl_conf_command NumTickets 0;",
    }
    assert str(identity.key.parent) not in text


@pytest.mark.parametrize(
    ("profile", "line"),
    [
        (
            TLSProfile(version="1.2", cipher="ECDHE-ECDSA-AES128-GCM-SHA256"),
            "ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;",
        ),
        (TLSProfile(cipher="TLS_AES_128_GCM_SHA256"), "ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;"),
        (TLSProfile(tickets=2), "ssl_conf_command NumTickets 2;"),
        (TLSProfile(tickets=1), "ssl_session_tickets on;"),
        (TLSProfile(client_key="p256"), "ssl_verify_client on;"),
    ],
)
def test_every_axis_of_tls_is_configured(identity: Identity, profile: TLSProfile, line: str) -> None:
    assert line in {each.strip() for each in configured(task_of(identity, profile)).splitlines()}


def test_a_module_that_is_not_built_in_gets_no_directory(identity: Identity) -> None:
    without = replace(BUILD, arguments=f"{BUILD.arguments} --without-http_scgi_module")
    assert "scgi" in configured(task_of(identity))
    assert "scgi" not in configured(task_of(identity), without)


# What it does


@needs_nginx
def test_it_serves_the_page_to_the_byte(server: Handle, identity: Identity) -> None:
    reply, _ = fetch(server.address, identity)
    assert body_of(reply) == BODY


@needs_nginx
def test_it_serves_plain_connections_too() -> None:
    with running(task_of(None)) as handle:
        reply, _ = fetch(handle.address, None)
        assert handle.ask("facts")["transport"].startswith("nginx/")
    assert body_of(reply) == BODY


@needs_nginx
def test_curl_gets_the_page(server: Handle, identity: Identity) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    url = f"https://localhost:{server.address.port}/files/page.txt"
    done = subprocess.run((curl, "-sS", "--cacert", str(identity.ca), url), capture_output=True, check=True)
    assert done.stdout == BODY


@needs_nginx
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_handshakes_are_full_and_bring_no_ticket(identity: Identity, version: str) -> None:
    profile = TLSProfile(version=version)
    with running(task_of(identity, profile)) as handle:
        client = tls.client_tls(profile, identity)
        session = None
        for _ in range(2):
            plain = socket.create_connection(handle.address, timeout=30)
            with client.context.wrap_socket(plain, server_hostname="localhost", session=session) as sock:
                sock.sendall(REQUEST)
                assert body_of(b"".join(iter(lambda: sock.recv(65536), b""))) == BODY
                assert sock.version() == f"TLSv{version}"
                assert not sock.session_reused
                session = sock.session
                assert session is None or not session.has_ticket


@needs_nginx
def test_it_asks_clients_for_their_certificate(identity: Identity) -> None:
    profile = TLSProfile(client_key="p256")
    with running(task_of(identity, profile)) as handle:
        # TLS 1.3: the client learns of it with the first answer.
        reply, _ = fetch(handle.address, identity)
    assert reply.startswith(b"HTTP/1.1 400 ")


@needs_nginx
def test_it_keeps_the_close_policy_on_the_wire(server: Handle, identity: Identity) -> None:
    backend = registry().contender("asyncio").load()
    client = tls.client_tls(TLSProfile(), identity)
    with RecordingRelay(server.address) as relay:
        target = Target(address=relay.address, talk=TALK, tls=client, options=Options())
        backend.run(lambda: visit(backend, target))
        (trace,) = relay.traces()
    reply, _ = fetch(server.address, identity)
    # Its header is longer than ours, and always as long.
    assert wire.judge(trace, ClosePolicy.BOTH_NOTIFY, tls=TLSProfile(), talk=replace(TALK, reply=reply)) is None


@needs_nginx
def test_it_counts_what_others_did_and_not_what_it_was_asked(server: Handle, identity: Identity) -> None:
    before = server.ask("counts")
    for _ in range(3):
        fetch(server.address, identity)
    with socket.create_connection(server.address):
        while (held := server.ask("counts"))["open"] != 1:
            pass
    while (after := server.ask("counts"))["open"]:
        pass
    assert (before["accepted"], before["served"], before["open"]) == (0, 0, 0)
    assert (held["accepted"], held["served"]) == (4, 3)
    assert (after["accepted"], after["served"], after["faults"]) == (4, 3, {})
    assert after.keys() >= {"handshakes", "exchanged", "drops", "overflows", "collections"}


@needs_nginx
def test_its_facts_are_its_own_and_do_not_name_what_clients_know(server: Handle) -> None:
    facts = server.ask("facts")
    _, build = find()
    assert facts == {"loop": "nginx", "transport": str(build), "backlog": 4096}


@needs_nginx
def test_the_backlog_is_what_the_kernel_has(identity: Identity) -> None:
    with running(task_of(identity, options=Options(backlog=77))) as handle:
        assert handle.ask("facts")["backlog"] == 77


@needs_nginx
def test_it_answers_what_every_server_is_asked(server: Handle) -> None:
    assert server.ask("settle")["accepted"] == 0
    assert server.ask("mark") == {}


@needs_nginx
def test_the_process_that_is_told_is_the_worker_on_its_core(identity: Identity) -> None:
    core = min(os.sched_getaffinity(0))
    with running(task_of(identity, cpu=core)) as handle:
        worker = psutil.Process(handle.pid)
        assert worker.parent().name() == "nginx"  # type: ignore[union-attr]  # it has one
        assert os.sched_getaffinity(handle.pid) == {core}
        assert worker.uids().effective == os.geteuid()


@needs_nginx
def test_why_it_does_not_start_is_told(identity: Identity, stranger: Identity, tmp_path: Path) -> None:
    log = tmp_path / "log"
    wrong = replace(identity, key=stranger.key)
    with log.open("wb") as stderr, pytest.raises(LoopmarkError), running(task_of(wrong), stderr=stderr.fileno()):
        pass
    last = log.read_text().splitlines()[-1]
    assert "nginx ended" in last
    assert "[emerg]" in last
    assert "key values mismatch" in last
    assert tempfile.gettempdir() not in last


# What is left of it: nothing


def processes(server: Handle) -> dict[str, psutil.Process]:
    """Name all processes of a server; psutil knows them by number and start time."""
    worker = psutil.Process(server.pid)
    master = worker.parent()
    keeper = master.parent() if master else None
    wrapper = keeper.parent() if keeper else None
    assert master is not None
    assert keeper is not None
    assert wrapper is not None
    assert wrapper.ppid() == os.getpid()
    return {"worker": worker, "master": master, "keeper": keeper, "wrapper": wrapper}


def is_left(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def left(alive: dict[str, psutil.Process]) -> list[str]:
    """Return who is still there when the time is up."""
    end = time.monotonic() + SOON
    return [name for name, process in alive.items() if is_left(process) and not ends(process, end - time.monotonic())]


def ends(process: psutil.Process, seconds: float) -> bool:
    """Wait for the end of a process that need not be our child, and need not have been waited for by its parent."""
    if not hasattr(os, "pidfd_open"):
        return bool(psutil.wait_procs([process], max(0.0, seconds))[0])
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], max(0.0, seconds))[0])
    finally:
        os.close(descriptor)


@pytest.fixture
def own_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have everything temporary in one directory."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@needs_nginx
@pytest.mark.parametrize("killed", ["wrapper", "keeper", "master", "worker"])
def test_whoever_is_killed_nothing_is_left(identity: Identity, own_temporary: Path, killed: str) -> None:
    with running(task_of(identity), stderr=subprocess.DEVNULL) as handle:
        alive = processes(handle)
        assert [path.stat().st_mode & 0o777 for path in own_temporary.iterdir()] == [0o700]
        os.kill(alive[killed].pid, signal.SIGKILL)
        assert left(alive) == []
        assert list(own_temporary.iterdir()) == []


@needs_nginx
def test_nothing_is_left_when_the_channel_ends(identity: Identity, own_temporary: Path) -> None:
    with running(task_of(identity)) as handle:
        alive = processes(handle)
        handle.close()
        assert left(alive) == []
        assert list(own_temporary.iterdir()) == []


@needs_nginx
def test_what_the_keeper_leaves_behind_ends_or_is_adopted(identity: Identity) -> None:
    with running(task_of(identity), stderr=subprocess.DEVNULL) as handle:
        alive = processes(handle)
        alive["wrapper"].suspend()
        alive["keeper"].kill()
        # The kernel ends the master; the worker becomes a child of the server's process, which cannot do anything yet.
        assert left({"master": alive["master"]}) == []
        assert alive["worker"].ppid() == alive["wrapper"].pid
        alive["wrapper"].resume()
        assert left(alive) == []


@needs_nginx
def test_when_the_servers_process_has_ended_nginx_already_has(identity: Identity) -> None:
    with running(task_of(identity)) as handle:
        alive = processes(handle)
    assert [name for name, process in alive.items() if process.is_running()] == []


def ask_on(server: Handle) -> None:
    while True:
        server.ask("counts")


@needs_nginx
def test_a_kill_in_the_middle_of_its_end_leaves_nothing(identity: Identity, own_temporary: Path) -> None:
    """As a block ends its arms: the client first, whose end the server sees, and then the server."""
    for _ in range(5):
        with running(task_of(identity)) as handle:
            alive = processes(handle)
            handle.close()
            alive["wrapper"].kill()
            assert left(alive) == []
            assert list(own_temporary.iterdir()) == []


@needs_nginx
def test_the_client_sees_the_channel_end_when_nginx_does(identity: Identity, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as stderr, running(task_of(identity), stderr=stderr.fileno()) as handle:
        os.kill(handle.pid, signal.SIGKILL)
        with pytest.raises(ServerEndedError):
            ask_on(handle)
    assert "nginx ended" in log.read_text().splitlines()[-1]


@needs_nginx
def test_a_kill_of_the_whole_group_leaves_nothing(identity: Identity, own_temporary: Path) -> None:
    """As the executor ends a block."""
    script = (
        "import sys; from loopmark.peer import spawned; from loopmark.task import task_from\n"
        "with spawned(task_from(sys.argv[1])) as server:\n"
        "    server.wait_until_ready(); print(server.pid, flush=True); sys.stdin.read()\n"
    )
    block = subprocess.Popen(
        (sys.executable, "-P", "-c", script, to_json(task_of(identity))),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with block:
        assert block.stdout is not None
        worker = psutil.Process(int(block.stdout.readline()))
        master = worker.parent()
        assert master is not None
        os.killpg(block.pid, signal.SIGKILL)
    assert left({"worker": worker, "master": master}) == []
    assert list(own_temporary.iterdir()) == []
