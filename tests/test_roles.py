"""One role each: in two windows, on two machines (two namespaces stand for them), and in the background."""

import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from loopmark import certs
from loopmark.tls import Identity

COMMAND = [sys.executable, "-m", "loopmark"]
HERE, THERE = "10.204.0.1", "10.204.0.2"


class Served(NamedTuple):
    """A server that is running, and what it says at its end."""

    process: "subprocess.Popen[str]"
    port: str
    ready: str

    def end(self) -> tuple[str, str]:
        """Send SIGTERM; return its last line and what it told."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return out, err


@contextmanager
def serving(*arguments: str, before: Sequence[str] = ()) -> Iterator[Served]:
    command = [*before, *COMMAND, "serve", *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            port = re.search(r":(\d+)[,;]", ready)
            assert port is not None, process.communicate(timeout=60)
            yield Served(process, port[1], ready)
        finally:
            process.kill()


def drive(*arguments: str, before: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    command = [*before, *COMMAND, "drive", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def directory(identity: Identity) -> str:
    return str(identity.ca.parent)


def events(text: str) -> list[str]:
    """Return events without their times, which every line begins with."""
    found = []
    for line in text.splitlines():
        stamped = re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (.*)", line)
        assert stamped is not None, line
        found.append(stamped[1])
    return found


# Two windows


def test_both_windows_tell_every_event_with_the_peers_address(identity: Identity) -> None:
    options = ["tls_pingpong", "-v", "--certs", directory(identity)]
    with serving(*options, "-b", "asyncio") as served:
        driven = drive(*options, "-b", "blocking", "--port", served.port)
        out, err = served.end()
    assert driven.returncode == 0
    assert driven.stdout.startswith("1 connection, 1 at a time: ")
    name = f"127.0.0.1:{served.port} #1"
    assert events(driven.stderr) == [
        f"{name}: connecting",
        f"{name}: connected, TLSv1.3, TLS_AES_256_GCM_SHA384",
        f"{name}: sends 4 bytes: b'PING'",
        f"{name}: received 4 bytes: b'PONG', to the end of the stream",
        f"{name}: closing",
        f"{name}: closed",
    ]
    told = events(err)
    peers = {each.partition(": ")[0] for each in told}
    assert re.fullmatch(r"127\.0\.0\.1:\d+", peers.pop())
    assert not peers
    assert [each.partition(": ")[2] for each in told] == [
        "connection accepted",
        "received 4 bytes: b'PING'",
        "message terminated",
        "sends 4 bytes: b'PONG'",
        "closing",
    ]
    assert out == "accepted 1, served 1, faults: none\n"


def test_without_v_nothing_is_told(identity: Identity) -> None:
    options = ["tcp_pingpong", "--certs", directory(identity)]
    with serving(*options) as served:
        driven = drive(*options, "--port", served.port, "-n", "3")
        _, err = served.end()
    assert (driven.stderr, err) == ("", "")


@pytest.mark.parametrize("contender", ["asyncio", "uvloop", "trio", "anyio", "blocking"])
def test_a_server_in_the_background_of_a_script_ends_with_its_counts(contender: str) -> None:
    # Shells without job control have background jobs ignore SIGINT.
    with serving("tcp_pingpong", "-b", contender, before=["sh", "-c", 'trap "" INT; exec "$@"', "sh"]) as served:
        assert drive("tcp_pingpong", "--port", served.port, "-n", "3").returncode == 0
        assert served.end() == ("accepted 4, served 4, faults: none\n", "")


@pytest.mark.parametrize("contender", ["asyncio", "asyncio-protocol", "asyncio-sockets", "trio", "anyio", "blocking"])
def test_a_connection_that_is_lost_is_told_and_counted(contender: str) -> None:
    with serving("tcp_pingpong", "-b", contender, "-v") as served:
        with socket.create_connection(("127.0.0.1", int(served.port)), timeout=60) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(b"PI")
            # The server has read that before the reset, which would overtake it.
            assert served.process.stderr is not None
            told = [served.process.stderr.readline() for _ in range(2)]
        told.append(served.process.stderr.readline())
        out, _ = served.end()
    assert [each.partition(": ")[2].split()[0] for each in events("".join(told))] == ["connection", "received", "lost:"]
    assert out == "accepted 1, served 0, faults: 1 reset\n"


@pytest.mark.parametrize(("contender", "told"), [("asyncio", "none"), ("trio", "1 tls")])
def test_a_handshake_that_failed_is_counted_though_a_library_does_not_tell(
    contender: str, told: str, identity: Identity
) -> None:
    with serving("tls_pingpong", "-b", contender, "--certs", directory(identity)) as served:
        with socket.create_connection(("127.0.0.1", int(served.port)), timeout=60) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while sock.recv(4096):
                pass
        out, _ = served.end()
    assert out.endswith(f"served 0, faults: {told}; 1 handshake begun and not completed\n")


# Two machines


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::"])
def test_an_address_that_others_reach_needs_the_flag(host: str) -> None:
    command = [*COMMAND, "serve", "tcp_pingpong", "--host", host, "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "add --public" in done.stderr


def test_a_public_server_says_so() -> None:
    with serving("tcp_pingpong", "--host", "0.0.0.0", "--public") as served:
        assert "for whoever can reach that address; Ctrl-C ends it" in served.ready
        served.end()


@pytest.mark.parametrize("command", ["serve", "drive"])
def test_a_name_is_no_address(command: str) -> None:
    done = subprocess.run(
        [*COMMAND, command, "tcp_pingpong", "--host", "localhost"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "'localhost' is no numeric address" in done.stderr
    assert "--server-name" in done.stderr


@pytest.mark.parametrize(
    "options",
    [("--tls", "1.2", "--key", "rsa2048"), ("--client-key", "p256"), ("--tls-resume",)],
    ids=["1.2", "mtls", "resumed"],
)
def test_both_roles_do_tls_as_they_are_told(tmp_path: Path, options: tuple[str, ...]) -> None:
    options = ("tls_pingpong", *options, "--certs", str(tmp_path))
    with serving(*options) as served:
        driven = drive(*options, "-b", "blocking", "--port", served.port, "-n", "3", "-c", "1")
        served.end()
    assert (driven.returncode, driven.stderr) == (0, "")
    assert driven.stdout.startswith("3 connections, 1 at a time: ")


def test_a_client_that_was_told_otherwise_is_refused(tmp_path: Path) -> None:
    options = ("tls_pingpong", "--certs", str(tmp_path))
    with serving(*options, "--tls", "1.2") as served:
        driven = drive(*options, "--tls", "1.3", "--port", served.port, "-n", "3")
        served.end()
    assert driven.returncode == 1
    assert "loopmark serve tls_pingpong" in driven.stderr  # with what may be the reason


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["tcp_pingpong", "--tls", "1.2"], "tcp_pingpong has no TLS"),
        (["tls_pingpong", "--key", "p256,rsa2048"], "give one of each"),
        (["tls_pingpong", "--tls-resume", "--tickets", "2"], "exactly 1 session ticket"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "drive"])
def test_tls_that_cannot_be_is_refused(command: str, arguments: list[str], reason: str) -> None:
    done = subprocess.run([*COMMAND, command, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert reason in done.stderr


class Hosts(NamedTuple):
    """Two namespaces joined by a cable: what to put before a command that is to run on one of them."""

    here: list[str]
    there: list[str]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with ExitStack() as stack:

        def start(*command: str) -> list[str]:
            holder = stack.enter_context(
                subprocess.Popen([*command, "sh", "-c", "echo ready && exec cat"], stdin=-1, stdout=-1, stderr=-1)
            )
            assert holder.stdout is not None
            if holder.stdout.readline() != b"ready\n":
                _, err = holder.communicate(timeout=60)
                pytest.skip(f"no namespace can be made here: {err.decode().strip()}")
            return ["nsenter", "--preserve-credentials", "-U", "-n", "-t", str(holder.pid)]

        def do(host: list[str], command: str) -> None:
            done = subprocess.run([*host, "ip", *command.split()], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"ip {command}: {done.stderr.strip()}")

        try:
            here = start("unshare", "--user", "--map-root-user", "--net")
            there = start(*here[:-3], "-t", here[-1], "unshare", "--net")
            do(here, f"link add cable type veth peer name cable netns {there[-1]}")
        except FileNotFoundError as error:
            pytest.skip(f"{error.filename} is not installed")
        for host, address in ((here, HERE), (there, THERE)):
            do(host, f"addr add {address}/24 dev cable")
            do(host, "link set cable up")
            do(host, "link set lo up")
        yield Hosts(here, there)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates for two hosts: the one directory that both have."""
    path = tmp_path_factory.mktemp("both")
    certs.ensure(path, names=[HERE, "here.example"])
    return path


@pytest.mark.parametrize("name", [HERE, "here.example", "localhost"])
def test_a_client_on_another_host_verifies_the_name_that_it_was_given(hosts: Hosts, both: Path, name: str) -> None:
    options = ["tls_pingpong", "--host", HERE, "--certs", str(both)]
    with serving(*options, "--public", before=hosts.here) as served:
        driven = drive(
            *options, "-b", "blocking", "--port", served.port, "--server-name", name, "-n", "5,3", before=hosts.there
        )
        out, _ = served.end()
    assert (driven.returncode, driven.stderr) == (0, "")
    assert [line.split(":")[0] for line in driven.stdout.splitlines()] == [
        "5 connections, 5 at a time",
        "3 connections, 3 at a time",
    ]
    assert out == "accepted 9, served 9, faults: none\n"


def test_a_client_on_another_host_needs_nothing_but_the_authoritys_file(
    hosts: Hosts, both: Path, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes((both / "ca.pem").read_bytes())
    options = ["tls_pingpong", "--host", HERE]
    with serving(*options, "--public", "--certs", str(both), before=hosts.here) as served:
        driven = drive(*options, "--certs", str(tmp_path), "--port", served.port, "-n", "3", before=hosts.there)
        served.end()
    assert (driven.returncode, driven.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["ca.pem"]


def test_a_name_that_the_certificate_does_not_have_is_refused(hosts: Hosts, both: Path) -> None:
    options = ["tls_pingpong", "--host", HERE, "--certs", str(both)]
    with serving(*options, "--public", before=hosts.here) as served:
        driven = drive(*options, "--port", served.port, "--server-name", "there.example", before=hosts.there)
        served.end()
    assert (driven.returncode, driven.stdout) == (1, "")
    assert "certificate: " in driven.stderr
    assert "there.example" in driven.stderr


def test_the_events_have_the_other_hosts_address(hosts: Hosts, both: Path) -> None:
    options = ["tls_pingpong", "-v", "--host", HERE, "--certs", str(both)]
    with serving(*options, "--public", before=hosts.here) as served:
        driven = drive(*options, "--port", served.port, before=hosts.there)
        _, err = served.end()
    assert {each.split(":")[0] for each in events(err)} == {THERE}
    assert {each.split(":")[0] for each in events(driven.stderr)} == {HERE}
