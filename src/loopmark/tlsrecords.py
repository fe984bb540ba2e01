"""TLS records and what can be read of a handshake without any key. Sans-I/O."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

_HEADER = 5
_MOST = 2**14 + 2048
"""The longest body that any version allows (TLS 1.2: RFC 5246, 6.2.3)."""
_KINDS = {20: "ccs", 21: "alert", 22: "handshake", 23: "data"}


# https://www.iana.org/assignments/tls-parameters, "TLS Supported Groups"
_GROUPS = {
    0x0017: "P-256",
    0x0018: "P-384",
    0x0019: "P-521",
    0x001D: "X25519",
    0x001E: "X448",
    0x0100: "ffdhe2048",
    0x0101: "ffdhe3072",
    0x11EB: "SecP256r1MLKEM768",
    0x11EC: "X25519MLKEM768",
    0x11ED: "SecP384r1MLKEM1024",
}


class Record(NamedTuple):
    """One TLS record; `kind` is `ccs`, `alert`, `handshake` or `data`, and `plain` for what is not TLS."""

    kind: str
    body: bytes


class RecordParser:
    """Cuts one direction's bytes into records, however they are split; after something that is not TLS, nothing is."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._plain = False

    @property
    def pending(self) -> int:
        """Bytes of a record that is not complete yet."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[Record]:
        """Take what arrived; return the records that are complete now."""
        rest, records = self._rest, list[Record]()
        rest += data
        while rest and not self._plain:
            if not _may_be_tls(rest):
                self._plain = True
                break
            end = _HEADER + int.from_bytes(rest[3:_HEADER])
            if len(rest) < end:
                break
            records.append(Record(_KINDS[rest[0]], bytes(rest[_HEADER:end])))
            del rest[:end]
        if rest and self._plain:
            records.append(Record("plain", bytes(rest)))
            rest.clear()
        return records


def _may_be_tls(data: bytearray) -> bool:
    """Tell whether these bytes, maybe few, can begin a record: type, major version 3, length."""
    return data[0] in _KINDS and bytes(data[1:2]) in (b"", b"\3") and int.from_bytes(data[3:_HEADER]) <= _MOST


def server_choice(records: Iterable[Record]) -> tuple[bool, str | None]:
    """Read a server's records: whether it chose TLS 1.3, and the name of the group for the key exchange.

    A group without a name here is its number in hex; None if there was no choice to be seen.
    """
    stream = bytearray()
    for record in records:
        if record.kind != "handshake":
            break  # from here on everything is encrypted
        stream += record.body
    tls13, group = False, b""
    for kind, body in _messages(bytes(stream)):
        if kind == 2:  # ServerHello: version, random, session id, suite, compression, extensions (RFC 8446, 4.1.3)
            # The session id's length stands at 34; three bytes and the length of the extensions follow the id.
            extensions = dict(_extensions(body[35 + body[34] + 5 :])) if len(body) > 34 else {}
            tls13 = extensions.get(43) == b"\3\4"
            group = extensions.get(51, b"")[:2]
        elif kind == 12 and body[:1] == b"\3":  # ServerKeyExchange with a named curve (RFC 8422, 5.4)
            group = body[1:3]
    number = int.from_bytes(group)
    return tls13, _GROUPS.get(number, f"0x{number:04x}") if group else None


def _messages(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of each complete handshake message, whatever records they came in."""
    while len(stream) >= 4 and len(stream) >= (end := 4 + int.from_bytes(stream[1:4])):
        yield stream[0], stream[4:end]
        stream = stream[end:]


def _extensions(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each extension."""
    while len(block) >= 4:
        end = 4 + int.from_bytes(block[2:4])
        yield int.from_bytes(block[:2]), block[4:end]
        block = block[end:]
