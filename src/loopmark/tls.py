"""TLS contexts, the same for every contender: made here from a profile, never by a backend.

Resumption needs nothing of a backend either: a client's context that was told by `offer` gives the session along with
whatever object or socket it makes, on any library that uses it.
"""

import ssl
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loopmark.errors import UsageError
from loopmark.spi import ClientTLS, TLSProfile

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

GROUPS = ("X25519", "prime256v1", "secp384r1")
"""For those who ask for what is not there; OpenSSL has more."""

MOST_TICKETS = 16
"""Far more than any server sends; a context would take any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Where a server's certificate lies, and whom both sides trust: PEM files made by `loopmark.certs`."""

    ca: Path
    chain: Path
    key: Path
    server_name: str = "localhost"
    client_chain: Path | None = None
    client_key: Path | None = None
    """What clients show where they have to."""


def check(profile: TLSProfile) -> None:
    """Raise UsageError for a profile that cannot be had with this Python and OpenSSL; nothing is read or written.

    Which key types there are is for `loopmark.certs` to say.
    """
    if profile.version not in VERSIONS:
        raise UsageError(f"unknown TLS version {profile.version!r}; there are {', '.join(VERSIONS)}")
    _check_cipher(profile)
    _set_group(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), profile)
    most = 1 if profile.version == "1.2" else MOST_TICKETS
    if not 0 <= profile.tickets <= most:
        raise UsageError(f"a server of TLS {profile.version} sends 0 to {most} session tickets, not {profile.tickets}")
    if profile.resumed and profile.tickets != 1:
        # With TLS 1.3 a resumed handshake brings one ticket, however many a full one does: other numbers would be
        # other names for the same work. Without any, TLS 1.3 does not resume.
        raise UsageError(f"resumed handshakes need exactly 1 session ticket, not {profile.tickets}: use tickets 1")
    if profile.version == "1.2" and profile.client_key == "p256" and profile.group != "prime256v1":
        # OpenSSL holds the client's curve against the server's groups, and before Python 3.15 there is only one.
        raise UsageError(
            f"TLS 1.2 does not take a client's p256 key with the group {profile.group}: "
            "use the group prime256v1, or another type of client key"
        )


def ciphers(version: str, key: str) -> tuple[str, ...]:
    """List the ciphers that a profile with this key type can name, in OpenSSL's words.

    Of TLS 1.2 those with ECDHE and AEAD: others have no group, or lengths that tell a witness on the wire nothing.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL")  # leaves those of TLS 1.3 alone
    kinds = {("kx-any", "auth-any"), ("kx-ecdhe", "auth-rsa" if key.startswith("rsa") else "auth-ecdsa")}
    return tuple(
        each["name"]
        for each in context.get_ciphers()
        if each["protocol"] == f"TLSv{version}" and each["aead"] and (each["kea"], each["auth"]) in kinds
    )


def server_context(profile: TLSProfile, identity: Identity) -> ssl.SSLContext:
    """One context per process; with clients that offer no session, every handshake is a full one."""
    check(profile)
    context = _context(ssl.PROTOCOL_TLS_SERVER, profile)
    context.load_cert_chain(identity.chain, identity.key)
    # One name only before Python 3.15. It keeps OpenSSL 3.5 and newer from choosing a post-quantum hybrid by itself.
    _set_group(context, profile)
    # Without tickets TLS 1.3 cannot resume. With OP_NO_TICKET 1.2 still can, by the session's number, after a clean end
    # and when a client asks for it: ours have no session to ask with, and `resumptions` would show it.
    context.num_tickets = profile.tickets
    if not profile.tickets:
        context.options |= ssl.OP_NO_TICKET
    if profile.client_key is not None:
        context.load_verify_locations(identity.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls(profile: TLSProfile, identity: Identity) -> ClientTLS:
    """One context per process, verifying chain and host name against our own authority only.

    Nothing is resumed before `offer`. Raises UsageError when clients have to show a certificate that is not there, and
    when the authority's is none.
    """
    check(profile)
    context = _context(ssl.PROTOCOL_TLS_CLIENT, profile)
    try:
        context.load_verify_locations(identity.ca)
    except ssl.SSLError as error:
        raise UsageError(f"{identity.ca} is no certificate in PEM: copy the server's ca.pem there") from error
    if profile.version != "1.2":
        _set_group(context, profile)
    # With TLS 1.2 the client's groups also limit the curves of certificates: with X25519 alone there a server with a
    # P-256 key has no cipher left. The one group that the server allows decides then.
    if profile.client_key is not None:
        if identity.client_chain is None:
            raise UsageError(
                f"there is no client certificate: make it with loopmark certs --client-key {profile.client_key}"
            )
        context.load_cert_chain(identity.client_chain, identity.client_key)
    return ClientTLS(context=context, server_name=identity.server_name)


def offer(context: ssl.SSLContext, session: ssl.SSLSession) -> None:
    """Let a client's context offer this session, one of its own, in every handshake from now on.

    Any number of connections may use it at once, in threads, too: each takes a copy. `wrap_bio` and `wrap_socket` take
    a session from whoever calls them, but no library passes one on.
    """
    context.wrap_bio = partial(context.wrap_bio, session=session)  # type: ignore[method-assign]  # on this one only
    context.wrap_socket = partial(context.wrap_socket, session=session)  # type: ignore[method-assign]  # as above


def handshakes(context: ssl.SSLContext) -> int:
    """Handshakes that a server's context has completed, full or resumed, counted by OpenSSL itself."""
    return context.session_stats()["accept_good"]


def unfinished(context: ssl.SSLContext) -> int:
    """Handshakes that a server's context has begun and not completed: under way, or failed, whoever heard of it."""
    stats = context.session_stats()
    return stats["accept"] - stats["accept_good"]


def resumptions(context: ssl.SSLContext) -> int:
    """Handshakes that took up an older session, of those that a server's context has completed."""
    return context.session_stats()["hits"]


def _context(protocol: int, profile: TLSProfile) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = context.maximum_version = VERSIONS[profile.version]
    # Before 3.11.4 Python lets OpenSSL 3 take a cut connection for an ended one (python/cpython#95494).
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    if profile.cipher is not None:
        # The second one is of Python 3.15 and newer.
        choose = context.set_ciphers if profile.version == "1.2" else context.set_ciphersuites  # type: ignore[attr-defined]
        choose(profile.cipher)
    return context


def _check_cipher(profile: TLSProfile) -> None:
    if profile.cipher is None:
        return
    if profile.version == "1.3" and not hasattr(ssl.SSLContext, "set_ciphersuites"):
        raise UsageError(
            f"this Python cannot choose the cipher of TLS 1.3 (3.15 can): leave {profile.cipher} out, or use TLS 1.2"
        )
    there_are = ciphers(profile.version, profile.key)
    if profile.cipher not in there_are:
        raise UsageError(
            f"no cipher {profile.cipher!r} for TLS {profile.version} with a {profile.key} key; "
            f"there are {', '.join(there_are)}"
        )


def _set_group(context: ssl.SSLContext, profile: TLSProfile) -> None:
    if not _will_have(context, profile.group):
        there_are = [each for each in GROUPS if _will_have(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), each)]
        raise UsageError(
            f"OpenSSL here has no group {profile.group!r} that Python can set; try {' or '.join(there_are)}"
        )


def _will_have(context: ssl.SSLContext, group: str) -> bool:
    """Let a context agree on this group, and tell whether it will."""
    try:
        context.set_ecdh_curve(group)
    except (ValueError, ssl.SSLError):
        # Some Python 3.11, as Debian 12's 3.11.2, can set elliptic curves only, and X25519 is none to OpenSSL
        # (python/cpython#77063). Before 3.5 OpenSSL prefers it by itself; the witness on the wire sees whether it did.
        return group == GROUPS[0] and ssl.OPENSSL_VERSION_INFO < (3, 5)
    return True
