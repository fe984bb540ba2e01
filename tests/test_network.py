"""Links: two namespaces, the round-trip time between them, and what is left when somebody ends."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from loopmark import network
from loopmark.errors import UsageError

RTT = 40.0


@contextmanager
def made() -> Iterator[network.Link]:
    """Make a link, or skip the test where this machine cannot have one."""
    with ExitStack() as stack:
        try:
            link = stack.enter_context(network.Link(RTT))
        except UsageError as error:
            pytest.skip(str(error))
        yield link


@pytest.fixture
def link() -> Iterator[network.Link]:
    with made() as link:
        yield link


def start(namespace: str, script: str) -> subprocess.Popen[str]:
    """Start Python in a namespace; the script finds the address of the link's server side in `server`."""
    entering = f"from loopmark.network import enter, SERVER as server\nenter({namespace!r})\n"
    command = [sys.executable, "-c", entering + textwrap.dedent(script)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def run(namespace: str, script: str) -> str:
    """Run Python in a namespace; return what it prints."""
    with start(namespace, script) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out


CONNECT = """
    import socket, time
    start = time.perf_counter()
    try:
        socket.create_connection((server, 9))
    except ConnectionRefusedError:
        print(1000 * (time.perf_counter() - start))
"""


def test_a_refusal_comes_after_one_round_trip(link: network.Link) -> None:
    # The lower bound is certain; a busy machine may need another try for the upper one.
    times = [float(run(link.client, CONNECT)) for _ in range(5)]
    assert min(times) >= RTT
    assert min(times) < 2 * RTT


def test_where_tc_knows_netem_it_is_told_to_delay_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a `tc` that only notes what it is told, the cable is one without delay, whatever this kernel has."""
    tc = tmp_path / "tc"
    tc.write_text('#!/bin/sh\necho "$@" >> "$0.told"\n')
    tc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with made() as link:
        if link.kind != "netem":
            pytest.skip("this machine joins no namespaces with virtual Ethernet devices")
        assert run(link.client, CONNECT)  # whoever refuses has been reached
    told = (tmp_path / "tc.told").read_text().splitlines()
    assert told == ["qdisc add dev cable root netem delay 20ms limit 10000"] * 2


def test_both_sides_have_a_loopback_without_delay(link: network.Link) -> None:
    script = """
        import socket, time
        listener = socket.create_server(("127.0.0.1", 0))
        start = time.perf_counter()
        socket.create_connection(listener.getsockname())
        print(1000 * (time.perf_counter() - start))
    """
    for side in (link.server, link.client):
        assert min(float(run(side, script)) for _ in range(5)) < RTT


def test_datagrams_arrive_all_and_in_order(link: network.Link) -> None:
    receiver = """
        import socket
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((server, 7))
        sock.settimeout(30)
        print("bound", flush=True)
        print(*[int(sock.recv(100)) for _ in range(300)])
    """
    sender = """
        import socket
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for number in range(300):
            sock.sendto(b"%d" % number, (server, 7))
    """
    with start(link.server, receiver) as receiving:
        assert receiving.stdout is not None
        assert receiving.stdout.readline() == "bound\n"
        run(link.client, sender)
        out, _ = receiving.communicate(timeout=60)
    assert out.split() == [str(number) for number in range(300)]


def test_two_links_do_not_see_each_other(link: network.Link) -> None:
    with network.Link(RTT) as second:
        devices = [Path(side).stat().st_ino for side in (link.server, link.client, second.server, second.client)]
        assert len(set(devices)) == 4
        assert float(run(second.client, CONNECT)) >= RTT


def test_whoever_makes_a_link_stays_where_and_as_it_is(link: network.Link) -> None:
    here = Path("/proc/self/ns/net").stat().st_ino
    assert here not in (Path(link.server).stat().st_ino, Path(link.client).stat().st_ino)


def test_nobody_holds_a_link_that_was_left() -> None:
    with made() as link:
        holder = psutil.Process(int(link.client.split("/")[2]))
    assert not holder.is_running()


def test_nobody_holds_a_link_whose_maker_was_killed(link: network.Link) -> None:
    del link  # so that it is known to be possible here
    maker = """
        import signal
        from loopmark.network import Link
        with Link(10) as link:
            print(link.client, flush=True)
            signal.pause()
    """
    command = [sys.executable, "-c", textwrap.dedent(maker)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as making:
        assert making.stdout is not None
        holder = psutil.Process(int(making.stdout.readline().split("/")[2]))
        making.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs([holder], timeout=60)
    assert not alive


def test_elsewhere_than_on_linux_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="only Linux has: run without it"):
        network.Link(RTT).__enter__()


def test_where_namespaces_may_not_be_made_the_reason_is_told() -> None:
    script = """
        from loopmark.errors import UsageError
        from loopmark.network import Link
        try:
            Link(10).__enter__()
        except UsageError as error:
            print(error)
    """
    # A user namespace of our own may be denied everything.
    deny = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$0" -c "$1"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", deny, sys.executable, textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        pytest.skip(f"no user namespace to try it in: {done.stderr}")
    assert "no link with a round-trip time can be made: " in done.stdout
    assert "namespaces (" in done.stdout
    assert done.stdout.endswith("; run without --rtt\n")
