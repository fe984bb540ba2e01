"""A profile as text: where one side's CPU time goes, function by function, and what each number is."""

from collections.abc import Iterator

from loopmark.callstats import HANDSHAKE, OPENSSL
from loopmark.case import Cores
from loopmark.profiling import Functions, Plain, Profile, Samples
from loopmark.report.document import PLACEMENT, Section
from loopmark.report.render import text
from loopmark.report.tables import Table

ROWS = 25
"""Functions in the table; the rest has one row together."""

BUSY_MACHINE = 0.2
"""From this time without a core on, as a share of the CPU time, a warning is in place."""


def profile_report(profile: Profile) -> str:
    """Render a profile as text, ended by a newline."""
    return text([_times(profile), _functions(profile), _about(profile)])


def _times(profile: Profile) -> Section:
    subject, plain = profile.subject, profile.plain
    case = subject.case
    name = f"{case.benchmark}:{case.variant}" if case.variant else case.benchmark
    title = f"{subject.contender} as {subject.side} in {name}, {case.concurrency} at a time: where its CPU time goes"
    return Section(title=title, lines=(*_parts(profile), *_setting(profile, plain)))


def _parts(profile: Profile) -> Iterator[str]:
    """Split what one unit costs without a profiler."""
    subject, plain = profile.subject, profile.plain
    rest, left = plain.cpu, "all"
    yield (
        f"CPU time of the {subject.side}, without a profiler: {_us(plain.cpu)} per {subject.unit} "
        f"({plain.units} of them, at {1 / plain.wall:.0f}/s, which kept it {_share(plain.cpu, plain.wall)} busy)."
    )
    if plain.floor is not None:
        low, high = (f"{100 * each:.0f}" for each in (min(plain.floors), max(plain.floors)))
        spread = f" ({low} to {high} % in {len(plain.floors)} values)" if low != high else ""
        yield f"handshake and messages in OpenSSL (floor): {_of(plain.floor, profile)}{spread}"
        rest, left = rest - plain.floor, "the rest"
    if plain.kernel is not None:
        yield f"system calls, that is the kernel with its network stack: {_of(plain.kernel * plain.cpu, profile)}"
        rest, left = rest - plain.kernel * plain.cpu, "the rest"
    told = _of(rest, profile) if rest > 0 else "nothing that these figures could tell from noise"
    yield f"{left}, {subject.contender}'s own code and Python: {told}"


def _of(seconds: float, profile: Profile) -> str:
    whole = profile.plain.cpu
    return f"{_us(seconds)} of {_us(whole)} per {profile.subject.unit}, {_share(seconds, whole)}"


def _setting(profile: Profile, plain: Plain) -> Iterator[str]:
    case, unit = profile.subject.case, profile.subject.unit
    other = "client" if profile.subject.side == "server" else "server"
    yield f"The other side is the fixed {case.peer} {other}; {PLACEMENT[case.cores]}."
    if case.tls is not None:
        resumed = "resumed" if case.tls.resumed else "full"
        yield f"TLS {case.tls.version}, key {case.tls.key}, group {case.tls.group}, {resumed} handshakes."
    if plain.floor is not None:
        yield (
            "Floor: this side's part of the same handshake and messages in memory, with the same OpenSSL and no "
            "socket, kernel or loop, measured in turns with the rest. Nobody who uses Python's ssl module can be below "
            "it; another key, version or TLS library would change it."
        )
    elif case.tls is not None:
        yield f"There is no floor: connections are open all the time, so that no handshake belongs to a {unit}."
    if plain.kernel is not None:
        yield (
            "The kernel's part is by its own accounting, which may count in clock ticks: a few percent are noise. On "
            "loopback the receiver's kernel path is charged to the sender."
        )


def _functions(profile: Profile) -> Section:
    found, subject = profile.functions, profile.subject
    title = "Functions under cProfile"
    if isinstance(found, str):
        return Section(title=title, lines=(found,))
    table = Table(
        title="",
        headers=("function", f"calls\n/{subject.unit}", "own\nus", "own\n%", "with callees\nus", "with callees\n%"),
        rows=tuple(_rows(found)),
    )
    return Section(title=title, tables=(table,), lines=tuple(_reading(profile, found)))


def _rows(found: Functions) -> Iterator[tuple[str, ...]]:
    """Yield the functions by own time, then what is left, so that the own times add up to all."""
    stats, units = found.stats, found.units

    def cells(name: str, calls: float | None, own: float, cumulative: float | None) -> tuple[str, ...]:
        return (
            name,
            "" if calls is None else f"{calls / units:.2f}",
            f"{1e6 * own / units:.1f}",
            _percent(own, stats.cpu),
            "" if cumulative is None else f"{1e6 * cumulative / units:.1f}",
            "" if cumulative is None else _percent(cumulative, stats.cpu),
        )

    yield from (cells(each.name, each.calls, each.own, each.cumulative) for each in stats.functions[:ROWS])
    others = stats.functions[ROWS:]
    if others:
        yield cells(f"{len(others)} other functions", None, sum(each.own for each in others), None)
    yield cells("in no function", None, stats.unseen, None)


def _reading(profile: Profile, found: Functions) -> Iterator[str]:
    stats, plain, subject = found.stats, profile.plain, profile.subject
    handshake, openssl = stats.share(HANDSHAKE), stats.share(OPENSSL)
    if openssl:
        yield (
            f"do_handshake: {100 * handshake:.0f} % of the CPU time under cProfile, with all that it calls; all calls "
            f"into OpenSSL: {100 * openssl:.0f} %."
        )
    under = stats.cpu / found.units
    yield (
        f"cProfile inflates Python against C: under it the {subject.side} took {_us(under)} per {subject.unit}, "
        f"{under / plain.cpu:.2f} times as much as without, and the surplus lies in the small functions. So C, the "
        "handshake above all, has a larger share than this table says; read it for the order, and for who calls what "
        "how often."
    )
    yield (
        "own: in the function itself, and in what it calls that cProfile does not see, which are functions compiled by "
        "Cython, all of uvloop's for instance; with callees: from call to return, a coroutine's up to each suspension. "
        "In no function: what a compiled loop does by itself, its system calls included."
    )
    if found.cpu_clock:
        why = "both sides share one core" if subject.case.cores is Cores.SHARED else "the sides take turns"
        yield f"Times are CPU time, since {why}; its clock is a system call, so that small functions are inflated more."
    else:
        yield "Time in which the process waited or was kept waiting is taken out."
    if stats.delay and stats.delay > BUSY_MACHINE * stats.cpu:
        yield (
            f"The machine was busy: the process waited {_share(stats.delay, stats.cpu)} of its CPU time for a core, so "
            "all of this is rough; repeat it on a quiet one."
        )


def _about(profile: Profile) -> Section:
    found = profile.samples
    return Section(title="Flame graph", lines=(found,) if isinstance(found, str) else tuple(_graph(found)))


def _graph(found: Samples) -> Iterator[str]:
    frames = "with the frames of compiled code" if found.is_native else "of Python's frames only"
    yield f"{found.path}: {found.samples} samples by py-spy {frames}; open it in a browser."
    if found.handshake:
        yield (
            f"In do_handshake: {found.handshake} of {found.samples} samples, {_share(found.handshake, found.samples)}. "
            "A sampler does not inflate Python."
        )
    yield "Samples are taken of threads that run, system calls included, and not of those that wait."


def _us(seconds: float) -> str:
    digits = 0 if abs(seconds) >= 99.95e-6 else 1 if abs(seconds) >= 9.95e-6 else 2
    return f"{1e6 * seconds:.{digits}f} us"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole if whole else 0.0:.0f} %"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole if whole else 0.0:.1f}"
