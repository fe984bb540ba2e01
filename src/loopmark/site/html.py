"""HTML from strings that cannot break out of it."""

from collections.abc import Iterable
from html import escape


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Iterable[str]

VOID = {"input", "link", "meta"}
"""Elements without an end."""


def tag(name: str, /, *children: Child, **attributes: str | bool | None) -> Html:
    """Make an element. Children that are not `Html` are text.

    An attribute that is False or None is left out, True has no value; `class_` and `data_case` are `class` and
    `data-case`.
    """
    given = "".join(
        f" {_attribute(key)}" if value is True else f' {_attribute(key)}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Html:
    """Put elements and texts one after the other."""
    return Html("".join(_safe(one) for child in children for one in ([child] if isinstance(child, str) else child)))


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _safe(child: str) -> str:
    return child if isinstance(child, Html) else escape(child, quote=False)
