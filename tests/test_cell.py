"""`python -m loopmark.cell` is a stock pyperf script: what pyperf offers works, in the manager and in its workers."""

import json
import subprocess
import sys
from pathlib import Path

import pyperf
import pytest

from loopmark.tls import Identity

QUICK = ("-p", "2", "-n", "2", "-w", "1", "-l", "2")


def cell(*arguments: str, status: int = 0) -> str:
    """Run the script; return what it printed on both channels."""
    done = subprocess.run(
        [sys.executable, "-m", "loopmark.cell", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def stored(path: Path) -> pyperf.Benchmark:
    (benchmark,) = pyperf.BenchmarkSuite.load(str(path)).get_benchmarks()
    return benchmark


def test_wall_is_stored_under_the_name_that_campaigns_use(tmp_path: Path) -> None:
    cell("--benchmark", "tcp_pingpong", *QUICK, "-o", str(tmp_path / "a.json"))
    benchmark = stored(tmp_path / "a.json")
    assert benchmark.get_name() == "tcp_pingpong[c=1,role=both,cores=shared]"
    assert [len(run.values) for run in benchmark.get_runs()] == [2, 2]


@pytest.mark.parametrize("metric", ["client-cpu", "server-cpu"])
def test_another_metric_has_its_own_name(metric: str, tmp_path: Path) -> None:
    options = ["--benchmark", "tcp_pingpong", "--contender", "blocking", "--metric", metric]
    cell(*options, *QUICK, "-o", str(tmp_path / "a.json"))
    assert stored(tmp_path / "a.json").get_name().endswith(f"] [{metric.replace('-', ' ')}]")


def test_each_loop_stands_for_three_rounds_of_all_connections(tmp_path: Path) -> None:
    options = ["--benchmark", "tcp_pingpong", "--concurrency", "10", "--role", "server"]
    cell(*options, *QUICK, "-o", str(tmp_path / "a.json"))
    benchmark = stored(tmp_path / "a.json")
    assert benchmark.get_inner_loops() == 30
    assert benchmark.get_loops() == 2


def test_workers_get_the_certificates_that_the_manager_was_given(identity: Identity, tmp_path: Path) -> None:
    files = [str(identity.ca), str(identity.chain), str(identity.key)]
    cell("--certs", *files, *QUICK, "-o", str(tmp_path / "a.json"))
    assert "tls=1.3" in stored(tmp_path / "a.json").get_name()


def test_an_affinity_is_pyperfs_and_part_of_the_name(tmp_path: Path) -> None:
    cell("--benchmark", "tcp_pingpong", "--affinity", "0", *QUICK, "-o", str(tmp_path / "a.json"))
    benchmark = stored(tmp_path / "a.json")
    assert "cores=any" in benchmark.get_name()
    assert {run.get_metadata()["cpu_affinity"] for run in benchmark.get_runs()} == {"0"}


def test_stock_pyperf_compares_two_cells(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.json" for name in ("asyncio", "blocking")]
    for file in files:
        cell("--benchmark", "tcp_pingpong", "--contender", file.stem, *QUICK, "-o", str(file))
    compared = subprocess.run(
        [sys.executable, "-m", "pyperf", "compare_to", "--table", *map(str, files)],
        capture_output=True,
        text=True,
        check=True,
    )
    # A row whose difference is not significant to pyperf is hidden, and named below the table.
    assert "tcp_pingpong[c=1,role=both,cores=shared]" in compared.stdout


def test_help_shows_pyperfs_options_and_ours() -> None:
    text = cell("--help")
    assert "--rigorous" in text
    assert "--contender NAME" in text


def test_a_wrong_name_is_one_line_and_status_2() -> None:
    (line,) = cell("--contender", "uvlop", status=2).splitlines()
    assert "did you mean uvloop" in line


def test_nothing_that_is_stored_names_a_certificate(identity: Identity, tmp_path: Path) -> None:
    files = [str(identity.ca), str(identity.chain), str(identity.key)]
    cell("--certs", *files, *QUICK, "-o", str(tmp_path / "a.json"))
    assert str(identity.key) not in json.dumps(json.loads((tmp_path / "a.json").read_text()))
