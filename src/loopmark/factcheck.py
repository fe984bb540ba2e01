"""Whether the facts of both sides of an arm are what its case promises."""

import ssl
from typing import Any

from loopmark.errors import FactsError
from loopmark.spi import Facts, TLSProfile


def check_facts(
    ours: Facts, theirs: dict[str, Any], *, profile: TLSProfile | None, nodelay: bool | None
) -> dict[str, Any]:
    """Put the facts together: `equal` must be the same for all contenders; each side's own are kept beside."""
    equal = {
        "nodelay": ours.nodelay,
        "tls_version": ours.tls_version,
        "cipher": ours.cipher,
        "session_reused": ours.session_reused,
        "verified": ours.verified,
        "backlog": theirs.get("backlog"),
        "openssl": ssl.OPENSSL_VERSION,
    }
    for name in ("nodelay", "tls_version", "cipher", "openssl"):
        if theirs and theirs.get(name, equal[name]) != equal[name]:
            raise FactsError(f"the client's side says {name} is {equal[name]}, the server's {theirs[name]}")
    if ours.nodelay is not nodelay:
        raise FactsError(f"TCP_NODELAY is {ours.nodelay}")
    if profile is not None:
        _check_tls(ours, theirs, profile)
    return {
        "equal": equal,
        "client": {"loop": ours.loop, "transport": ours.transport},
        "server": {"loop": theirs.get("loop"), "transport": theirs.get("transport")},
    }


def _check_tls(ours: Facts, theirs: dict[str, Any], profile: TLSProfile) -> None:
    if not ours.verified:
        raise FactsError("the client has not verified the server's certificate and name")
    if ours.session_reused and not profile.resumed:
        raise FactsError("the handshake resumed an older session instead of being a full one")
    # Some libraries do not let us see it; the server's counters do.
    if profile.resumed and ours.session_reused is False:
        raise FactsError("the handshake was a full one instead of resuming an older session")
    if profile.cipher is not None and ours.cipher != profile.cipher:
        raise FactsError(f"the cipher is {ours.cipher} instead of {profile.cipher}")
    if profile.client_key is not None and theirs.get("verified") is False:
        raise FactsError("the server has not verified the client's certificate")
