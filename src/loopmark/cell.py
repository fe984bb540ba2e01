"""One contender in one case as a stock pyperf script: `python -m loopmark.cell`.

Everything pyperf offers works (`-o`, `--fast`, `--rigorous`, `--affinity`, ...). What stock pyperf cannot do is to
interleave contenders: files made one after the other give ratios, but no verdict. Use `loopmark run` for that.
"""

import contextlib
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

import pyperf

from loopmark.caller import Caller, Value
from loopmark.case import ROLES, Case, Cores, Metric, Role, stored_name
from loopmark.deadlines import deadlines
from loopmark.errors import LoopmarkError
from loopmark.limits import cores
from loopmark.peer import Handle, spawned
from loopmark.plan import MINIMUM_VALUE, PEERS, Axes, cases_of
from loopmark.registry import Registry, registry
from loopmark.task import Task
from loopmark.tls import Identity

METRICS = {str(metric).replace(" ", "-"): metric for metric in Metric}


def main() -> None:
    """Be the script, as pyperf's manager and as its worker."""
    runner = pyperf.Runner(program_args=("-m", "loopmark.cell"), add_cmdline_args=_forward, min_time=MINIMUM_VALUE)
    _add_options(runner.argparser)
    args = runner.parse_args()
    try:
        _bench(runner, args)
    except LoopmarkError as error:
        print(f"loopmark.cell: {error}", file=sys.stderr)  # noqa: T201  # this is a script
        sys.exit(2)


def _bench(runner: pyperf.Runner, args: Namespace) -> None:
    known = registry()
    if not args.worker:
        _make_certificates(args, known)
    case, server, client = _tasks(args, known)
    metric = METRICS[args.metric]
    with contextlib.ExitStack() as stack:
        cell = _Cell(stack, server, client, metric)
        runner.bench_time_func(stored_name(case.name, metric), cell.take, inner_loops=case.minimum_loops)


class _Cell:
    """Starts the server in the worker only, and not before the first value is taken."""

    def __init__(self, stack: contextlib.ExitStack, server: Task, client: Task, metric: Metric) -> None:
        self._stack = stack
        self._server = server
        self._client = client
        self._metric = metric
        self._caller: Caller | None = None

    def take(self, loops: int) -> float:
        """Take one value; each of pyperf's loops stands for the fewest connections that a value may have."""
        if self._caller is None:
            handle: Handle = self._stack.enter_context(spawned(self._server))
            self._caller = Caller(self._client, handle)
            self._caller.prove(self._client.case.concurrency)
        value: Value = self._caller.time(loops * self._client.case.minimum_loops)
        return {
            Metric.WALL: value.wall,
            Metric.CLIENT_CPU: value.client_cpu,
            Metric.SERVER_CPU: value.server_cpu,
        }[self._metric]


def _add_options(parser: ArgumentParser) -> None:
    own = parser.add_argument_group("loopmark")
    own.add_argument("--contender", default="asyncio", metavar="NAME", help="who is measured (default: asyncio)")
    own.add_argument("--benchmark", default="tls_pingpong", metavar="NAME", help="default: tls_pingpong")
    own.add_argument("--concurrency", type=int, default=1, metavar="N", help="connections at a time (default: 1)")
    own.add_argument("--role", choices=[str(role) for role in ROLES], default="both", help="default: both")
    own.add_argument("--peer", default=PEERS[0], metavar="NAME", help=f"the other side (default: {PEERS[0]})")
    own.add_argument("--metric", choices=METRICS, default="wall", help="what is stored (default: wall)")
    own.add_argument("--certs", nargs=3, metavar=("CA", "CHAIN", "KEY"), help="PEM files; made on first use by default")


def _forward(command: list[str], args: Namespace) -> None:
    """Hand our options on to the workers, whose environment pyperf scrubs."""
    for name in ("contender", "benchmark", "concurrency", "role", "peer", "metric"):
        command += [f"--{name}", str(getattr(args, name))]
    if args.certs:
        command += ["--certs", *args.certs]


def _make_certificates(args: Namespace, known: Registry) -> None:
    """Make them in the manager: a process that is measured never imports what is needed for it."""
    if known.benchmark(args.benchmark).tls and not args.certs:
        from loopmark.certs import ensure  # noqa: PLC0415  # see above

        identity = ensure()
        args.certs = [str(identity.ca), str(identity.chain), str(identity.key)]


def _tasks(args: Namespace, known: Registry) -> tuple[Case, Task, Task]:
    """Return the case, and what server and client have to do. With --affinity both stay where pyperf puts them."""
    role, name, pair = Role(args.role), known.contender(args.contender).name, cores()
    if args.affinity:
        pair = None
    benchmark = known.benchmark(args.benchmark)
    _, colon, variant = args.benchmark.partition(":")
    case = cases_of(
        benchmark,
        variant if colon else next(iter(benchmark.conversations)),
        Axes(roles=(role,), concurrencies=(args.concurrency,)),
        peer=known.contender(args.peer).name,
        cores=len(set(pair)) if pair else 0,
    )[0]
    patience = deadlines(case.concurrency, case.tls.key if case.tls else None)
    options = replace(patience, go_ahead=benchmark.conversation(case.variant).go_ahead)
    client_core, server_core = pair or (None, None)
    if case.cores is Cores.SHARED:
        client_core = server_core
    identity = None
    if case.tls is not None and args.certs:
        ca, chain, key = map(Path, args.certs)
        identity = Identity(ca=ca, chain=chain, key=key)

    def task(contender: str, cpu: int | None) -> Task:
        return Task(
            contender=known.contender(contender),
            benchmark=known.benchmarks[case.benchmark],
            case=case,
            identity=identity,
            cpu=cpu,
            options=options,
        )

    server = args.peer if role is Role.CLIENT else name
    client = args.peer if role is Role.SERVER else name
    return case, task(server, server_core), task(client, client_core)


if __name__ == "__main__":
    main()
