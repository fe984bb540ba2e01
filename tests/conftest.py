import gc
import signal
import socket
from collections.abc import Callable, Iterator

import hypothesis  # noqa: F401  # before trio, whose plug-in for it warns when it comes later
import pytest

from loopmark import certs
from loopmark.registry import registry
from loopmark.spi import Backend
from loopmark.tls import Identity

NAMES = tuple(registry().contenders)


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """A certificate for localhost, made for this run."""
    return certs.ensure(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """A certificate of the same name from another authority."""
    return certs.ensure(tmp_path_factory.mktemp("strangers-certs"))


@pytest.fixture(scope="session")
def ipv6() -> str:
    """The IPv6 loopback address, where there is one."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback address: {error}")
    return "::1"


@pytest.fixture(params=NAMES)
def contender(request: pytest.FixtureRequest) -> Backend:
    """Every contender that is registered; one whose library is missing is skipped with that reason."""
    return _load(request.param)


@pytest.fixture(scope="session")
def load() -> Callable[[str], Backend]:
    """Load a contender by name, or skip the test with the reason."""
    return _load


def _load(name: str) -> Backend:
    try:
        return registry().contender(name).load()
    except ModuleNotFoundError as error:
        pytest.skip(f"{name}: {error.name} is not installed")


@pytest.fixture(scope="module")
def _collected() -> Iterator[None]:
    """Let what a module's tests left to the garbage collector be found while that module's marks still hold."""
    yield
    gc.collect()


def pytest_configure() -> None:
    # A shell without job control has its background jobs ignore Ctrl-C, which programs under test would inherit.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
