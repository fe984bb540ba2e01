"""Dataclasses to JSON data and back, strictly: what cannot be read back is not written, what does not fit is refused.

The annotations are the schema. A float is a finite number; an integer has at most 128 bits; every field is there and no
other; `Any` is plain JSON (tuples in it come back as lists). A finite float comes back exactly, since Python writes the
shortest digits that do so.
"""

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from loopmark.errors import LoopmarkError

T = TypeVar("T")

LARGEST = 2**128


class MismatchError(ValueError):
    """Data does not fit its type; the text says where and why."""

    def __init__(self, complaint: str) -> None:
        super().__init__(complaint)
        self.complaint = complaint
        self.path = ""

    def inside(self, step: str) -> "MismatchError":
        """Add one step to where it happened, from the inside out."""
        self.path = step + self.path
        return self

    def __str__(self) -> str:
        return f"{self.path.lstrip('.') or 'the whole'}: {self.complaint}"


def encode(value: object, kind: Any) -> Any:
    """Turn a value of the annotated type into JSON data; raises MismatchError for what could not be read back."""
    return _walk(value, kind, _record_to_json)


def decode(data: object, kind: type[T]) -> T:
    """Turn JSON data into a value of the annotated type; raises MismatchError when it does not fit."""
    decoded: T = _walk(data, kind, _record_from_json)
    return decoded


_Record = Callable[[Any, Any], Any]


def _walk(value: Any, kind: Any, record: _Record) -> Any:
    """Check one value against its type; both directions differ in records, enumerations and tuples only."""
    outward = record is _record_to_json
    if kind is Any:
        return _plain(value)
    if kind in (str, int, float, bool, NoneType):
        return _scalar(value, kind)
    origin = get_origin(kind)
    if origin is UnionType:
        return _union(value, get_args(kind), record)
    if origin in (tuple, list):
        items = _items(value, get_args(kind)[0], record, of=origin if outward else list)
        return tuple(items) if origin is tuple and not outward else items
    if origin is dict:
        return _mapping(value, get_args(kind)[1], record)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enumeration(value, kind, outward)
    if is_dataclass(kind):
        return record(value, kind)
    raise TypeError(f"no JSON form for {kind}")


def _scalar(value: Any, kind: Any) -> Any:
    if kind is str and isinstance(value, str):
        return str(value)
    if kind is float and type(value) is int and abs(value) < LARGEST:
        return value
    if type(value) is not kind:
        raise MismatchError(f"expected {kind.__name__}, found {_shown(value)}")
    if kind is float and not math.isfinite(value):
        raise MismatchError(f"{value} is not a finite number")
    if kind is int and abs(value) >= LARGEST:
        raise MismatchError("the integer is too large")
    return value


def _union(value: Any, kinds: tuple[Any, ...], record: _Record) -> Any:
    if value is None and NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not NoneType]
    if len(others) == 1:
        return _walk(value, others[0], record)
    return _scalar(value, type(value) if type(value) in others else others[0])


def _items(value: Any, kind: Any, record: _Record, *, of: Any) -> list[Any]:
    if not isinstance(value, of):
        raise MismatchError(f"expected a {of.__name__}, found {_shown(value)}")
    found = []
    for index, each in enumerate(value):
        try:
            found.append(_walk(each, kind, record))
        except MismatchError as error:
            raise error.inside(f"[{index}]") from None
    return found


def _mapping(value: Any, kind: Any, record: _Record) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MismatchError(f"expected an object, found {_shown(value)}")
    found = {}
    for key, each in value.items():
        try:
            found[_scalar(key, str)] = _walk(each, kind, record)
        except MismatchError as error:
            raise error.inside(f".{key}") from None
    return found


def _plain(value: Any) -> Any:
    """Check untyped JSON data."""
    if isinstance(value, dict):
        return _mapping(value, Any, _record_to_json)
    if isinstance(value, list | tuple):
        return _items(value, Any, _record_to_json, of=type(value))
    if value is None or isinstance(value, str | bool | int | float):
        return _scalar(value, str if isinstance(value, str) else type(value))
    raise MismatchError(f"{_shown(value)} is not JSON")


def _enumeration(value: Any, kind: type[Enum], outward: bool) -> Any:
    if outward:
        if not isinstance(value, kind):
            raise MismatchError(f"expected a {kind.__name__}, found {_shown(value)}")
        return value.value
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(str(each.value) for each in kind)
        raise MismatchError(f"expected one of {choices}, found {_shown(value)}") from None


@cache
def _hints(kind: Callable[..., Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind)}  # type: ignore[arg-type]  # the caller has checked


def _record_to_json(value: Any, kind: Any) -> dict[str, Any]:
    if value.__class__ is not kind:
        raise MismatchError(f"expected {kind.__name__}, found {_shown(value)}")
    return _fields({name: getattr(value, name) for name in _hints(kind)}, kind, _record_to_json)


def _record_from_json(value: Any, kind: Any) -> Any:
    if not isinstance(value, dict):
        raise MismatchError(f"expected an object, found {_shown(value)}")
    hints = _hints(kind)
    for wrong, words in ((hints.keys() - value.keys(), "lacks"), (value.keys() - hints.keys(), "has the unknown key")):
        if wrong:
            raise MismatchError(f"{words} {min(wrong)!r}")
    found = _fields(value, kind, _record_from_json)
    try:
        return kind(**found)
    except (LoopmarkError, ValueError) as error:
        # What the type itself refuses, such as a role without its peer.
        raise MismatchError(str(error)) from None


def _fields(value: dict[str, Any], kind: Any, record: _Record) -> dict[str, Any]:
    found = {}
    for name, hint in _hints(kind).items():
        try:
            found[name] = _walk(value[name], hint, record)
        except MismatchError as error:
            raise error.inside(f".{name}") from None
    return found


def _shown(value: object) -> str:
    names = {
        str: "text",
        int: "an integer",
        float: "a number",
        bool: "true or false",
        list: "a list",
        dict: "an object",
    }
    return "nothing" if value is None else names.get(type(value), f"a {type(value).__name__}")
