"""Memory of idle connections: what a value is, and more connections than one address has ports for."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loopmark import procfs, traffic
from loopmark.caller import Caller
from loopmark.case import Case, Cores, Metric, Role
from loopmark.errors import FactsError
from loopmark.peer import spawned
from loopmark.plan import Axes, cases_of
from loopmark.registry import registry
from loopmark.spi import TLSProfile
from loopmark.task import Task
from loopmark.tls import Identity

CASE = Case(benchmark="tls_idle", concurrency=40, role=Role.BOTH, peer=None, cores=Cores.ANY, tls=TLSProfile(), held=10)
KIB = 1024


def task_of(contender: str, identity: Identity, case: Case = CASE) -> Task:
    known = registry()
    return Task(
        contender=known.contender(contender), benchmark=known.benchmarks["tls_idle"], case=case, identity=identity
    )


def test_memory_is_what_is_judged_and_the_name_says_from_where_on_it_counts() -> None:
    server, client = cases_of(registry().benchmark("tls_idle"), "", Axes(), peer="uvloop", cores=2)
    assert (server.primary, client.primary) == (Metric.SERVER_MEMORY, Metric.CLIENT_MEMORY)
    assert (server.concurrency, server.held, server.minimum_loops) == (2000, 500, 1500)
    assert "c=2000,held=500" in server.name


def test_asyncio_holds_its_buffer_of_256_kib_for_each_connection_and_blocking_sockets_do_not(
    identity: Identity,
) -> None:
    sizes = {}
    for name in ("asyncio", "blocking"):
        task = task_of(name, identity)
        with spawned(task) as server:
            value = Caller(task, server).time(30)
        # The client's side is this very process, which has memory to spare.
        assert value.client_memory is not None
        assert value.server_memory is not None
        sizes[name] = value.server_memory / 30
    assert sizes["asyncio"] > 256 * KIB > sizes["blocking"] > 0


def test_all_connections_are_counted_and_have_their_conversation(identity: Identity) -> None:
    task = task_of("asyncio", identity)
    with spawned(task) as server:
        caller = Caller(task, server)
        caller.time(30)
        counts = server.ask("counts")
    assert (counts["accepted"], counts["served"], counts["handshakes"]) == (40, 40, 40)


def test_memory_that_cannot_be_read_is_told(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of("asyncio", identity, replace(CASE, concurrency=4, held=1))
    with spawned(task) as server:
        caller = Caller(task, server)
        monkeypatch.setattr(procfs, "private_kib", lambda pid: None)
        with pytest.raises(FactsError, match="cannot be read on this system"):
            caller.time(3)


@pytest.mark.parametrize(("text", "ports"), [("32768\t60999\n", 28132), ("1 50", 1)])
def test_the_systems_range_of_ports_is_what_an_address_has(
    text: str, ports: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "range"
    path.write_text(text)
    monkeypatch.setattr(traffic, "PORT_RANGE", path)
    assert traffic.source_ports() == ports
    monkeypatch.setattr(traffic, "PORT_RANGE", tmp_path / "missing")
    assert traffic.source_ports() == 65535 - 49152 + 1 - traffic.SPARE_PORTS


FEW_PORTS = """
import os, subprocess, sys
if hasattr(os, "unshare"):
    os.unshare(os.CLONE_NEWNET)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
open("/proc/sys/net/ipv4/ip_local_port_range", "w").write("40000 40249")
os.execv(sys.executable, [sys.executable, "-m", "loopmark", *sys.argv[1:]])
"""


@pytest.mark.skipif(
    not hasattr(os, "unshare") or os.geteuid() != 0, reason="needs Python 3.12 on Linux, and to be root"
)
@pytest.mark.parametrize("contender", ["asyncio", "asyncio-protocol", "trio", "anyio+asyncio", "blocking"])
def test_more_connections_than_one_address_has_ports_come_from_several(
    contender: str, tmp_path: Path, identity: Identity
) -> None:
    command = [sys.executable, "-c", FEW_PORTS, "run", "-w", "tls_idle", "-c", "400", "-b", contender]
    command += ["--baseline", contender, "--role", "both", "--blocks", "1", "--no-progress", "--max-time", "60"]
    command += ["--results", str(tmp_path), "--certs", str(identity.ca.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("this machine does not allow network namespaces")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "400 held" in done.stdout
