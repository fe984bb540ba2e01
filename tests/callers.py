"""Clients that call a server in a fresh process, from the test's own or from another one; servers that miscount."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from loopmark.caller import Caller
from loopmark.case import Benchmark, Case
from loopmark.peer import Handle, spawned
from loopmark.registry import Contender, registry
from loopmark.spi import Options
from loopmark.task import Order, Task, to_json
from loopmark.tls import Identity


def task_of(case: Case, contender: str | Contender = "blocking", identity: Identity | None = None) -> Task:
    known = registry()
    benchmark: Benchmark = known.benchmark(case.benchmark)
    return Task(
        contender=known.contender(contender) if isinstance(contender, str) else contender,
        benchmark=known.benchmarks[case.benchmark],
        case=case,
        identity=identity,
        options=Options(go_ahead=benchmark.conversation(case.variant).go_ahead),
    )


@contextmanager
def calling(task: Task, server: Task | None = None) -> Iterator[Caller]:
    with spawned(server or task) as handle:
        yield Caller(task, handle)


def order_of(task: Task, **changes: Any) -> Order:
    order = Order(arm="arm", server=task, client=task, loops=6, warmups=1, values=2, at_once=task.case.concurrency)
    return replace(order, **changes)


def in_process(order: Order, *, turns: int = 10, status: int = 0) -> list[dict[str, Any]]:
    """Fulfil an order in a process of its own, since pyperf allows one runner in each; return what it tells."""
    done = subprocess.run(
        [sys.executable, "-m", "loopmark.caller", to_json(order), str(os.getpid())],
        input="." * turns,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


class Doctored:
    """A server whose answers to `counts` are changed from the `first`-th on."""

    def __init__(self, real: Handle, change: dict[str, int], first: int) -> None:
        self._real = real
        self._change = change
        self._left = first
        self.counted = real.counted
        self.pid = real.pid

    def ask(self, question: str) -> dict[str, Any]:
        answer = self._real.ask(question)
        self._left -= 1
        if self._left >= 0:
            return answer
        return answer | {name: answer[name] + more for name, more in self._change.items()}
