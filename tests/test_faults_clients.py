"""Servers that do harm, against every contender: each conversation ends in time, and in the same kind of error."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from tests import robustness
from tests.broken import HasAllTheTime
from tests.conftest import NAMES

from loopmark.spi import Address, Backend, ClientTLS, Connection, Options
from loopmark.testing import Status, check_backend, require_kept
from loopmark.testing.clientfaults import CLIENT_FAULTS, PATIENCE
from loopmark.testing.ground import Clause
from loopmark.tls import Identity

pytestmark = [
    # uvloop and asyncio leave transports to the garbage collector whose handshake is cancelled.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("_collected"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("clause", CLIENT_FAULTS, ids=lambda each: each.name)
def test_every_contender_tells_a_bad_server_in_the_same_way(
    clause: Clause, name: str, load: Callable[[str], Backend], identity: Identity
) -> None:
    (finding,) = check_backend(load(name), identity, clauses=(clause,), deadline=PATIENCE)
    require_kept([finding])
    page = robustness.read(robustness.sections(robustness.PAGE.read_text(encoding="utf-8"))["clients"], NAMES)
    assert robustness.disagreement(finding, name, page) is None


class TrustsEverybody(HasAllTheTime):
    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        if tls is not None:
            tls.context.check_hostname = False
            tls.context.verify_mode = 0  # type: ignore[assignment]  # CERT_NONE
        return await super().connect(address, tls=tls, options=options)


class HidesTheReason(HasAllTheTime):
    async def connect(self, address: Address, *, tls: ClientTLS | None, options: Options) -> Connection:
        with suppress(OSError):
            return await super().connect(address, tls=tls, options=options)
        raise RuntimeError("something went wrong")


@pytest.mark.parametrize(
    ("backend", "name", "because"),
    [
        (HasAllTheTime, "client_gives_up_in_time", "did not come to its end within 2 s, at silence"),
        (TrustsEverybody, "client_refuses_bad_certificates", "the conversation succeeded"),
        (HidesTheReason, "client_tells_an_early_end", "is told as other: RuntimeError: something went wrong"),
    ],
)
def test_a_client_that_does_otherwise_is_caught(
    backend: type[Backend], name: str, because: str, identity: Identity
) -> None:
    (finding,) = check_backend(backend(), identity, clauses=CLIENT_FAULTS, only=[name], deadline=2)
    assert finding.status is Status.FAILED
    assert because in finding.reason


def test_every_fault_says_in_one_sentence_what_is_promised() -> None:
    for clause in CLIENT_FAULTS:
        assert clause.promise.endswith("."), clause.name
        assert "\n" not in clause.promise, clause.name
