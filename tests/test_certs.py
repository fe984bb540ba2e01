"""What `loopmark.certs` makes, renews, keeps and refuses; handshakes with it are in `test_tls.py`."""

import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from loopmark import certs, pem
from loopmark.errors import DamagedError, UsageError
from loopmark.tls import Identity

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def leaf_of(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.chain.read_bytes())


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != ".lock"}


def put_foreign(directory: Path, *names: str, expired: bool = False) -> Identity:
    """Write a user's own certificate, of the p256 type that trustme makes."""
    authority = trustme.CA()
    leaf = authority.issue_cert(*names, not_after=LONG_AGO if expired else None, key_type=trustme.KeyType.ECDSA)
    identity = Identity(ca=directory / "ca.pem", chain=directory / "p256.pem", key=directory / "p256.key")
    authority.cert_pem.write_to_path(identity.ca)
    leaf.cert_chain_pems[0].write_to_path(identity.chain)
    leaf.private_key_pem.write_to_path(identity.key)
    return identity


@pytest.fixture
def loose_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("key", certs.KEYS)
def test_each_key_type_gives_a_leaf_with_that_key(tmp_path: Path, key: str) -> None:
    identity = certs.ensure(tmp_path, key=key)
    assert pem.key_type_of(leaf_of(identity)) == key
    assert identity.chain.name == f"{key}.pem"


def test_a_leaf_names_this_machine_and_what_was_asked_for(tmp_path: Path) -> None:
    identity = certs.ensure(tmp_path, names=["MyHost", "192.0.2.7", "0:0::2"])
    assert set(pem.names_in(leaf_of(identity))) == {"localhost", "127.0.0.1", "::1", "myhost", "192.0.2.7", "::2"}


@pytest.mark.parametrize("key", certs.KEYS)
def test_a_clients_certificate_has_that_key_and_is_for_nothing_else(tmp_path: Path, key: str) -> None:
    identity = certs.ensure(tmp_path, client_key=key)
    assert identity.client_chain == tmp_path / f"client-{key}.pem"
    assert identity.client_key == tmp_path / f"client-{key}.key"
    leaf = x509.load_pem_x509_certificate(identity.client_chain.read_bytes())
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(identity.ca.read_bytes()))
    assert pem.key_type_of(leaf) == key
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert pem.names_in(leaf) == ()


def test_a_clients_certificate_is_made_only_when_it_is_asked_for(tmp_path: Path) -> None:
    identity = certs.ensure(tmp_path)
    assert (identity.client_chain, identity.client_key) == (None, None)
    before = contents(tmp_path)
    certs.ensure(tmp_path, client_key="p256")
    after = contents(tmp_path)
    assert set(after) - set(before) == {"client-p256.pem", "client-p256.key"}
    assert {name: after[name] for name in before} == before
    certs.ensure(tmp_path, client_key="p256")
    assert contents(tmp_path) == after


def test_an_expired_clients_certificate_is_renewed_with_the_same_key(tmp_path: Path) -> None:
    old = certs.ensure(tmp_path, client_key="p256", now=LONG_AGO)
    assert old.client_chain is not None
    assert old.client_key is not None
    key, chain = old.client_key.read_bytes(), old.client_chain.read_bytes()
    certs.ensure(tmp_path, client_key="p256")
    assert old.client_key.read_bytes() == key
    assert old.client_chain.read_bytes() != chain


def test_a_damaged_clients_certificate_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    certs.ensure(tmp_path, client_key="p256")
    certs.ensure(tmp_path, client_key="rsa2048")
    (tmp_path / "client-rsa2048.key").replace(tmp_path / "client-p256.key")
    with pytest.raises(DamagedError, match=r"client-p256\.key holds .* run: loopmark certs --client-key p256 "):
        certs.ensure(tmp_path, client_key="p256")


def test_leaves_share_one_authority(tmp_path: Path) -> None:
    first = certs.ensure(tmp_path, key="p256")
    second = certs.ensure(tmp_path, key="ed25519")
    authority = x509.load_pem_x509_certificate(first.ca.read_bytes())
    leaf_of(first).verify_directly_issued_by(authority)
    leaf_of(second).verify_directly_issued_by(authority)


def test_what_is_valid_is_used_again_unchanged(tmp_path: Path) -> None:
    certs.ensure(tmp_path)
    before = contents(tmp_path)
    certs.ensure(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("loose_umask")
def test_private_keys_and_a_new_directory_are_private_under_a_loose_umask(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "certs"
    certs.ensure(directory, client_key="p256")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.glob("*.*"))}
    assert modes["certs"] == 0o700
    assert modes["p256.key"] == modes["client-p256.key"] == modes["ca.key"] == 0o600


@pytest.mark.usefixtures("loose_umask")
def test_a_private_key_is_private_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []

    def replace(source: Path, target: Path) -> None:
        if target.suffix == ".key":
            modes.append(stat.S_IMODE(source.stat().st_mode))
        source.rename(target)

    opened = os.fdopen

    def spy(descriptor: int, mode: str) -> object:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return opened(descriptor, mode)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(os, "fdopen", spy)
    certs.ensure(tmp_path)
    assert set(modes) == {0o600}


def test_a_failed_write_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(UsageError, match="No space left on device"):
        certs.ensure(tmp_path)
    assert contents(tmp_path) == {}


def test_an_expired_certificate_of_ours_is_renewed_with_the_same_key(tmp_path: Path) -> None:
    old = certs.ensure(tmp_path, names=["myhost"], now=LONG_AGO)
    key = old.key.read_bytes()
    old_leaf = leaf_of(old)
    new = certs.ensure(tmp_path)
    now = datetime.now(UTC)
    assert old_leaf.not_valid_after_utc < now < leaf_of(new).not_valid_after_utc
    assert "myhost" in pem.names_in(leaf_of(new))
    assert new.key.read_bytes() == key


def test_an_expired_authority_of_ours_is_renewed_with_the_same_key(tmp_path: Path) -> None:
    old = certs.ensure(tmp_path, key="p256", now=datetime(2010, 1, 1, tzinfo=UTC))
    key = (tmp_path / "ca.key").read_bytes()
    new = certs.ensure(tmp_path, key="p256")
    authority = x509.load_pem_x509_certificate(old.ca.read_bytes())
    assert authority.not_valid_after_utc > datetime.now(UTC)
    assert (tmp_path / "ca.key").read_bytes() == key
    leaf_of(new).verify_directly_issued_by(authority)


@pytest.mark.parametrize(("hours_left", "renewed"), [(23, True), (25, False)])
def test_renewal_comes_a_day_before_the_end(tmp_path: Path, hours_left: int, renewed: bool) -> None:
    identity = certs.ensure(tmp_path)
    before = leaf_of(identity)
    certs.ensure(tmp_path, now=before.not_valid_after_utc - timedelta(hours=hours_left))
    assert (leaf_of(identity) != before) is renewed


def test_a_certificate_from_a_clock_that_was_ahead_is_made_again(tmp_path: Path) -> None:
    identity = certs.ensure(tmp_path, now=datetime.now(UTC) + timedelta(hours=12))
    certs.ensure(tmp_path)
    assert leaf_of(identity).not_valid_before_utc < datetime.now(UTC)


def test_a_leaf_never_outlives_its_authority(tmp_path: Path) -> None:
    identity = certs.ensure(tmp_path)
    authority = x509.load_pem_x509_certificate(identity.ca.read_bytes())
    certs.ensure(tmp_path, key="ed25519", now=authority.not_valid_after_utc - timedelta(days=7))
    ed25519 = x509.load_pem_x509_certificate((tmp_path / "ed25519.pem").read_bytes())
    assert ed25519.not_valid_after_utc == authority.not_valid_after_utc


def test_a_missing_name_is_added_and_earlier_ones_stay(tmp_path: Path) -> None:
    certs.ensure(tmp_path, names=["one"])
    identity = certs.ensure(tmp_path, names=["two"])
    assert {"one", "two"} <= set(pem.names_in(leaf_of(identity)))


def test_a_leaf_without_its_authority_is_signed_by_the_new_one(tmp_path: Path) -> None:
    identity = certs.ensure(tmp_path)
    identity.ca.unlink()
    (tmp_path / "ca.key").unlink()
    certs.ensure(tmp_path)
    leaf_of(identity).verify_directly_issued_by(x509.load_pem_x509_certificate(identity.ca.read_bytes()))


def test_a_lost_private_key_of_ours_is_made_again(tmp_path: Path) -> None:
    identity = certs.ensure(tmp_path)
    identity.key.unlink()
    certs.ensure(tmp_path)
    key = pem.read_key(identity.key)
    assert key is not None
    assert key.public_key() == leaf_of(identity).public_key()


def test_two_processes_at_once_make_one_set(tmp_path: Path) -> None:
    # Each waits for its line, so that all start together after the imports, which take longest.
    script = (
        "import sys; from pathlib import Path; from loopmark import certs; print('ready', flush=True); input();"
        "identity = certs.ensure(Path(sys.argv[1])); print(identity.chain.read_text() + identity.key.read_text())"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(outputs) == 1
    assert set(contents(tmp_path)) == {"ca.pem", "ca.key", "p256.pem", "p256.key"}


def test_writing_happens_under_an_exclusive_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def replace(source: Path, target: Path) -> None:
        # A lock belongs to the opened file, so that a second opening in this process stands for another process.
        with (tmp_path / ".lock").open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        refused.append(target.name)
        source.rename(target)

    monkeypatch.setattr(Path, "replace", replace)
    certs.ensure(tmp_path)
    assert sorted(refused) == ["ca.key", "ca.pem", "p256.key", "p256.pem"]


def test_what_another_process_made_while_we_waited_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, bytes] = {}

    @contextmanager
    def locked(directory: Path) -> Iterator[None]:
        monkeypatch.undo()
        certs.ensure(directory)
        made.update(contents(directory))
        yield

    monkeypatch.setattr(certs, "locked", locked)
    certs.ensure(tmp_path)
    assert made
    assert contents(tmp_path) == made


def test_valid_files_are_used_where_nothing_can_be_written(tmp_path: Path) -> None:
    certs.ensure(tmp_path)
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").mkdir()  # also root cannot open this one for writing
    certs.ensure(tmp_path)


def test_a_users_own_certificate_is_used_and_left_alone(tmp_path: Path) -> None:
    put_foreign(tmp_path, "localhost")
    before = contents(tmp_path)
    certs.ensure(tmp_path)
    assert contents(tmp_path) == before


def test_an_unknown_key_type_names_what_exists_and_what_is_close() -> None:
    with pytest.raises(UsageError, match=r"unknown key type 'ed2551'.*did you mean ed25519"):
        certs.ensure(Path("never-made"), client_key="ed2551")
    with pytest.raises(UsageError, match=r"unknown key type 'RSA-2084'.*ed25519; did you mean rsa2048"):
        certs.ensure(Path("never-made"), key="RSA-2084")


@pytest.mark.parametrize(
    "name",
    [*("", "my host", "host:443", "[::1]", "-x", "fe80::1%eth0", "müller.example", "a" * 64), "999.1.1.1", "1.2.3"],
)
def test_what_is_no_host_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="neither a host name nor an IP address"):
        certs.ensure(tmp_path, names=[name])
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path, below: str) -> None:
    taken = tmp_path / "file"
    taken.write_text("mine")
    with pytest.raises(UsageError, match=f"cannot write certificates to {taken / below}"):
        certs.ensure(taken / below)


def garbage(name: str) -> Callable[[Path], object]:
    return lambda directory: (directory / name).write_text("garbage")


def cut(name: str) -> Callable[[Path], object]:
    return lambda directory: (directory / name).write_text((directory / name).read_text()[:200])


def folder(name: str) -> Callable[[Path], object]:
    def put(directory: Path) -> None:
        (directory / name).unlink()
        (directory / name).mkdir()

    return put


def rsa_certificate(directory: Path) -> None:
    certs.ensure(directory, key="rsa2048")
    (directory / "rsa2048.pem").rename(directory / "p256.pem")


def rsa_key(directory: Path) -> None:
    certs.ensure(directory, key="rsa2048")
    (directory / "rsa2048.key").rename(directory / "p256.key")


def locked_key(directory: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    password = serialization.BestAvailableEncryption(b"secret")
    data = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, password)
    (directory / "p256.key").write_bytes(data)


def key_of_another(directory: Path) -> None:
    certs.ensure(directory / "other")
    (directory / "other" / "p256.key").rename(directory / "p256.key")


def foreign_expired(directory: Path) -> None:
    put_foreign(directory, "localhost", expired=True)


def foreign_for_another_name(directory: Path) -> None:
    put_foreign(directory, "example.org")


def foreign_without_key(directory: Path) -> None:
    put_foreign(directory, "localhost").key.unlink()


def foreign_of_another_authority(directory: Path) -> None:
    (directory / "other").mkdir()
    put_foreign(directory, "localhost")
    put_foreign(directory / "other", "localhost").ca.rename(directory / "ca.pem")


def foreign_authority(directory: Path) -> None:
    put_foreign(directory, "localhost").chain.unlink()


def authority_without_key(directory: Path) -> None:
    (directory / "ca.key").unlink()
    (directory / "p256.pem").unlink()


def authority_with_another_key(directory: Path) -> None:
    certs.ensure(directory / "other")
    (directory / "other" / "ca.key").rename(directory / "ca.key")
    (directory / "p256.pem").unlink()


@pytest.mark.parametrize(
    ("damage", "file", "says"),
    [
        (garbage("p256.pem"), "p256.pem", "is not a certificate in PEM: delete it"),
        (cut("p256.pem"), "p256.pem", "is not a certificate in PEM: delete it"),
        (garbage("p256.key"), "p256.key", "is not an unencrypted private key in PEM: delete it"),
        (locked_key, "p256.key", "is not an unencrypted private key in PEM: delete it"),
        (garbage("ca.pem"), "ca.pem", "is not a certificate in PEM: delete it"),
        (folder("p256.pem"), "p256.pem", "cannot be read (Is a directory)"),
        (rsa_certificate, "p256.pem", "holds a key of type rsa2048, not p256: move it away"),
        (rsa_key, "p256.key", "holds a key of type rsa2048, not p256: move it away"),
        (key_of_another, "p256.key", "does not belong to p256.pem beside it: delete both"),
        (foreign_expired, "p256.pem", "expired on 2020-01-01"),
        (foreign_for_another_name, "p256.pem", "does not name localhost; loopmark did not make"),
        (foreign_without_key, "p256.key", "is missing; loopmark did not make p256.pem"),
        (foreign_of_another_authority, "p256.pem", "was not issued by ca.pem"),
        (foreign_authority, "ca.pem", "was not made by loopmark and cannot sign for it"),
        (authority_without_key, "ca.key", "is missing, so nothing can be signed: delete"),
        (authority_with_another_key, "ca.key", "does not belong to ca.pem beside it: delete both"),
    ],
)
def test_damage_is_told_in_one_line_and_nothing_is_overwritten(
    tmp_path: Path, damage: Callable[[Path], object], file: str, says: str
) -> None:
    directory = tmp_path / "certs"
    certs.ensure(directory)
    damage(directory)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with pytest.raises(DamagedError) as caught:
        certs.ensure(directory)
    text = str(caught.value)
    assert text.startswith(str(directory / file))
    assert says in text
    assert "\n" not in text
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_deleting_the_damaged_file_is_the_cure(tmp_path: Path) -> None:
    identity = certs.ensure(tmp_path)
    identity.chain.write_text("garbage")
    with pytest.raises(DamagedError, match="delete it"):
        certs.ensure(tmp_path)
    identity.chain.unlink()
    certs.ensure(tmp_path)
    leaf_of(identity).verify_directly_issued_by(x509.load_pem_x509_certificate(identity.ca.read_bytes()))


def test_a_description_has_type_names_and_end(tmp_path: Path) -> None:
    identity = certs.ensure(tmp_path, key="ed25519", names=["myhost"], now=datetime(2030, 1, 1, 12, tzinfo=UTC))
    assert certs.describe(identity.chain) == (
        "ed25519, for localhost, myhost, 127.0.0.1, ::1, valid until 2031-01-01 12:00 UTC"
    )


def test_a_clients_certificate_is_described_as_one(tmp_path: Path) -> None:
    identity = certs.ensure(tmp_path, client_key="p256", now=datetime(2030, 1, 1, 12, tzinfo=UTC))
    assert identity.client_chain is not None
    assert certs.describe(identity.client_chain) == "p256, for clients, valid until 2031-01-01 12:00 UTC"


def test_describing_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"p256\.pem does not exist"):
        certs.describe(tmp_path / "p256.pem")


def test_a_checkout_keeps_its_certificates_in_certs(monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = Path(__file__).parents[1]
    # As in an editable install, however it is installed here.
    monkeypatch.setattr(certs, "__file__", str(checkout / "src" / "loopmark" / "certs.py"))
    assert certs.default_directory() == checkout / "certs"


def test_outside_of_a_checkout_the_users_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certs, "__file__", str(tmp_path / "lib" / "loopmark" / "certs.py"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    assert certs.default_directory() == tmp_path / "cache" / "loopmark" / "certs"


def test_git_ignores_what_is_generated() -> None:
    rules = (Path(__file__).parents[1] / "certs" / ".gitignore").read_text().splitlines()
    assert [rule for rule in rules if not rule.startswith("#")] == ["*", "!README.md", "!.gitignore"]
