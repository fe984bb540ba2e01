"""Takes local paths out of texts before they are stored: a path's directories tell a user's name, or more."""

import os.path
import re
from typing import Any

# At least two components, or one below the home directory; never the middle of a word, a URL or a relative path.
# Behind -I and -L a path starts without a gap.
_PART = r"/[^\s/'\"`,;:()<>\[\]{}|=]+"
_PATH = re.compile(rf"(?:(?<![\w.~/])|(?<=-[IL]))(?:~(?:{_PART})+|(?:{_PART}){{2,}})/?")
_PUBLIC = ("/proc/", "/sys/", "/dev/")
_HOMES = ("/home", "/Users")


def text(value: str) -> str:
    """Replace each absolute path by dots and its last component; what the kernel shows everywhere is left alone."""
    value = _legible(value)
    if "/" not in value:
        return value
    home = os.path.expanduser("~")  # noqa: PTH111  # Path.home() raises when nobody knows it
    value = value.replace("file://", "")
    if len(home) > 1:
        value = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", value)
    return _PATH.sub(_last, value)


def argument(value: str) -> str:
    """Redact one argument of a command line, which may be a path with blanks in it, alone or behind `--option=`."""
    option, equals, rest = value.partition("=") if value.startswith("-") else ("", "", value)
    if rest.startswith(("/", "~/")):
        rest = _shortened(rest)
    return text(f"{option}{equals}{rest}")


def deep(value: Any) -> Any:
    """Redact every text in JSON data; keys stay."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list | tuple):
        return [deep(each) for each in value]
    if isinstance(value, dict):
        return {key: deep(each) for key, each in value.items()}
    return value


def has_path(value: str) -> bool:
    """Tell whether redacting would change a text."""
    return text(value) != value


def _legible(value: str) -> str:
    """Return a text whose bytes, where they come from file names or arguments of another locale, are read as UTF-8."""
    if value.isascii():
        return value
    try:
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace").decode("utf-8")


def _last(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith(_PUBLIC) else _shortened(found[0])


def _shortened(path: str) -> str:
    parent, _, name = path.rstrip("/").rpartition("/")
    return "..." if parent in _HOMES else f".../{name}"
