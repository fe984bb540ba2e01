"""Requests that are timed one by one, over real sockets."""

from collections.abc import Callable

import pytest

from loopmark.http1 import OneRequest, Page, Site
from loopmark.ledger import Ledger
from loopmark.reqtimes import request_timings
from loopmark.service import Talk
from loopmark.spi import Address, Backend, Options
from loopmark.testing import Endpoint, ReferenceServer
from loopmark.testing.ground import Ground
from loopmark.timings import Timings
from loopmark.tls import Identity
from loopmark.traffic import Target

pytestmark = [pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"), pytest.mark.usefixtures("_collected")]

SITE = Site(Page(path="/", body=b"Home"), Page(path="/about", body=b"About"))
OTHER = Site(Page(path="/", body=b"Home"), Page(path="/about", body=b"Changed"))


def aim(address: Address, *talks: Talk) -> Target:
    return Target(address=address, talk=talks[0], tls=None, options=Options(), others=talks[1:])


def test_every_contender_times_every_request_and_counts_what_came(contender: Backend, identity: Identity) -> None:
    talks = (SITE.fetch("/"), SITE.fetch("/about"), SITE.fetch("/missing"))

    def work(address: Address, _: Ledger) -> Timings:
        return contender.run(lambda: request_timings(contender, aim(address, *talks), connections=10, concurrency=3))

    server = Ground(backend=contender, identity=identity, profile=None)
    found = server.serve(work, service=lambda: OneRequest(SITE))
    assert (found.concurrency, found.statuses, found.failed) == (3, {200: 7, 404: 3}, {})
    assert sorted(found.lengths) == sorted([4, 5, 9] * 3 + [4])
    assert len(found.seconds) == 10
    assert 0 < min(found.seconds) <= max(found.seconds) <= found.wall
    # No more than three requests were ever under way.
    assert sum(found.seconds) <= found.concurrency * found.wall


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_wrong_answer_is_a_failure_that_has_a_status(
    load: Callable[[str], Backend], identity: Identity, concurrency: int
) -> None:
    backend = load("asyncio")

    def work(address: Address, _: Ledger) -> Timings:
        target = aim(address, SITE.fetch("/"), SITE.fetch("/about"))
        return backend.run(lambda: request_timings(backend, target, connections=9, concurrency=concurrency))

    server = Ground(backend=backend, identity=identity, profile=None)
    found = server.serve(work, service=lambda: OneRequest(OTHER))
    assert (found.statuses, found.failed) == ({200: 9}, {"protocol": 4})
    assert found.lengths == (4,) * 5


def test_a_failed_request_does_not_end_the_others(contender: Backend) -> None:
    def every_second_is_reset(peer: Endpoint) -> None:
        request = peer.read(len(SITE.fetch("/").parts[0]))
        if peer.index % 2:
            peer.reset()
        else:
            peer.send(OneRequest(SITE).receive(request).data)
            peer.finish()

    with ReferenceServer(every_second_is_reset) as server:
        target = aim(server.address, SITE.fetch("/"))
        found = contender.run(lambda: request_timings(contender, target, connections=8, concurrency=2))
    assert (len(found.seconds), found.failed, found.statuses) == (4, {"reset": 4}, {200: 4})


def test_where_nobody_answers_there_is_a_report_of_failures_too(load: Callable[[str], Backend]) -> None:
    backend = load("asyncio")
    with ReferenceServer(lambda peer: None) as server:
        nobody = server.address
    found = backend.run(lambda: request_timings(backend, aim(nobody, SITE.fetch("/")), connections=5, concurrency=2))
    assert (found.seconds, found.failed, found.statuses) == ((), {"reset": 5}, {})


def test_what_is_no_http_is_a_failure_without_a_status(load: Callable[[str], Backend]) -> None:
    def pong(peer: Endpoint) -> None:
        peer.read(4)
        peer.send(b"PONG")
        peer.finish()

    backend = load("asyncio")
    talk = Talk(parts=(b"PING",), reply=b"PONG", reply_size=None)
    with ReferenceServer(pong) as server:
        found = backend.run(lambda: request_timings(backend, aim(server.address, talk), connections=3, concurrency=1))
    assert (found.failed, found.statuses) == ({"protocol": 3}, {})
