import threading

import pytest
import tests.broken_features  # noqa: F401  # it adds its own to BROKEN
from tests.broken import BROKEN, Broken, Pieces

from loopmark.testing import CLAUSES, Status, check_backend
from loopmark.tls import Identity

# A broken server may die in a thread of its own, which is its own affair.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    # What a broken backend leaks must not fail the test that comes next.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("_collected"),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda each: each.backend.__name__)
def test_a_broken_backend_is_caught_by_the_clause_that_is_about_it(broken: Broken, identity: Identity) -> None:
    backend = broken.make()
    try:
        (finding,) = check_backend(backend, identity, only=[broken.clause], deadline=broken.deadline)
    finally:
        if isinstance(backend, Pieces):
            backend.clean()
        for thread in threading.enumerate():
            if thread.name == broken.clause:  # the clause itself, where it could not end in time
                thread.join()
    assert finding.status is Status.FAILED
    assert broken.because in finding.reason


@pytest.mark.parametrize("broken", BROKEN, ids=lambda each: each.backend.__name__)
def test_the_sound_backend_that_it_was_made_from_keeps_that_clause(broken: Broken, identity: Identity) -> None:
    (finding,) = check_backend(broken.make_sound(), identity, only=[broken.clause])
    assert (finding.status, finding.reason) == (Status.OK, "")


def test_every_clause_catches_at_least_one_broken_backend() -> None:
    assert {each.clause for each in BROKEN} == {each.name for each in CLAUSES}
