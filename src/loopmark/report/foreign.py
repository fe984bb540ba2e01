"""pyperf files side by side, as tables and sentences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loopmark.alongside import Benchmark, Comparison, Row
from loopmark.foreign import case_of
from loopmark.judgement import Gate, Judgement
from loopmark.record import Kind
from loopmark.report.cells import NOTHING, interval, plus_minus
from loopmark.report.document import Section
from loopmark.report.figures import BUSY
from loopmark.report.formats import rendered
from loopmark.report.tables import HELD_BACK, Table, metric_name
from loopmark.stats import Summary
from loopmark.verdicts import Verdict, leaning

COLUMNS = (
    *("benchmark", "unit", "file", "kind", "runs", "median", "lowest", "highest"),
    *("ratio", "low", "high", "level", "verdict", "leaning", "letters", "gate", "reason"),
)

_SCALES: Mapping[str, Sequence[tuple[float, str]]] = {
    "second": ((1, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")),
    "byte": ((2**20, "MiB"), (2**10, "KiB"), (1, "B")),
}


def comparison_of_files(comparison: Comparison, format: str = "text") -> str:  # noqa: A002 - the command line's own word
    """Render a comparison of pyperf files; formats and errors as of `formats.rendered`."""
    missing = {name: list(labels) for name, labels in comparison.missing.items()}
    about = {"baseline": comparison.files[0], "files": list(comparison.files), "not_in_all": missing}
    return rendered(format, lambda: _sections(comparison), COLUMNS, lambda: _flat(comparison), about)


def _flat(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for benchmark in comparison.benchmarks:
        for row in benchmark.rows:
            yield {
                "benchmark": benchmark.name,
                "unit": benchmark.unit,
                "file": row.file,
                "kind": row.kind and row.kind.value,
                "runs": row.absolute.blocks,
                "median": row.absolute.median,
                "lowest": row.absolute.lowest,
                "highest": row.absolute.highest,
                "ratio": row.ratio,
                "low": row.interval and row.interval.low,
                "high": row.interval and row.interval.high,
                "level": row.interval and row.interval.level,
                "verdict": row.verdict and row.verdict.value,
                "leaning": _leaning(benchmark, row),
                "letters": row.letters or None,
                "gate": benchmark.judgement.gate.value if benchmark.judgement else None,
                "reason": "; ".join(benchmark.reasons) or None,
            }


def _leaning(benchmark: Benchmark, row: Row) -> str | None:
    if row.verdict is not Verdict.INCONCLUSIVE or row.interval is None or benchmark.judgement is None:
        return None
    return leaning(row.interval, benchmark.judgement.margin).value


def _sections(comparison: Comparison) -> list[Section]:
    """Return a section per case with intervals, one for what has none, and one about all of them."""
    cases: dict[str, list[Benchmark]] = {}
    without = []
    for benchmark in comparison.benchmarks:
        if any(row.interval for row in benchmark.rows):
            found = case_of(benchmark.name)
            cases.setdefault(found[0].name if found else benchmark.name, []).append(benchmark)
        else:
            without.append(benchmark)
    sections = [_of_case(name, sorted(each, key=lambda one: one.judgement is None)) for name, each in cases.items()]
    if without:
        sections.append(_of_medians(without))
    lines = tuple(_about(comparison))
    return [*sections, Section(title="About these numbers", tables=(), lines=lines)]


def _of_case(name: str, benchmarks: Sequence[Benchmark]) -> Section:
    """Show what was measured together: the metric that is judged first."""
    return Section(
        title=name,
        tables=tuple(_table(each) for each in benchmarks),
        lines=tuple(_lines(benchmarks)),
    )


def _table(benchmark: Benchmark) -> Table:
    judgement = benchmark.judgement
    together = (
        judgement is not None
        and judgement.widest is not None
        and any(row.interval is not None and row.interval.level == judgement.level for row in benchmark.rows)
    )
    verdicts = any(row.verdict for row in benchmark.rows)
    rows = []
    for row in benchmark.rows:
        mark = HELD_BACK if (row.peer_busy or 0.0) >= BUSY and judgement else ""
        ratio = f"1{mark}" if row is benchmark.rows[0] else _ratio(row, mark)
        cells = [_name(benchmark, row), _absolute(row.absolute, benchmark.unit), ratio]
        if verdicts:
            cells += [_verdict(benchmark, row), row.letters or NOTHING]
        rows.append(tuple(cells))
    header = f"ratio\n[{'simultaneous' if together else 'plain'} 95 %]"
    return Table(
        title=_metric(benchmark),
        headers=("file", "median (range)", header, *(("verdict", "letters") if verdicts else ())),
        rows=tuple(rows),
    )


def _metric(benchmark: Benchmark) -> str:
    found = case_of(benchmark.name)
    return metric_name(found[1]) if found else benchmark.name


def _name(benchmark: Benchmark, row: Row) -> str:
    if row is benchmark.rows[0]:
        return f"{row.file} (baseline)"
    if row.file in benchmark.twins:
        return f"{row.file} (A/A twin)"
    return f"{row.file} (+2 % control)" if row.kind is Kind.CONTROL else row.file


def _ratio(row: Row, mark: str = "") -> str:
    if row.ratio is None:
        return NOTHING
    return f"{row.ratio:.3f}{mark}" if row.interval is None else interval(row.interval, mark)


def _verdict(benchmark: Benchmark, row: Row) -> str:
    if row.verdict is None:
        return NOTHING
    where = _leaning(benchmark, row)
    return f"{row.verdict} ({where}?)" if where else str(row.verdict)


def _lines(benchmarks: Sequence[Benchmark]) -> Iterator[str]:
    for benchmark in benchmarks:
        if benchmark.judgement:
            yield from _trust(benchmark, benchmark.judgement)
    unjudged: dict[tuple[str, ...], list[str]] = {}
    for benchmark in benchmarks:
        if not benchmark.judgement:
            unjudged.setdefault(benchmark.reasons, []).append(_metric(benchmark))
    for reasons, metrics in unjudged.items():
        yield f"{', '.join(metrics)}: no verdict, since {'; '.join(reasons)}."


def _trust(benchmark: Benchmark, judgement: Judgement) -> Iterator[str]:
    """Tell how far a metric that is judged can be trusted."""
    metric = _metric(benchmark)
    if benchmark.twins:
        margin = f"the margin of {100 * judgement.margin:g} %"
        shown = ", ".join(interval(row.interval) for row in benchmark.rows if row.file in benchmark.twins)
        said = f"the A/A twin, {benchmark.rows[0].file} against itself, came out at {shown}"
        told = {
            Gate.PASSED: f"passed: {said}, inside {margin}",
            Gate.UNPRECISE: f"precision not reached: {said}, not wholly inside {margin}",
            Gate.INVALID: f"INVALID: {'; '.join(judgement.reasons)}",
            Gate.NONE: f"none, with so few blocks: {said}",
        }
        yield f"{metric}: {judgement.blocks} blocks. Gate: {told[judgement.gate]}."
    if benchmark.reasons:
        yield f"{metric}: no verdict, since {'; '.join(benchmark.reasons)}."
    elif judgement.widest is not None:
        yield f"{metric}: the widest interval is {plus_minus(judgement.widest)}."
    if any((row.peer_busy or 0.0) >= BUSY for row in benchmark.rows):
        yield (
            f"Marked {HELD_BACK}: the fixed peer was at least {100 * BUSY:.0f} % busy and set the pace: the ratio is "
            "one of CPU time, and no rate follows from it."
        )


def _of_medians(benchmarks: Sequence[Benchmark]) -> Section:
    rows = []
    for benchmark in benchmarks:
        for place, row in enumerate(benchmark.rows):
            first = "" if place else benchmark.name
            ratio = _ratio(row) if place else "1"
            rows.append((first, _name(benchmark, row), _absolute(row.absolute, benchmark.unit), ratio))
    reasons: dict[str, list[str]] = {}
    for benchmark in benchmarks:
        for reason in benchmark.reasons:
            reasons.setdefault(reason, []).append(benchmark.name)
    return Section(
        title="Ratios of medians: no interval, no verdict",
        tables=(Table(title="", headers=("benchmark", "file", "median (range)", "ratio"), rows=tuple(rows)),),
        lines=tuple(
            f"{'' if len(names) == len(benchmarks) else ', '.join(names) + ': '}No verdict, since {reason}."
            for reason, names in reasons.items()
        ),
    )


def _about(comparison: Comparison) -> Iterator[str]:
    yield f"Ratios are to {comparison.files[0]}, the first file; below 1 is less."
    yield "Absolute figures: the median over runs, in parentheses the lowest and the highest run."
    if any(row.interval for benchmark in comparison.benchmarks for row in benchmark.rows):
        yield (
            "In brackets: Hodges-Lehmann estimate and Wilcoxon signed-rank interval over blocks. Simultaneous ones "
            "hold together for as many contenders as their campaign had. They cover repetition within that campaign, "
            "on its machine and build, and nothing else. Of many plain intervals some are wrong."
        )
    for name, labels in comparison.missing.items():
        yield f"Not compared, because not all files have it: {name} ({', '.join(labels)})."


def _absolute(figure: Summary, unit: str) -> str:
    """Show a figure with its range, three digits or all before the point."""
    for factor, symbol in _SCALES.get(unit, ()):
        if figure.median >= factor or (factor, symbol) == _SCALES[unit][-1]:
            middle = figure.median / factor
            digits = 0 if middle >= 99.95 else 1 if middle >= 9.995 else 2
            low, high = (f"{each / factor:.{digits}f}" for each in (figure.lowest, figure.highest))
            return f"{middle:.{digits}f} {symbol} ({low}-{high})"
    return f"{figure.median:.6g} ({figure.lowest:.6g}-{figure.highest:.6g})"
