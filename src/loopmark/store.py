"""A campaign's directory on disk, and back: the only module that reads or writes results.

`campaign.json` holds everything and is what `load` reads. Beside it lies one pyperf file per contender, so that stock
`python -m pyperf compare_to asyncio.json uvloop.json --table` works; nothing is ever read back from those. Both are
written anew after every block, each file atomically. A campaign that counts instructions has an `instructions.json`
instead of all that.
"""

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from loopmark import redact
from loopmark.codec import MismatchError, decode, encode
from loopmark.counts import Counts
from loopmark.errors import DamagedError, UsageError
from loopmark.pyperf_files import PRIVATE, pyperf_files
from loopmark.record import Campaign
from loopmark.soundness import complaints, instant

SCHEMA = 3
"""Raised whenever a file gets another shape; one of the version before is brought up to date."""

FILE = "campaign.json"

COUNTS_SCHEMA = 2
"""As `SCHEMA`, for counts."""

COUNTS_FILE = "instructions.json"


def create(results: Path, campaign: Campaign) -> Path:
    """Make a new, empty directory `<UTC stamp>-<label>` below `results`, and return it.

    A name that is taken gets a number behind it. Raises UsageError when nothing can be made there.
    """
    stamp = instant(campaign.started).strftime("%Y%m%dT%H%M%SZ")
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", campaign.label)[:60].strip("-.") or "campaign"
    try:
        results.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = results / (f"{stamp}-{label}" if number == 1 else f"{stamp}-{label}-{number}")
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    except OSError as error:
        raise UsageError(
            f"cannot write results to {results}: {error.strerror or error}; name another directory with --results DIR"
        ) from error
    raise AssertionError("counting never ends")


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Let nobody else write into a campaign's directory meanwhile; the system lets go of it when this process ends.

    Raises UsageError when somebody does, or when there is no such directory.
    """
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give the directory of a campaign") from error
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another loopmark is at work in {path}: wait until it has ended") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(directory)


def write(path: Path, campaign: Campaign) -> None:
    """Write all that is known so far into a campaign's directory.

    Absolute paths in free texts lose their directories. Raises UsageError when the disk refuses, and MismatchError
    for a campaign that could not be read back.
    """
    data = _redacted(encode(campaign, Campaign))
    _check(campaign)
    try:
        _replace(path / FILE, _text(data, SCHEMA))
        for name, content in pyperf_files(campaign):
            if content is None:
                (path / name).unlink(missing_ok=True)
            else:
                _replace(path / name, content)
    except OSError as error:
        raise UsageError(f"cannot write results to {path}: {error.strerror or error}") from error


def load(path: Path) -> Campaign:
    """Read a campaign from its directory, or from its `campaign.json`.

    Raises DamagedError, with one line that names the file and the cure, for whatever else lies there.
    """
    file, data = _document(path, FILE, SCHEMA)
    with _damage_told(file):
        campaign = decode(data, Campaign)
        _check(campaign)
    return campaign


def write_counts(path: Path, counts: Counts) -> None:
    """Write all counts so far into their directory; as `write` does it, and with its errors."""
    data = encode(counts, Counts)
    for one in data["counts"]:
        one["facts"] = redact.deep(one["facts"])
    _check_counts(counts)
    try:
        _replace(path / COUNTS_FILE, _text({**_redacted(data["campaign"]), "counts": data["counts"]}, COUNTS_SCHEMA))
    except OSError as error:
        raise UsageError(f"cannot write results to {path}: {error.strerror or error}") from error


def load_counts(path: Path) -> Counts:
    """Read counts from their directory, or from their `instructions.json`; raises DamagedError as `load` does."""
    file, data = _document(path, COUNTS_FILE, COUNTS_SCHEMA)
    with _damage_told(file):
        counts = decode({"counts": data.pop("counts", None), "campaign": data}, Counts)
        _check_counts(counts)
    return counts


def has_counts(path: Path) -> bool:
    """Tell whether a path stands for counts rather than for anything that `load` reads."""
    try:
        return path.name == COUNTS_FILE or (path / COUNTS_FILE).is_file()
    except OSError:
        return False


@contextlib.contextmanager
def _damage_told(file: Path) -> Iterator[None]:
    try:
        yield
    except (MismatchError, RecursionError) as error:
        raise DamagedError(f"{file}: it is damaged ({_one_line(error)}); {_CURE}") from error


def _document(path: Path, name: str, expected: int) -> tuple[Path, dict[str, Any]]:
    """Read a campaign's file, given itself or by its directory; return its path, and its content without the schema."""
    file = path
    try:
        if path.is_dir():
            file = path / name
        if file.exists() and not file.is_file():
            raise DamagedError(f"{file}: this is no regular file; give the directory of a campaign")
        text = file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise DamagedError(f"{file}: there is no such file; give the directory of a campaign, which has one") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise DamagedError(f"{file}: it cannot be read ({reason}); give the directory of a campaign") from error
    try:
        data = json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        # Also what the parser gives up on: numbers of thousands of digits, lists within lists without end.
        raise DamagedError(f"{file}: it is cut short or damaged ({_one_line(error)}); {_CURE}") from error
    if not isinstance(data, dict) or "schema" not in data:
        raise DamagedError(f"{file}: this is not a campaign of loopmark; give its directory or its {name}")
    schema = data.pop("schema")
    if type(schema) is int and schema == expected - 1:
        _bring_up_to_date(data)
    elif type(schema) is not int or schema != expected:
        raise DamagedError(
            f"{file}: it has schema {_one_line(schema)}, this loopmark reads {expected}; "
            "read it with the version of loopmark that wrote it"
        )
    return file, data


def _bring_up_to_date(data: dict[str, Any]) -> None:
    """Add what cases had no choice of before there were more benchmarks; what is damaged is found later."""
    data |= {"blocks_wanted": None, "seconds_allowed": 0.0, "fresh": False}
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        for plan in data["cases"]:
            plan |= {"unit": "connection", "baseline": "", "next_block": 0, "failed": []}
            plan["case"] |= {"variant": "", "rtt": None, "held": None}
            if plan["case"]["tls"] is not None:
                plan["case"]["tls"] |= {"cipher": None, "tickets": 0, "resumed": False, "client_key": None}
        for block in data.get("blocks", ()):
            for measurement in block["measurements"].values():
                measurement |= {"client_memory": [], "server_memory": []}


_CURE = "restore the file, or run the campaign again"

_FREE_TEXTS: dict[str, Callable[[Any], Any]] = {
    "label": redact.text,
    "command": lambda arguments: [redact.argument(each) for each in arguments],
    "dropped": redact.deep,
    "notes": redact.deep,
    "ended": redact.text,
    "machine": redact.deep,
    "outcomes": lambda outcomes: [{**each, "reason": redact.text(each["reason"])} for each in outcomes],
}
"""What people and libraries wrote, as opposed to names that refer to each other."""


def _redacted(data: dict[str, Any]) -> dict[str, Any]:
    for name, clean in _FREE_TEXTS.items():
        data[name] = clean(data[name])
    for block in data["blocks"]:
        for measurement in block["measurements"].values():
            measurement["facts"] = redact.deep(measurement["facts"])
            kept = {key: each for key, each in measurement["metadata"].items() if key not in PRIVATE}
            measurement["metadata"] = redact.deep(kept)
    return data


def _text(data: dict[str, Any], schema: int) -> bytes:
    """One line per member, and one per element of a list: a file that people can search and compare line by line."""

    def dump(value: Any) -> str:
        return json.dumps(value, allow_nan=False, separators=(", ", ": "))

    members = []
    for name, value in {"schema": schema, **data}.items():
        lines = isinstance(value, list) and value and isinstance(value[0], dict)
        shown = "[\n" + ",\n".join(map(dump, value)) + "\n]" if lines else dump(value)
        members.append(f"{dump(name)}: {shown}")
    return ("{\n" + ",\n".join(members) + "\n}\n").encode("ascii")


def _replace(path: Path, content: bytes) -> None:
    """Put a whole new file in an old one's place: readers see either, and so does a machine that loses its power."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _check(campaign: Campaign) -> None:
    """Raise MismatchError unless all parts of a campaign fit together."""
    for complaint in complaints(campaign):
        raise MismatchError(complaint)


def _check_counts(counts: Counts) -> None:
    _check(counts.campaign)
    known = {(plan.case.name, arm.label) for plan in counts.campaign.cases for arm in plan.arms}
    for each in counts.counts:
        if (each.case, each.arm) not in known or each.side not in ("server", "client"):
            raise MismatchError(f"{each.side} of {each.arm} was counted in {each.case}, which is not known")
        if each.connections < 1 or not each.layouts or not all(1 <= value <= 1e15 for value in each.layouts):
            raise MismatchError(f"{each.layouts} instructions in each of {each.connections} connections")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number")


def _one_line(thing: object) -> str:
    text = "".join(each if each.isprintable() else " " for each in str(thing))
    return text if len(text) <= 160 else f"{text[:157]}..."
