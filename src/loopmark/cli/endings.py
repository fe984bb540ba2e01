"""How a campaign obeys Ctrl-C, and whatever else wants it to end."""

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from types import FrameType

DEAF_SECONDS = 2.0
"""How long after an interrupt another one is ignored."""


@contextlib.contextmanager
def endings_once() -> Iterator[None]:
    """Let the first Ctrl-C be obeyed in peace: those that follow within `DEAF_SECONDS` do nothing.

    What it begins, ending processes and saving, takes less than a second; one that gets stuck can be interrupted again.
    """
    heard = -math.inf

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        del number, frame
        now = time.monotonic()
        if now - heard >= DEAF_SECONDS:
            heard = now
            raise KeyboardInterrupt

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    obeyed = [each for each, handler in before.items() if handler is not signal.SIG_IGN]  # nohup, background jobs
    for each in obeyed:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        # Else the rest of the way out could still be interrupted.
        if time.monotonic() - heard >= DEAF_SECONDS:
            for each in obeyed:
                signal.signal(each, before[each])
