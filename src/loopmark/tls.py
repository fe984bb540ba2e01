"""TLS contexts, the same for every contender: made here from a profile, never by a backend."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from loopmark.errors import UsageError
from loopmark.spi import ClientTLS, TLSProfile

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Where a server's certificate lies, and whom clients trust: PEM files made by `loopmark.certs`."""

    ca: Path
    chain: Path
    key: Path
    server_name: str = "localhost"


def server_context(profile: TLSProfile, identity: Identity) -> ssl.SSLContext:
    """One context per process. No tickets: with clients that offer no session, every handshake is a full one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.chain, identity.key)
    # One name only before Python 3.15. It keeps OpenSSL 3.5 and newer from choosing a post-quantum hybrid by itself.
    context.set_ecdh_curve(profile.group)
    # Without tickets TLS 1.3 cannot resume. With OP_NO_TICKET 1.2 still can, by the session's number, after a clean end
    # and when a client asks for it: ours keep no session, and `session_reused` of the facts would show it.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return _pin(context, profile)


def client_tls(profile: TLSProfile, identity: Identity) -> ClientTLS:
    """One context per process, verifying chain and host name against our own authority only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(identity.ca)
    if profile.version != "1.2":
        context.set_ecdh_curve(profile.group)
    # With TLS 1.2 the client's groups also limit the curves of certificates: with X25519 alone there a server with a
    # P-256 key has no cipher left. The one group that the server allows decides then.
    return ClientTLS(context=_pin(context, profile), server_name=identity.server_name)


def _pin(context: ssl.SSLContext, profile: TLSProfile) -> ssl.SSLContext:
    if profile.version not in VERSIONS:
        raise UsageError(f"unknown TLS version {profile.version!r}; there are {', '.join(VERSIONS)}")
    context.minimum_version = context.maximum_version = VERSIONS[profile.version]
    return context


def handshakes(context: ssl.SSLContext) -> int:
    """Handshakes that a server's context has completed, counted by OpenSSL itself."""
    return context.session_stats()["accept_good"]
