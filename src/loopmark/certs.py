"""Makes the throw-away certificates that both sides show and trust; no process that is measured imports this.

A directory holds one authority, `ca.pem` and `ca.key`, and one leaf per key type, `p256.pem` and `p256.key` say;
those that clients show are named `client-p256.pem` and `client-p256.key`. Every file is replaced in one step, and a
renewal keeps the private key and the authority's name: so whoever reads the directory meanwhile finds a leaf that
fits its key and its authority. What we made is known by the name of its issuer and may be renewed; anything else is
the user's: it is checked, used, and never written to.
"""

import ipaddress
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path

import platformdirs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from loopmark.errors import DamagedError, UsageError
from loopmark.pem import (
    PrivateKey,
    general_name,
    is_issued_by,
    key_type_of,
    locked,
    names_in,
    new_key,
    read_chain,
    read_key,
    write_certificate,
    write_key,
)
from loopmark.tls import Identity

KEYS = ("p256", "rsa2048", "rsa3072", "rsa4096", "ed25519")
"""The key types that a leaf can have."""

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
"""The names that every leaf of ours has."""

_CA_NAME = x509.Name(
    [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "loopmark"),
        x509.NameAttribute(NameOID.COMMON_NAME, "loopmark throw-away authority"),
    ]
)
_CA_LIFETIME = timedelta(days=3650)
_LEAF_LIFETIME = timedelta(days=365)
_RENEW_BEFORE = timedelta(days=1)
_HOST_NAME = re.compile(r"(?!.{254})[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """A leaf's files, and the names that it must have; `kind` is the command's option for its key type."""

    directory: Path
    key_type: str
    names: tuple[str, ...] = ()
    kind: str = "key"

    @property
    def ca(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def ca_key(self) -> Path:
        return self.directory / "ca.key"

    @property
    def chain(self) -> Path:
        return self.directory / f"{self._stem}.pem"

    @property
    def key(self) -> Path:
        return self.directory / f"{self._stem}.key"

    @property
    def for_clients(self) -> bool:
        return self.kind == "client-key"

    @property
    def cure(self) -> str:
        return f"then run: loopmark certs --{self.kind} {self.key_type} {shlex.quote(str(self.directory))}"

    @property
    def _stem(self) -> str:
        return f"client-{self.key_type}" if self.for_clients else self.key_type


def default_directory() -> Path:
    """Return the checkout's `certs/`, or outside of a checkout a directory in the user's cache; creates nothing."""
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "backends").is_dir():
        return checkout / "certs"
    return platformdirs.user_cache_path("loopmark") / "certs"


def ensure(
    directory: Path | None = None,
    *,
    key: str = "p256",
    client_key: str | None = None,
    names: Sequence[str] = (),
    now: datetime | None = None,
) -> Identity:
    """Return a valid certificate for `localhost`, this machine's loopback addresses and `names`; make what is missing.

    With `client_key`, a key type, there is one for clients, too. What we made ourselves is renewed within a day of its
    end, and when a name is missing; names once asked for stay. `now` is for tests. Safe to call from several processes
    at once.

    Raises UsageError for an unknown key type or name and for a directory that cannot be written, DamagedError for files
    that are not what they should be and that we must not replace.
    """
    for asked in (key, client_key):
        if asked is not None and asked not in KEYS:
            close = get_close_matches(asked.lower().replace("-", ""), KEYS)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise UsageError(f"unknown key type {asked!r}: there are {', '.join(KEYS)}{hint}")
    directory = directory or default_directory()
    # Of a user's own certificates we ask only the name that clients here verify.
    wanted = ("localhost", *(_checked_name(name) for name in names))
    server = _Files(directory=directory, key_type=key, names=wanted)
    leaves, identity = [server], Identity(ca=server.ca, chain=server.chain, key=server.key)
    if client_key is not None:
        client = _Files(directory=directory, key_type=client_key, kind="client-key")
        leaves.append(client)
        identity = replace(identity, client_chain=client.chain, client_key=client.key)
    now = now or datetime.now(UTC)
    # First without the lock, which needs write access. Damage may be another process between two files: look again.
    with suppress(DamagedError):
        if all(_is_complete(files, now) for files in leaves):
            return identity
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory == default_directory():
            # git knows no modes of directories. One that a user names may be for other things, too: it stays as it is.
            with suppress(PermissionError):
                directory.chmod(0o700)
        with locked(directory):
            for files in leaves:
                if not _is_complete(files, now):
                    _issue_leaf(files, now)
    except OSError as error:
        raise UsageError(
            f"cannot write certificates to {directory} ({error.strerror}): make it a directory that you can write, or "
            "name another one"
        ) from error
    return identity


def describe(chain: Path) -> str:
    """Say in one line which key a certificate has, whom it names and until when it is valid (UTC)."""
    certificates = read_chain(chain)
    if not certificates:
        raise DamagedError(f"{chain} does not exist; make it with: loopmark certs")
    leaf = certificates[0]
    names = ", ".join(names_in(leaf)) or "clients"
    return f"{key_type_of(leaf)}, for {names}, valid until {_date(leaf.not_valid_after_utc)}"


def _is_complete(files: _Files, now: datetime) -> bool:
    """Tell whether nothing has to be made; raises DamagedError for what we must not replace."""
    chain, private = read_chain(files.chain), read_key(files.key)
    for path, found in ((files.chain, chain[0] if chain else None), (files.key, private)):
        if found is not None and key_type_of(found) != files.key_type:
            raise DamagedError(
                f"{path} holds a key of type {key_type_of(found)}, not {files.key_type}: move it away, {files.cure}"
            )
    if not chain:
        return False
    leaf = chain[0]
    if private is not None and private.public_key() != leaf.public_key():
        raise DamagedError(f"{files.key} does not belong to {files.chain.name} beside it: delete both, {files.cure}")
    ours = leaf.issuer == _CA_NAME
    fault = _fault(files, chain, private, now, _RENEW_BEFORE if ours else timedelta())
    if fault is not None and not ours:
        raise DamagedError(
            f"{fault}; loopmark did not make {files.chain.name} and does not change it: "
            f"put it right, or move it away, {files.cure}"
        )
    return fault is None


def _fault(
    files: _Files,
    chain: list[x509.Certificate],
    private: PrivateKey | None,
    now: datetime,
    margin: timedelta,
) -> str | None:
    """Say what keeps a leaf from being used as it is, now and for the margin's time; None: nothing does."""
    authorities = read_chain(files.ca)
    if private is None or not authorities:
        return f"{files.key if private is None else files.ca} is missing"
    for path, certificate in ((files.chain, chain[0]), (files.ca, authorities[0])):
        if now < certificate.not_valid_before_utc:
            return f"{path} is not valid before {_date(certificate.not_valid_before_utc)}"
        if now + margin >= certificate.not_valid_after_utc:
            return f"{path} expired on {_date(certificate.not_valid_after_utc)}"
    if not is_issued_by(chain, authorities[0]):
        return f"{files.chain} was not issued by {files.ca.name} beside it"
    missing = [name for name in files.names if name not in names_in(chain[0])]
    return f"{files.chain} does not name {', '.join(missing)}" if missing else None


def _issue_leaf(files: _Files, now: datetime) -> None:
    authority, authority_key = _authority(files, now)
    private = read_key(files.key)
    if private is None:
        private = new_key(files.key_type)
        write_key(files.key, private)
    name = "loopmark client" if files.for_clients else "localhost"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH if files.for_clients else ExtendedKeyUsageOID.SERVER_AUTH
    builder = (
        _builder(subject, private, now, min(now + _LEAF_LIFETIME, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            _usage(digital_signature=True, key_encipherment=isinstance(private, rsa.RSAPrivateKey)), critical=True
        )
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    if not files.for_clients:
        old = read_chain(files.chain)
        names = dict.fromkeys((*LOCAL_NAMES, *(names_in(old[0]) if old else ()), *files.names))
        alternatives = x509.SubjectAlternativeName([general_name(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    write_certificate(files.chain, builder.sign(authority_key, hashes.SHA256()))


def _authority(files: _Files, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Read the authority, after making or renewing it; the key is kept, so that all leaves share one authority."""
    chain, private = read_chain(files.ca), read_key(files.ca_key)
    if chain and chain[0].subject != _CA_NAME:
        raise DamagedError(
            f"{files.ca} was not made by loopmark and cannot sign for it: put {files.chain.name} and {files.key.name} "
            f"beside it, or use another directory: loopmark certs --{files.kind} {files.key_type} DIR"
        )
    if chain and private is None:
        raise DamagedError(f"{files.ca_key} is missing, so nothing can be signed: delete {files.ca}, {files.cure}")
    if private is None:
        private = ec.generate_private_key(ec.SECP256R1())
        write_key(files.ca_key, private)
    if not isinstance(private, ec.EllipticCurvePrivateKey) or key_type_of(private) != "p256":
        raise DamagedError(
            f"{files.ca_key} holds a key of type {key_type_of(private)}, not p256: move it away, {files.cure}"
        )
    if chain and private.public_key() != chain[0].public_key():
        raise DamagedError(f"{files.ca_key} does not belong to {files.ca.name} beside it: delete both, {files.cure}")
    if chain and chain[0].not_valid_before_utc <= now < chain[0].not_valid_after_utc - _RENEW_BEFORE:
        return chain[0], private
    builder = (
        _builder(_CA_NAME, private, now, now + _CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    certificate = builder.sign(private, hashes.SHA256())
    write_certificate(files.ca, certificate)
    return certificate, private


def _builder(subject: x509.Name, key: PrivateKey, now: datetime, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=_CA_NAME, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(**on: bool) -> x509.KeyUsage:
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    off = dict.fromkeys((*every, "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(**(off | on))


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _checked_name(name: str) -> str:
    """Return a host name or address as certificates spell it."""
    if "%" not in name:
        with suppress(ValueError):
            return str(ipaddress.ip_address(name))
    # No name ends in a number; what does was meant to be an address.
    if not _HOST_NAME.fullmatch(name.lower()) or name.rpartition(".")[2].isdecimal():
        raise UsageError(
            f"{name!r} is neither a host name nor an IP address: a certificate can name myhost or 192.0.2.1"
        )
    return name.lower()
