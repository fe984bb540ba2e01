"""One interpreter per block. Both processes of every arm are forked from it, and so share one random memory layout.

`python -m loopmark.block PARENT_PID` reads commands, one JSON line each, and answers each with one line: `start` an
arm, let arms take a value each in a `round`, `finish` an arm. All arms of a block may be alive at once; only one of
them does anything at a time.

In a round all arms take their values at the same time, in slices: one runs, the others are stopped (SIGSTOP), and after
a few milliseconds it is the next one's turn. What neighbours do to a shared machine comes and goes in tenths of a
second, and so meets all arms alike. The interpreter imports what every arm needs anyway and nothing else: no event loop
runs here, and no thread.
"""

import asyncio  # noqa: F401  # preloaded for all, as a part of the standard library
import gc
import json
import ssl  # noqa: F401  # preloaded for all
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pyperf._collect_metadata import collect_metadata

from loopmark import network
from loopmark.errors import LoopmarkError
from loopmark.peer import die_with_parent
from loopmark.processes import SLICE, ArmProcesses
from loopmark.task import Order, order_from


def _main() -> None:
    die_with_parent(int(sys.argv[1]))
    # pyperf asks the system many questions when its first run is stored; most answers are kept.
    collect_metadata()
    gc.collect()
    gc.freeze()
    block = Block()
    _tell("ready")
    for line in sys.stdin:
        _tell(json.dumps(block.obey(json.loads(line))))


def _tell(line: str) -> None:
    """Write a line to the scheduler. One that was interrupted reads no more: then this process ends, without a word."""
    try:
        print(line, flush=True)  # noqa: T201  # the protocol with the scheduler
    except BrokenPipeError:
        # The arms have their own pipes to this process and end with it; what is still buffered has no reader.
        sys.stdout = None
        sys.exit()


class Block:
    """The arms of a block that are alive, by label."""

    def __init__(self) -> None:
        self._arms: dict[str, ArmProcesses] = {}
        self._link: network.Link | None = None

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do one command; the answer is what the arm's client tells, or `{"error": sentence}`: the arm is gone then.

        To a round it is one such answer for each arm, by label.
        """
        match command:
            case {"start": text}:
                return self._start(order_from(text))
            case {"round": labels}:
                return self._round([self._arms[label] for label in labels])
            case {"finish": label}:
                arm = self._arms[label]
                arm.go()
                answer = self._hear(arm)
                if "error" not in answer:
                    self._drop(arm)
                return answer
        raise ValueError(f"no such command: {command}")

    def _start(self, order: Order) -> dict[str, Any]:
        start = time.monotonic()
        try:
            order = self._apart(order)
        except LoopmarkError as error:
            return {"error": str(error), "seconds": time.monotonic() - start}
        arm = ArmProcesses(order, others=list(self._arms.values()))
        arm.seconds += time.monotonic() - start
        arm.link = self._link.kind if self._link and order.client.namespace else None
        self._arms[arm.label] = arm
        answer = self._hear(arm)
        arm.serving = answer.pop("serving", None)
        return answer

    def _round(self, arms: Sequence[ArmProcesses]) -> dict[str, Any]:
        """Let each take a value: together, in slices, those that can be stopped, and the others one after the other."""
        together = [arm for arm in arms if arm.can_pause] if len(arms) > 1 else []
        answers: dict[str, Any] = {}
        for arm in arms:
            if arm not in together:
                arm.go()
                answers[arm.label] = self._hear(arm)
            elif arm is together[0]:
                answers |= self._slices(together)
        return answers

    def _slices(self, arms: Sequence[ArmProcesses]) -> dict[str, Any]:
        answers: dict[str, Any] = {}
        for arm in arms:
            arm.pause()
            arm.is_sliced = True
            arm.go()
        while running := [arm for arm in arms if arm.label not in answers]:
            for arm in running:
                arm.resume()
                answer = self._hear(arm, SLICE)
                if answer:
                    answers[arm.label] = answer
                else:
                    arm.pause()
        return answers

    def _hear(self, arm: ArmProcesses, seconds: float | None = None) -> dict[str, Any]:
        """Return what an arm's client tells, nothing if it has not in so many seconds; who tells a failure is gone."""
        start = time.monotonic()
        answer = arm.listen([log for each in self._arms.values() for log in each.logs.values()], seconds)
        arm.seconds += time.monotonic() - start
        if not answer:
            return answer
        if arm.link is not None and isinstance(answer.get("facts"), dict):
            answer["facts"]["equal"]["link"] = arm.link
        if arm.is_sliced and "metadata" in answer:
            answer["metadata"]["slice"] = SLICE
        if "error" in answer:
            self._drop(arm)
        return {**answer, "seconds": arm.seconds}

    def _drop(self, arm: ArmProcesses) -> None:
        del self._arms[arm.label]
        arm.end()

    def _apart(self, order: Order) -> Order:
        """Put the two sides of an arm into the network that its case wants, the same one for all arms of the block."""
        rtt = order.client.case.rtt
        if rtt is None or order.floor:
            return order
        if self._link is None:
            # Left to itself: it ends with this process.
            self._link = network.Link(rtt).__enter__()
        return replace(
            order,
            server=replace(order.server, namespace=self._link.server, host=network.SERVER),
            client=replace(order.client, namespace=self._link.client),
        )


if __name__ == "__main__":
    _main()
