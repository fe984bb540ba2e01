"""Options, and types of options, that several commands share."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from loopmark.campaign import Request
from loopmark.case import ROLES, Role
from loopmark.certs import KEYS
from loopmark.deadlines import CONVERSATION
from loopmark.plan import Axes, Effort
from loopmark.registry import registry
from loopmark.tls import VERSIONS

T = TypeVar("T")


class Listed(click.ParamType[Any]):
    """A comma-separated list; `convert_one` reads each element and `names` completes it."""

    name = "list"

    def __init__(
        self,
        convert_one: Callable[[str], Any],
        what: str,
        names: Callable[[], list[str]] = list,
    ) -> None:
        self._convert_one = convert_one
        self._what = what
        self._names = names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Split and read; what click hands over as a default is ready."""
        if not isinstance(value, str):
            return value
        elements = [element.strip() for element in value.split(",") if element.strip()]
        if not elements:
            self.fail(f"give {self._what}, separated by commas", param, ctx)
        try:
            return tuple(dict.fromkeys(self._convert_one(element) for element in elements))
        except ValueError as error:
            self.fail(f"{value!r} is no list of {self._what}: {error}", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the last element."""
        del ctx, param
        head, comma, last = incomplete.rpartition(",")
        return [CompletionItem(head + comma + name) for name in self._names() if name.startswith(last)]


class Share(click.ParamType[float]):
    """A share above zero: `1%` or `0.01`."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it as a fraction of 1."""
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = 0.0
        if not 0 < share < 1:
            self.fail(f"{value!r} is no share: give something like 1% or 0.01", param, ctx)
        return share


class Seconds(click.FloatRange):
    """A number of seconds: neither `nan`, which no range refuses, nor `inf`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


class RoundTripTime(click.ParamType[float]):
    """A time between 1 ms and 1 s, with its unit: `20ms` or `0.02s`; in milliseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        text = str(value).strip()
        number, unit = (text[:-2], 1.0) if text.endswith("ms") else (text.removesuffix("s"), 1000.0)
        try:
            time = round(float(number) * unit, 3) if text.endswith("s") else math.nan
        except ValueError:
            time = math.nan
        if not 1 <= time <= 1000:
            self.fail(f"{value!r} is no time from 1 ms to 1 s with its unit: give something like 20ms", param, ctx)
        return time


def is_given(name: str) -> bool:
    """Tell whether a parameter of the running command was typed, and is no default."""
    return click.get_current_context().get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def contender_names() -> list[str]:
    """Return the names of all contenders, for completion."""
    return list(registry().contenders)


def benchmark_names() -> list[str]:
    """Return the names of all benchmarks and of their cases, for completion."""
    known = registry()
    names = {name: known.benchmark(name).variants for name in known.benchmarks}
    return [*names, *(case for name, cases in names.items() for case in cases if case != name)]


def complete_contender(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete one contender's name."""
    del ctx, param
    return [name for name in contender_names() if name.startswith(incomplete)]


def complete_benchmark(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete one benchmark's name."""
    del ctx, param
    return [name for name in benchmark_names() if name.startswith(incomplete)]


def one_role(text: str) -> Role:
    """Read one of the roles that a single contender can have."""
    if text not in ROLES:
        raise ValueError(f"{text!r} is none of them")
    return Role(text)


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"{text!r} is none") from None
    if number < 1:
        raise ValueError(f"{number} is less than 1")
    return number


def one_of(known: Collection[str]) -> Callable[[str], str]:
    """Return a reader of one of the known words."""

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"{text!r} is none of {', '.join(known)}")
        return text

    return read


contenders_option = click.option(
    "-b",
    "--contender",
    "contenders",
    type=Listed(str, "contenders", contender_names),
    default=(),
    metavar="NAME[,..]",
    help="Who takes part, besides the baseline; everybody by default.",
)
benchmarks_option = click.option(
    "-w",
    "--benchmark",
    "benchmarks",
    type=Listed(str, "benchmarks", benchmark_names),
    default="tls_pingpong",
    metavar="NAME[:CASE][,..]",
    show_default=True,
    help="What is measured: all cases of a benchmark, or one.",
)
baseline_option = click.option(
    "--baseline",
    metavar="NAME",
    default="asyncio",
    show_default=True,
    shell_complete=complete_contender,
    help="What all ratios refer to.",
)
label_option = click.option(
    "--label", metavar="TEXT", help="Name of the campaign; CPU model and core count by default."
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), metavar="N", help="For the order of the arms; random by default."
)
results_option = click.option(
    "--results",
    type=click.Path(path_type=Path),
    default="results",
    show_default=True,
    metavar="DIR",
    help="Where the campaign's directory is made.",
)


def _one_file(ctx: click.Context, param: click.Parameter, value: tuple[Path, ...]) -> Path | None:
    if len(value) > 1:
        raise click.BadParameter("give one file: it may have all of backends, loops and benchmarks", ctx, param)
    return value[0] if value else None


plugin_option = click.option(
    "--plugin",
    type=click.Path(path_type=Path),
    multiple=True,
    callback=_one_file,
    metavar="FILE",
    help="A Python file with any of the dicts backends, loops, benchmarks (name to object). It is run.",
)
certificates_option = click.option(
    "--certs",
    "certificates",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where certificates are, and made on first use.",
)
deadline_option = click.option(
    "--deadline",
    type=Seconds(min=0, min_open=True),
    default=CONVERSATION,
    show_default=True,
    metavar="S",
    help="Seconds that one conversation may take; where many handshakes queue, time for those is added.",
)
progress_option = click.option("--no-progress", is_flag=True, help="Print the result only.")

_TLS_OPTIONS = (
    click.option(
        "--tls",
        "versions",
        type=Listed(one_of(VERSIONS), "TLS versions"),
        default=(),
        metavar="VERSION[,..]",
        help="1.2 or 1.3; 1.3 by default. This and the next six are for benchmarks with TLS.",
    ),
    click.option(
        "--key",
        "keys",
        type=Listed(one_of(KEYS), "key types"),
        default=(),
        metavar="TYPE[,..]",
        help=f"The server's key: {', '.join(KEYS)}.",
    ),
    click.option("--cipher", metavar="NAME", help="OpenSSL's name of the one cipher, with TLS 1.2 only."),
    click.option("--group", metavar="NAME", help="The key exchange: X25519, prime256v1, ..."),
    click.option(
        "--tickets",
        type=click.IntRange(min=0),
        metavar="N",
        help="Session tickets after a handshake; 1 with --tls-resume, else none by default.",
    ),
    click.option("--tls-resume", "resumed", is_flag=True, help="Every handshake takes up an older session."),
    click.option(
        "--client-key", type=click.Choice(KEYS), help="Clients show a certificate with such a key; servers verify it."
    ),
)


def tls_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how TLS is done; their names are those of the axes."""
    for option in reversed(_TLS_OPTIONS):
        command = option(command)
    return command


def request_of(effort: Effort, wishes: Mapping[str, Any]) -> Request:
    """Make a request of options that have the names of its fields, or of its axes."""
    rest = {name: wish for name, wish in wishes.items() if name not in _AXES}
    return Request(effort=effort, axes=axes_of(wishes), **rest)


def axes_of(wishes: Mapping[str, Any]) -> Axes:
    """Make the axes of those options that have their names."""
    return Axes(**{name: wish for name, wish in wishes.items() if name in _AXES})


_AXES = frozenset(each.name for each in dataclasses.fields(Axes))
