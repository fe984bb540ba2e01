"""Imported by every interpreter that has this directory on PYTHONPATH: changes what a study wants changed."""

import gc
import importlib
import os

if os.environ.get("LOOPMARK_STUDY") == "preload":
    for library in ("uvloop", "trio", "anyio._backends._asyncio", "anyio._backends._trio"):
        importlib.import_module(library)
if os.environ.get("LOOPMARK_STUDY") == "no-gc":
    gc.disable()
if os.environ.get("LOOPMARK_STUDY") == "whole-values":
    processes = importlib.import_module("loopmark.processes")
    # Of those that cannot be stopped each takes its values alone.
    processes.ArmProcesses.can_pause = property(lambda _: False)
