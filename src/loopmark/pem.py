"""Certificates and private keys as PEM files: read with errors that name the file, written in one step.

Like `loopmark.certs`, for which it works, nothing that is measured imports this.
"""

import fcntl
import ipaddress
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from loopmark.errors import DamagedError

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def read_chain(path: Path) -> list[x509.Certificate]:
    """Read a PEM file of certificates, the leaf first; an empty list when there is no file."""
    data = _read(path)
    if data is None:
        return []
    try:
        chain = x509.load_pem_x509_certificates(data)
        # Reading the extensions and the key now finds what is cut or unknown while the file's name is at hand.
        for certificate in chain:
            certificate.public_key()
            names_in(certificate)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise DamagedError(f"{path} is not a certificate in PEM: delete it, and it will be made anew") from error
    return chain


def read_key(path: Path) -> PrivateKey | None:
    """Read an unencrypted private key of a type that we use; None when there is no file."""
    data = _read(path)
    if data is None:
        return None
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it needs a password
        raise DamagedError(
            f"{path} is not an unencrypted private key in PEM: delete it, and it will be made anew"
        ) from error
    if not isinstance(key, PrivateKey):
        raise DamagedError(f"{path} holds a private key of a type that is not used here: move it away")
    return key


def write_certificate(path: Path, certificate: x509.Certificate) -> None:
    """Replace a certificate's file; readable for all."""
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def write_key(path: Path, key: PrivateKey) -> None:
    """Replace a key's file; it is never readable for anybody else."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    _write(path, key.private_bytes(encoding, form, serialization.NoEncryption()), mode=0o600)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Let one process at a time write; the lock goes with its process, whatever ends it."""
    with (directory / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def new_key(key_type: str) -> PrivateKey:
    """Make a key of a type that `key_type_of` names so."""
    match key_type:
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return rsa.generate_private_key(public_exponent=65537, key_size=int(key_type.removeprefix("rsa")))


def key_type_of(holder: x509.Certificate | PrivateKey) -> str:
    """Name the type of a key: p256, rsa2048, ed25519 ... or in OpenSSL's words."""
    match holder.public_key():
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return "p256"
        case ec.EllipticCurvePublicKey(curve=curve):
            return curve.name
        case rsa.RSAPublicKey(key_size=size):
            return f"rsa{size}"
        case other:
            return type(other).__name__.removesuffix("PublicKey").lower()


def names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """List the host names, then the addresses, that a certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    hosts = (host.lower() for host in extension.value.get_values_for_type(x509.DNSName))
    return (*hosts, *map(str, extension.value.get_values_for_type(x509.IPAddress)))


def is_issued_by(chain: list[x509.Certificate], authority: x509.Certificate) -> bool:
    """Tell whether a chain leads to this authority."""
    path = chain if chain[-1] == authority else [*chain, authority]
    try:
        for certificate, issuer in pairwise(path):
            certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def general_name(name: str) -> x509.GeneralName:
    """Write a host name or an address as certificates hold it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({error.strerror}): make it a file that you can read") from error


def _write(path: Path, data: bytes, *, mode: int) -> None:
    """Put a whole file in place in one step; until then it is private, under any umask."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
