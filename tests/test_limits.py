"""What is checked before anything runs: file descriptors, memory, cores."""

import resource
from types import SimpleNamespace

import psutil
import pytest

from loopmark import limits, procfs
from loopmark.errors import UsageError

INFINITE = resource.RLIM_INFINITY


class Descriptors:
    """Stands in for the process's limit of open files."""

    def __init__(self, soft: int, hard: int, *, refuse: bool = False) -> None:
        self.limit = (soft, hard)
        self.refuse = refuse

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_NOFILE
        return self.limit

    def setrlimit(self, which: int, limit: tuple[int, int]) -> None:
        if self.refuse:
            raise ValueError("not allowed")
        self.limit = limit


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Plenty of memory, which a test may take away."""
    free = SimpleNamespace(available=64 << 30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    return free


def descriptors(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, *, refuse: bool = False) -> Descriptors:
    fake = Descriptors(soft, hard, refuse=refuse)
    monkeypatch.setattr(resource, "getrlimit", fake.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", fake.setrlimit)
    return fake


@pytest.mark.parametrize("soft", [1064, 5000, INFINITE])
def test_a_limit_that_is_high_enough_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch, memory: SimpleNamespace, soft: int
) -> None:
    fake = descriptors(monkeypatch, soft, INFINITE)
    limits.check(1000)
    assert fake.limit == (soft, INFINITE)


@pytest.mark.parametrize("hard", [1064, 4096, INFINITE])
def test_the_soft_limit_is_raised_to_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, memory: SimpleNamespace, hard: int
) -> None:
    fake = descriptors(monkeypatch, 256, hard)
    limits.check(1000)
    assert fake.limit == (1064, hard)


def test_a_hard_limit_that_is_too_low_is_told_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, memory: SimpleNamespace
) -> None:
    fake = descriptors(monkeypatch, 256, 1063)
    with pytest.raises(UsageError, match=r"1064 open files .* hard limit is 1063: .*ulimit -Hn 1064"):
        limits.check(1000)
    assert fake.limit == (256, 1063)


def test_a_soft_limit_that_cannot_be_raised_is_told_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, memory: SimpleNamespace
) -> None:
    descriptors(monkeypatch, 256, 4096, refuse=True)
    with pytest.raises(UsageError, match=r"limit of 256 cannot be raised \(not allowed\); type: ulimit -n 1064"):
        limits.check(1000)


def test_too_little_memory_is_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, memory: SimpleNamespace
) -> None:
    descriptors(monkeypatch, 4096, 4096)
    needed = limits.BASE_MIB + 1000 * limits.CONNECTION_KIB // 1024
    memory.available = needed << 20
    limits.check(1000)
    memory.available -= 1
    with pytest.raises(UsageError, match=f"about {needed} MiB .* {needed - 1} MiB are available"):
        limits.check(1000)


def test_two_cores_are_two_and_one_is_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "affinity", lambda: frozenset({3, 5}))
    monkeypatch.setattr(procfs, "core_pair", lambda: (5, 3))
    assert limits.cores() == (5, 3)
    monkeypatch.setattr(procfs, "core_pair", lambda: None)
    assert limits.cores() == (3, 3)


def test_where_nobody_can_be_pinned_there_are_no_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "affinity", lambda: None)
    assert limits.cores() is None
