"""The studies, as data: which command lines, how often each, and for how long."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

STARTUP = Path(__file__).parent / "startup"
"""With this on PYTHONPATH every interpreter of a campaign does what LOOPMARK_STUDY asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One command line of a study. With `stock` it is a pair of pyperf files of identical code, else a campaign."""

    case: str
    """One of CASES, or what else tells a study's lines apart."""
    variant: str = ""
    arguments: tuple[str, ...] = ()
    stock: bool = False
    counts: bool = False
    """Instructions are counted and no time is taken, so that whatever else the machine does is no matter."""
    prefix: tuple[str, ...] = ()
    """A program that runs the command in another environment."""
    environment: Mapping[str, str] = field(default_factory=dict)
    other_python: bool = False
    """To be run by the interpreter that is given with --other-python."""
    wanted: int
    """How many results."""
    seconds: int
    """What one of them takes."""

    @property
    def name(self) -> str:
        """The name of the directory of its results."""
        return f"{self.variant}-{self.case}" if self.variant else self.case


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What belongs together, and is measured interleaved in time."""

    question: str
    lines: tuple[Line, ...]

    @property
    def seconds(self) -> int:
        """What all of it takes."""
        return sum(line.wanted * line.seconds for line in self.lines)


CASES: Mapping[str, tuple[str, ...]] = {
    "both-1": ("-c", "1", "--role", "both"),
    "server-100": ("-c", "100", "--role", "server"),
    "client-100": ("-c", "100", "--role", "client"),
}
"""Those of the default campaign, each as a campaign of its own."""

STOCK_CASES: Mapping[str, tuple[str, ...]] = {
    "both-1": ("--concurrency", "1", "--role", "both", "--metric", "wall"),
    "server-100": ("--concurrency", "100", "--role", "server", "--metric", "server-cpu"),
    "client-100": ("--concurrency", "100", "--role", "client", "--metric", "client-cpu"),
}
STOCK_SECONDS = {"both-1": 45, "server-100": 85, "client-100": 85}

FIVE_ARMS = ("-b", "uvloop,trio,anyio")
"""Besides the baseline and its twin."""

TO_THE_END = ("--target", "0.01%")
"""Too narrow to be reached: the time is what ends a campaign."""

FULL_SECONDS = {"both-1": 180, "server-100": 240, "client-100": 240}

PRELOADED = {"LOOPMARK_STUDY": "preload"}
WHOLE = {"LOOPMARK_STUDY": "whole-values"}

USUAL = "usual"
"""The variant in which nothing is changed: it takes turns with the others, so that they share the machine's moods."""


def _campaigns(
    *arguments: str,
    cases: Mapping[str, int] = FULL_SECONDS,
    wanted: int,
    variant: str = "",
    prefix: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    other_python: bool = False,
) -> Iterator[Line]:
    for case, seconds in cases.items():
        yield Line(
            case=case,
            variant=variant,
            arguments=(*arguments, *CASES[case], "--max-time", str(seconds)),
            prefix=prefix,
            environment=environment or {},
            other_python=other_python,
            wanted=wanted,
            seconds=seconds,
        )


def _stock(wanted: int) -> Iterator[Line]:
    for case, arguments in STOCK_CASES.items():
        yield Line(
            case=case,
            variant="stock",
            arguments=arguments,
            stock=True,
            wanted=wanted,
            seconds=STOCK_SECONDS[case],
        )


_AS_USUAL = (*FIVE_ARMS, *TO_THE_END)
HAND, BEFORE = "hand-", "before-"
"""Begin the labels of hand-written code, and of contenders before they were hardened."""

_MADE: tuple[tuple[str, tuple[str, ...], Mapping[str, str]], ...] = (
    ("sliced", (), {}),
    ("whole", (), WHOLE),
    ("fresh", ("--fresh",), {}),
)
"""How values are made. Those of one case are neighbours, and short: ratios drift with the machine within the hour."""

_HALF = dict.fromkeys(CASES, 120)
_HALF_AT_100 = dict.fromkeys(("server-100", "client-100"), 120)
"""Shorter and more campaigns, so that twenty lines come closer together in time."""

_BUSY = Path(__file__).parent / "busy.py"
_KNOWN = ("--plugin", str(_BUSY), "--baseline", "asyncio-short", "-b", "asyncio-long", *TO_THE_END)

_WITH_TLS = (
    *("asyncio", "asyncio-protocol", "uvloop", "uvloop-protocol", "trio", "blocking"),
    *("anyio+asyncio", "anyio+uvloop", "anyio+trio"),
)
_ARMS = {"tls_pingpong": _WITH_TLS, "tcp_pingpong": (*_WITH_TLS, "asyncio-sockets", "uvloop-sockets")}
_YARDSTICKS = Path(__file__).parents[1] / "tests" / "handwritten" / "yardsticks.py"
_EARLIER = Path(__file__).parent / "before.py"


def _beside(plugin: Path, prefix: str, seconds: Mapping[str, int], wanted: int) -> Iterator[Line]:
    """Two arms and no twin: fewer arms take turns the faster, and noise is known from the study `aa`."""
    for benchmark, names in _ARMS.items():
        for name in names:
            for concurrency, each in seconds.items():
                yield Line(
                    case=f"{benchmark}-{concurrency}",
                    variant=name,
                    arguments=(
                        *("--plugin", str(plugin), "--baseline", name, "-b", name, "--hidden", prefix + name),
                        *("-w", benchmark, "-c", concurrency, "--role", "server,client,both", "--twins", "0"),
                        *("--max-time", str(each)),
                    ),
                    wanted=wanted,
                    seconds=each,
                )


def _counted(plugin: Path, prefix: str, seconds: int) -> Iterator[Line]:
    for name in _ARMS["tcp_pingpong"]:
        for benchmark, names in _ARMS.items():
            if name in names:
                yield Line(
                    case=benchmark,
                    variant=name,
                    arguments=(
                        *(
                            "--instructions",
                            "--plugin",
                            str(plugin),
                            "--baseline",
                            name,
                            "-b",
                            f"{name},{prefix}{name}",
                        ),
                        *("-w", benchmark, "--role", "server,client"),
                    ),
                    counts=True,
                    wanted=1,
                    seconds=seconds,
                )


STUDIES: Mapping[str, Study] = {
    "by-hand": Study(
        question="Is a contender slower than the same ping-pong written by hand?",
        lines=tuple(_beside(_YARDSTICKS, HAND, {"1": 60, "100": 75}, wanted=2)),
    ),
    "hardening": Study(
        question="Is a contender slower than it was before it was hardened against faults?",
        lines=tuple(_beside(_EARLIER, BEFORE, {"1": 75}, wanted=2)),
    ),
    "hardening-instructions": Study(
        question="Does a contender execute more than it did before it was hardened against faults?",
        lines=tuple(_counted(_EARLIER, BEFORE, 120)),
    ),
    "aa": Study(
        question="How often is identical code called different?",
        lines=(
            *_campaigns(
                "-b", "asyncio", "--twins", "7", cases={"both-1": 75, "server-100": 90, "client-100": 90}, wanted=20
            ),
            *_stock(20),
        ),
    ),
    "precision": Study(
        question="How narrow are the intervals of every pair of five arms after three and four minutes?",
        lines=tuple(_campaigns(*_AS_USUAL, wanted=10)),
    ),
    "designs": Study(
        question="What would other designs give in the same time?",
        lines=(
            *_campaigns(*_AS_USUAL, "--fresh", wanted=5, variant="fresh"),
            *_campaigns(
                *(*_AS_USUAL, "--fresh"),
                cases={"both-1": 180},
                wanted=5,
                variant="fixed",
                prefix=("setarch", "--addr-no-randomize"),
            ),
            *_campaigns(
                *_AS_USUAL,
                cases={"both-1": 180},
                wanted=5,
                variant="preloaded",
                environment=PRELOADED,
            ),
        ),
    ),
    "minute": Study(
        question="How far off is the estimate after one minute of two identical arms?",
        lines=tuple(_campaigns("-b", "asyncio", *TO_THE_END, cases={"both-1": 380}, wanted=24)),
    ),
    "control": Study(
        question="Is a true two percent found?",
        lines=tuple(_campaigns("-b", "asyncio", "--control", *TO_THE_END, cases={"both-1": 180}, wanted=10)),
    ),
    "known": Study(
        question="Is a difference of known size found at its size?",
        lines=tuple(_campaigns(*_KNOWN, cases={"both-1": 120, "client-100": 120}, wanted=3)),
    ),
    "accuracy": Study(
        question="Do forked processes give the ratios that fresh ones give, and slices those of whole values?",
        lines=tuple(
            line
            for case in CASES
            for variant, more, environment in _MADE
            for line in _campaigns(
                *TO_THE_END, *more, cases={case: 75}, wanted=12, variant=variant, environment=environment
            )
        ),
    ),
    "circumstances": Study(
        question="What do preloading, placement, peer, garbage collection, io_uring and the build do to the ratios?",
        lines=(
            *_campaigns(*_AS_USUAL, cases=_HALF, wanted=4, variant=USUAL),
            *_campaigns(*_AS_USUAL, cases=_HALF, wanted=4, variant="preloaded", environment=PRELOADED),
            *_campaigns(
                *_AS_USUAL, cases=_HALF_AT_100, wanted=4, variant="one-core", prefix=("taskset", "--cpu-list", "0")
            ),
            *_campaigns(*_AS_USUAL, "--peer", "asyncio-protocol", cases=_HALF_AT_100, wanted=4, variant="asyncio-peer"),
            *_campaigns(*_AS_USUAL, cases=_HALF, wanted=4, variant="no-gc", environment={"LOOPMARK_STUDY": "no-gc"}),
            *_campaigns(*_AS_USUAL, cases=_HALF, wanted=4, variant="io-uring", environment={"UV_USE_IO_URING": "1"}),
            *_campaigns(*_AS_USUAL, cases=_HALF, wanted=4, variant="no-io-uring", environment={"UV_USE_IO_URING": "0"}),
            *_campaigns(*_AS_USUAL, cases=_HALF, wanted=4, variant="other-python", other_python=True),
        ),
    ),
}
