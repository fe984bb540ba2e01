import os
import signal
import threading

import pytest
from tests.broken import HidesItsTLS, LosesTheValue, ReplacesExceptions

from loopmark.errors import UsageError
from loopmark.spi import Backend
from loopmark.testing import CLAUSES, ContractError, Finding, Status, check_backend, require_kept
from loopmark.tls import Identity

# asyncio and anyio lose a socket that is accepted at the very moment at which their server is left: it is closed by the
# garbage collector, with a warning. What a backend leaks is checked by counting descriptors.
pytestmark = [pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"), pytest.mark.usefixtures("_collected")]


def test_every_contender_keeps_the_contract(contender: Backend, identity: Identity) -> None:
    findings = check_backend(contender, identity, deadline=30)
    require_kept(findings)
    assert [each.clause for each in findings] == [each.name for each in CLAUSES]
    assert sum(each.status is Status.OK for each in findings) > len(CLAUSES) / 2


def test_every_clause_says_in_one_sentence_what_it_promises() -> None:
    for clause in CLAUSES:
        assert clause.promise.endswith("."), clause.name
        assert "\n" not in clause.promise, clause.name
    assert len({each.name for each in CLAUSES}) == len(CLAUSES)


def test_findings_are_reported_one_by_one_as_they_are_found(identity: Identity) -> None:
    reported: list[Finding] = []
    names = ["run_returns_the_value", "run_lets_exceptions_through"]
    findings = check_backend(LosesTheValue(), identity, only=names, report=reported.append)
    assert reported == findings
    assert [str(each) for each in findings] == [
        "run_returns_the_value: FAILED: run returned something else than the coroutine (plain TCP, IPv4)",
        "run_lets_exceptions_through: ok",
    ]


def test_a_violated_contract_is_an_error_that_lists_every_clause(identity: Identity) -> None:
    class Both(LosesTheValue, ReplacesExceptions):
        pass

    findings = check_backend(
        Both(), identity, only=["run_returns_the_value", "run_lets_exceptions_through", "client_converses"]
    )
    with pytest.raises(ContractError) as caught:
        require_kept(findings)
    assert "run_returns_the_value: run returned something else" in str(caught.value)
    assert "run_lets_exceptions_through: run raised RuntimeError" in str(caught.value)


def test_what_a_backend_cannot_do_is_not_applicable_with_a_reason(identity: Identity) -> None:
    (finding,) = check_backend(HidesItsTLS(), identity, only=["client_refuses_a_wrong_name"])
    assert (finding.status, finding.reason) == (Status.NOT_APPLICABLE, "the backend has no TLS")


def test_an_unknown_clause_is_wrong_usage(identity: Identity) -> None:
    with pytest.raises(UsageError, match="unknown clause no_such_clause; there are run_returns_the_value"):
        check_backend(LosesTheValue(), identity, only=["no_such_clause"])


def test_an_interrupt_is_for_whoever_runs_the_checker_and_no_fault_of_the_backend(identity: Identity) -> None:
    let_go = threading.Event()

    class Interrupted(LosesTheValue):
        def run(self, main: object, /) -> None:  # type: ignore[override]  # it never gets so far
            os.kill(os.getpid(), signal.SIGINT)
            let_go.wait()

    with pytest.raises(KeyboardInterrupt):
        check_backend(Interrupted(), identity, only=["run_returns_the_value"])
    let_go.set()


def test_a_backend_that_hangs_fails_and_does_not_hang_the_checker(identity: Identity) -> None:
    let_go = threading.Event()

    class Hangs(LosesTheValue):
        def run(self, main: object, /) -> None:  # type: ignore[override]  # it never gets so far
            let_go.wait()

    (finding,) = check_backend(Hangs(), identity, only=["run_returns_the_value"], deadline=0.05)
    let_go.set()
    assert finding.status is Status.FAILED
    assert "did not come to its end within 0.05 s" in finding.reason
