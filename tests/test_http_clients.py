"""Clients of others get right answers from every contender's HTTP server: curl is the oracle, wrk and ab count."""

import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import pytest

from loopmark.case import Benchmark
from loopmark.http1 import Page
from loopmark.ledger import Counts, Ledger
from loopmark.spi import Address, Backend, Feature, TLSProfile
from loopmark.testing.ground import Ground
from loopmark.tls import Identity

# As in test_backends: what a server has just accepted when it is left.
pytestmark = [pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"), pytest.mark.usefixtures("_collected")]

HTTP_SERVER: Benchmark = import_module("loopmark.benchmarks.http_server").BENCHMARK
HTTPS_STATIC: Benchmark = import_module("loopmark.benchmarks.https_static").BENCHMARK
STATIC_PAGE: Page = import_module("loopmark.benchmarks.https_static").PAGE
SIZED_PAGE: Page = import_module("loopmark.benchmarks.https_static").SIZED_PAGE

every_profile = pytest.mark.parametrize("profile", [None, TLSProfile()], ids=["plain", "tls"])


def tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: on Debian, apt install {package}")
    return found


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command[0]} exited with {done.returncode}: {done.stderr.decode()}"
    return done.stdout.decode()


def serve(
    backend: Backend,
    identity: Identity,
    profile: TLSProfile | None,
    benchmark: Benchmark,
    work: Callable[[str], None],
) -> Counts:
    """Serve while `work` calls the URL that it is given, without a path; return what was counted in the end."""
    if profile is not None and Feature.TLS not in backend.features:
        pytest.skip("this backend has no TLS")
    ground = Ground(backend=backend, identity=identity, profile=profile)

    def work_and_settle(address: Address, ledger: Ledger) -> Counts:
        work(f"http{'s' if profile else ''}://{address}")
        ground.settle(ledger, 0)
        return ledger.counts()

    return ground.serve(work_and_settle, service=benchmark.conversation("").service)


class Got(NamedTuple):
    status: int
    content_type: str
    length: str
    body: str


class Curl:
    """curl, which trusts our authority only and would follow no proxy."""

    def __init__(self, identity: Identity) -> None:
        self._command = (
            tool("curl", "curl"),
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--cacert",
            str(identity.ca),
        )

    def __call__(self, url: str, *options: str) -> Got:
        written = "\n%{http_code}\n%{content_type}\n%header{content-length}"
        said = run(*self._command, "--write-out", written, *options, url)
        body, status, content_type, length = said.rsplit("\n", 3)
        return Got(int(status), content_type, length, body)


TEXT = "text/plain; charset=utf-8"


@every_profile
def test_curl_gets_each_page_and_what_is_not_there(
    contender: Backend, identity: Identity, profile: TLSProfile | None
) -> None:
    curl = Curl(identity)

    def work(url: str) -> None:
        assert curl(f"{url}/") == Got(200, TEXT, "4", "Home")
        assert curl(f"{url}/about") == Got(200, TEXT, "5", "About")
        assert curl(f"{url}/about?with=query") == Got(200, TEXT, "5", "About")
        assert curl(f"{url}/missing") == Got(404, TEXT, "9", "Not Found")

    counts = serve(contender, identity, profile, HTTP_SERVER, work)
    assert (counts.accepted, counts.served, counts.faults) == (4, 4, {})


@every_profile
def test_curl_gets_no_body_with_head_and_is_told_which_methods_there_are(
    contender: Backend, identity: Identity, profile: TLSProfile | None
) -> None:
    curl = Curl(identity)

    def work(url: str) -> None:
        # curl would print the fields that a HEAD request asks for.
        assert curl(f"{url}/about", "--head", "--output", "/dev/null") == Got(200, TEXT, "5", "")
        assert curl(f"{url}/about", "--data", "some=body").status == 405
        assert curl(f"{url}/about", "--request", "BREW").status == 501
        assert curl(f"{url}/about", "--header", "Host:").status == 400
        assert curl(f"{url}/about", "--header", f"Long: {'x' * 12_000}").status == 200

    counts = serve(contender, identity, profile, HTTP_SERVER, work)
    assert (counts.accepted, counts.served, counts.faults) == (5, 3, {"protocol": 2})


def test_curl_gets_the_whole_static_page_whose_end_is_the_connections(contender: Backend, identity: Identity) -> None:
    curl = Curl(identity)

    def work(url: str) -> None:
        assert curl(f"{url}{STATIC_PAGE.path}") == Got(200, TEXT, "", STATIC_PAGE.body.decode())
        assert curl(f"{url}{SIZED_PAGE.path}") == Got(200, TEXT, "20480", STATIC_PAGE.body.decode())

    counts = serve(contender, identity, HTTPS_STATIC.tls, HTTPS_STATIC, work)
    assert (counts.accepted, counts.served, counts.faults) == (2, 2, {})


def test_curl_refuses_a_server_of_another_authority(contender: Backend, identity: Identity, stranger: Identity) -> None:
    curl = Curl(stranger)

    def work(url: str) -> None:
        with pytest.raises(AssertionError, match="curl exited with 60"):
            curl(f"{url}/")

    serve(contender, identity, TLSProfile(), HTTP_SERVER, work)


@pytest.mark.parametrize(
    ("benchmark", "profile", "path", "size"),
    [
        (HTTP_SERVER, None, "/about", "5"),
        (HTTP_SERVER, TLSProfile(), "/about", "5"),
        (HTTPS_STATIC, TLSProfile(), STATIC_PAGE.path, "20480"),
    ],
    ids=["plain", "tls", "static"],
)
def test_ab_sees_no_failed_request(
    contender: Backend, identity: Identity, benchmark: Benchmark, profile: TLSProfile | None, path: str, size: str
) -> None:
    ab = tool("ab", "apache2-utils")

    def work(url: str) -> None:
        said = run(ab, "-q", "-n", "60", "-c", "6", f"{url}{path}")
        figures = dict(re.findall(r"^([A-Z][\w -]+?):? +(\d+)", said, re.MULTILINE))
        assert {name: figures[name] for name in ("Complete requests", "Failed requests", "Document Length")} == {
            "Complete requests": "60",
            "Failed requests": "0",
            "Document Length": size,
        }
        assert "Non-2xx responses" not in said

    counts = serve(contender, identity, profile, benchmark, work)
    assert counts.served >= 60


@pytest.mark.parametrize(
    ("benchmark", "profile", "path"),
    [(HTTP_SERVER, None, "/about"), (HTTPS_STATIC, TLSProfile(), SIZED_PAGE.path)],
    ids=["plain", "tls"],
)
def test_wrk_sees_no_failed_request(
    contender: Backend, identity: Identity, benchmark: Benchmark, profile: TLSProfile | None, path: str
) -> None:
    wrk = tool("wrk", "wrk")

    def work(url: str) -> None:
        said = run(wrk, "-t", "1", "-c", "4", "-d", "1s", "-H", "Connection: close", f"{url}{path}")
        (requests,) = re.findall(r"^ *(\d+) requests in", said, re.MULTILINE)
        assert int(requests) > 0
        assert "Non-2xx" not in said
        assert "Socket errors" not in said

    counts = serve(contender, identity, profile, benchmark, work)
    assert counts.served > 0
