"""Readings of live processes against what they say themselves, and fake machines for the choice of cores."""

import mmap
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopmark import procfs

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that burns some CPU, says so and waits for the end of its input."""
    code = "import sys; sum(range(3_000_000)); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process


@pytest.fixture
def gone(child: subprocess.Popen[bytes]) -> int:
    """The number of a process that has ended and was waited for."""
    child.communicate()
    return child.pid


def usage() -> resource.struct_rusage:
    return resource.getrusage(resource.RUSAGE_SELF)


def test_the_cpu_clock_of_another_process_is_what_it_has_used(child: subprocess.Popen[bytes]) -> None:
    # All CPU time of our children but this one is in what `os.times` tells before; this one's is added when it ends.
    before = os.times()
    clock = procfs.cpu_clock(child.pid)
    read = clock()
    child.communicate()
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    # `os.times` counts in ticks, twice rounded.
    assert 0 < read <= used + 2 / os.sysconf("SC_CLK_TCK")


@linux
def test_the_cpu_clock_of_this_process_is_its_own() -> None:
    before = time.process_time()
    read = procfs.cpu_clock(os.getpid())()
    assert before <= read <= time.process_time()


@linux
def test_the_cpu_clock_says_when_its_process_is_gone(child: subprocess.Popen[bytes]) -> None:
    clock = procfs.cpu_clock(child.pid)
    child.communicate()
    with pytest.raises(ProcessLookupError):
        clock()


@linux
def test_minor_faults_are_those_of_the_process_whatever_its_name() -> None:
    comm = Path("/proc/self/comm")
    name = comm.read_text().strip()
    comm.write_text("a) S 1 (b c")
    try:
        before = usage().ru_minflt
        faults = procfs.minor_faults("self")
        assert faults is not None
        assert before <= faults <= usage().ru_minflt
    finally:
        comm.write_text(name)


@linux
def test_context_switches_are_within_what_the_process_counts_itself() -> None:
    switches = procfs.context_switches(os.getpid())
    assert switches is not None
    now = usage()
    assert 0 < switches[0] <= now.ru_nvcsw
    assert 0 <= switches[1] <= now.ru_nivcsw


def fake_tasks(root: Path, name: str, *texts: str) -> None:
    (root / "self").mkdir()
    (root / "self/stat").write_text("")
    for number, text in enumerate(texts):
        task = root / "7/task" / str(number)
        task.mkdir(parents=True)
        (task / name).write_text(text)


def test_switches_of_every_thread_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "PROC", tmp_path)
    fake_tasks(
        tmp_path,
        "status",
        "Name:\ta: b\nvoluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t10\n",
        "Name:\tb\nvoluntary_ctxt_switches:\t4\nnonvoluntary_ctxt_switches:\t20\n",
    )
    assert procfs.context_switches(7) == (7, 30)


def test_the_run_delay_of_every_thread_counts_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "PROC", tmp_path)
    fake_tasks(tmp_path, "schedstat", "9 1500000000 7\n", "9 250000000 7\n")
    assert procfs.run_delay(7) == 1.75


def test_private_memory_is_clean_and_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "PROC", tmp_path)
    fake_tasks(tmp_path, "comm", "x")
    lines = ("5581-7ffc ---p 00000000 00:00 0 [rollup]", "Rss: 90 kB", "Shared_Clean: 50 kB", "Private_Clean: 10 kB")
    (tmp_path / "7/smaps_rollup").write_text("\n".join((*lines, "Private_Dirty: 30 kB", "Private_Hugetlb: 7 kB")))
    assert procfs.private_kib(7) == 40.0


@linux
def test_private_memory_grows_by_what_is_written() -> None:
    before = procfs.private_kib("self")
    # A mapping of its own: what this process has freed before cannot be used again.
    with mmap.mmap(-1, 32_000_000) as block:
        block.write(b"x" * 32_000_000)
        after = procfs.private_kib("self")
    assert before is not None
    assert after is not None
    assert after - before > 32_000_000 / 1024 * 0.9


@linux
def test_threads_counts_what_the_kernel_runs(child: subprocess.Popen[bytes]) -> None:
    assert procfs.threads(child.pid) == 1
    before = procfs.threads()
    assert before is not None
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert procfs.threads() == before + 1
    finally:
        stop.set()
        thread.join()


@linux
@pytest.mark.parametrize(
    "reading",
    [procfs.minor_faults, procfs.context_switches, procfs.run_delay, procfs.private_kib, procfs.threads],
)
def test_a_process_that_is_gone_is_an_error(reading: Callable[[int], object], gone: int) -> None:
    with pytest.raises(ProcessLookupError):
        reading(gone)


@pytest.mark.parametrize("reading", [procfs.minor_faults, procfs.context_switches, procfs.run_delay])
def test_without_proc_there_is_no_reading(
    reading: Callable[[int], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "PROC", tmp_path)
    assert reading(os.getpid()) is None
    assert procfs.listen_overflows() is None


def test_without_proc_psutil_tells_the_rest(
    child: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "PROC", tmp_path)
    assert procfs.cpu_clock(child.pid)() > 0
    assert (procfs.private_kib(child.pid) or 0) > 0
    assert procfs.threads(child.pid) == 1


def test_overflows_and_drops_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "PROC", tmp_path)
    (tmp_path / "7/net").mkdir(parents=True)
    text = "TcpExt: A ListenOverflows B ListenDrops\nTcpExt: 1 20 3 400\nIpExt: ListenDrops\nIpExt: 9\n"
    (tmp_path / "7/net/netstat").write_text(text)
    assert procfs.listen_overflows(7) == 420
    assert procfs.listen_overflows() is None


@linux
def test_a_full_accept_queue_is_counted() -> None:
    # In the machine's own counters others may count, too: they can only make the difference larger.
    code = """if True:
        import socket
        from loopmark import procfs
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            before = procfs.listen_overflows()
            calls = [socket.socket() for _ in range(4)]
            for call in calls:
                call.setblocking(False)
                call.connect_ex(listener.getsockname())
            print(procfs.listen_overflows() - before)
    """
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True)
    assert int(out.stdout) > 0


@linux
def test_pinning_is_read_back_and_inherited() -> None:
    code = """if True:
        import os, subprocess, sys
        from loopmark import procfs
        one = frozenset([max(procfs.affinity())])
        assert procfs.pin(one)
        assert procfs.affinity() == one == os.sched_getaffinity(0)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_nothing_can_be_pinned_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert procfs.pin(frozenset([0])) is False
    assert procfs.affinity() is None
    assert procfs.core_pair() is None


def test_importing_loads_no_psutil() -> None:
    code = "import sys; from loopmark import procfs; sys.exit('psutil' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# Fake machines


def machine(
    root: Path, cores: list[tuple[int, ...]], caches: list[str] | None = None, level: int = 3
) -> frozenset[int]:
    """Write a machine of these cores, each the logical CPUs it has; `caches` are the lists of those that share one."""
    for core in cores:
        for cpu in core:
            topology = root / f"cpu{cpu}/topology"
            topology.mkdir(parents=True)
            (topology / "thread_siblings_list").write_text(",".join(map(str, core)) + "\n")
            (topology / "physical_package_id").write_text("0\n")
            for cache in caches or ():
                first, _, last = cache.partition("-")
                if int(first) <= cpu <= int(last or first):
                    write_cache(root, cpu, 0, 1, str(cpu))
                    write_cache(root, cpu, level, level, cache)
    return frozenset(cpu for core in cores for cpu in core)


def write_cache(root: Path, cpu: int, index: int, level: int, shared: str) -> None:
    cache = root / f"cpu{cpu}/cache/index{index}"
    cache.mkdir(parents=True)
    (cache / "level").write_text(f"{level}\n")
    (cache / "shared_cpu_list").write_text(f"{shared}\n")


def test_two_cores_are_the_pair(tmp_path: Path) -> None:
    assert procfs.core_pair(tmp_path, machine(tmp_path, [(0,), (1,)], ["0-1"])) == (0, 1)


def test_one_core_is_no_pair(tmp_path: Path) -> None:
    assert procfs.core_pair(tmp_path, machine(tmp_path, [(0,)], ["0"])) is None


def test_two_threads_of_one_core_are_no_pair(tmp_path: Path) -> None:
    assert procfs.core_pair(tmp_path, machine(tmp_path, [(0, 1)], ["0-1"])) is None


def big(root: Path) -> frozenset[int]:
    """Two sockets of 32 cores; the second threads come after all first ones."""
    return machine(root, [(core, core + 64) for core in range(64)], ["0-31", "32-63", "64-95", "96-127"])


def test_a_big_machine_gives_two_cores_of_a_socket_without_the_first(tmp_path: Path) -> None:
    assert procfs.core_pair(tmp_path, big(tmp_path)) == (1, 2)


def test_a_sibling_of_the_first_cpu_is_avoided_too(tmp_path: Path) -> None:
    big(tmp_path)
    assert procfs.core_pair(tmp_path, frozenset({64, 65, 66})) == (65, 66)


def test_only_what_is_allowed_is_chosen(tmp_path: Path) -> None:
    big(tmp_path)
    assert procfs.core_pair(tmp_path, frozenset({7, 40, 50, 71})) == (40, 50)


def test_sharing_a_cache_matters_more_than_avoiding_the_first_core(tmp_path: Path) -> None:
    assert procfs.core_pair(tmp_path, machine(tmp_path, [(0,), (1,), (2,)], ["0-1", "2"])) == (0, 1)


def test_cores_that_share_nothing_are_better_than_one_core(tmp_path: Path) -> None:
    assert procfs.core_pair(tmp_path, machine(tmp_path, [(0,), (1,)], ["0", "1"])) == (0, 1)


def test_the_last_level_may_be_the_second(tmp_path: Path) -> None:
    cpus = machine(tmp_path, [(1,), (2,), (3,)], ["1", "2-3"], level=2)
    assert procfs.core_pair(tmp_path, cpus) == (2, 3)


def test_cpus_that_are_offline_are_not_chosen(tmp_path: Path) -> None:
    cpus = machine(tmp_path, [(cpu,) for cpu in range(5)], ["0-4"])
    for cpu in (1, 3):
        (tmp_path / f"cpu{cpu}/online").write_text("0\n")
    (tmp_path / "cpu2/online").write_text("1\n")
    assert procfs.core_pair(tmp_path, cpus) == (2, 4)


def test_a_machine_that_hides_its_cores_gives_a_pair_all_the_same(tmp_path: Path) -> None:
    assert procfs.core_pair(tmp_path, frozenset({0, 1, 2})) == (1, 2)
