"""Percentiles of requests, and the report that people know from ab."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopmark.report.requests import request_report
from loopmark.timings import Timings, percentile

TIMINGS = Timings(
    concurrency=2,
    wall=0.5,
    seconds=(0.004, 0.001, 0.003, 0.002),
    lengths=(20480, 20480, 100, 20480),
    statuses={404: 1, 200: 4},
    failed={"reset": 1, "protocol": 1},
)
NONE = Timings(concurrency=1, wall=0.25, seconds=(), lengths=(), statuses={}, failed={"reset": 3})

SECONDS = st.lists(st.floats(min_value=0, max_value=1e6), min_size=1, max_size=200).map(sorted)


@pytest.mark.parametrize(
    ("percent", "expected"), [(1, 1), (20, 1), (21, 2), (50, 3), (60, 3), (61, 4), (80, 4), (81, 5), (99, 5), (100, 5)]
)
def test_a_percentile_is_the_nearest_rank(percent: int, expected: int) -> None:
    assert percentile([1, 2, 3, 4, 5], percent) == expected


@given(SECONDS, st.integers(min_value=1, max_value=100))
def test_at_least_so_many_percent_do_not_exceed_a_percentile(ordered: list[float], percent: int) -> None:
    value = percentile(ordered, percent)
    assert value in ordered
    assert 100 * sum(each <= value for each in ordered) >= percent * len(ordered)
    assert 100 * sum(each < value for each in ordered) < percent * len(ordered)


@given(SECONDS)
def test_all_of_them_do_not_exceed_the_hundredth_percentile(ordered: list[float]) -> None:
    assert percentile(ordered, 100) == ordered[-1]


def rows(report: str) -> dict[str, str]:
    """Return each row's cells by its name; cells are two blanks apart at least."""
    cells = (re.split(r"  +", line, maxsplit=1) for line in report.splitlines())
    return {row[0].strip(): row[1].strip() for row in cells if len(row) == 2}


def test_the_report_has_the_figures_that_people_know() -> None:
    found = rows(request_report("https_static: uvloop calls 127.0.0.1:8443", TIMINGS))
    assert found["concurrency"] == "2"
    assert found["completed requests"] == "4"
    assert found["failed requests"] == "2 (1 x protocol, 1 x reset)"
    assert found["wall time, s"] == "0.500"
    assert found["completed requests per second"] == "8.0"
    assert found["status codes"] == "4 x 200, 1 x 404"
    assert found["service time, ms"].split() == ["1.00", "2.50", "4.00"]
    assert found["document length, bytes"].split() == ["100", "15385", "20480"]
    assert {name: found[name] for name in ("50 %", "75 %", "100 %")} == {
        "50 %": "2.00",
        "75 %": "3.00",
        "100 %": "4.00",
    }


def test_its_percentiles_are_called_what_they_are() -> None:
    report = request_report("anything", TIMINGS)
    assert "service time at most, ms" in report
    assert "no latency" in " ".join(report.split())
    assert "latency" not in report.partition("* Service time")[0]


def test_without_a_completed_request_there_are_counts_only() -> None:
    report = request_report("anything", NONE)
    found = rows(report)
    assert (found["completed requests"], found["failed requests"]) == ("0", "3 (3 x reset)")
    assert found["status codes"] == "none"
    assert "50 %" not in report


def test_without_failures_none_are_listed() -> None:
    whole = Timings(concurrency=1, wall=1.0, seconds=(0.1,), lengths=(4,), statuses={200: 1}, failed={})
    assert rows(request_report("anything", whole))["failed requests"] == "0"
