"""The three standard streams, whatever whoever started us has done to them."""

import codecs
import io
import os
import sys


def prepare_streams() -> None:
    """Let the three streams exist, and write what their encoding lacks in another way.

    A number that is closed would be given to the next file or pipe, which a child would take for its standard error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    codecs.register_error("loopmark", _written_otherwise)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
        elif isinstance(stream, io.TextIOWrapper):
            # Who has no locale gets what Python itself has settled on for them: UTF-8.
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if ascii_only else None, errors="loopmark")


def drop_output() -> None:
    """Let what was printed and could not be written go nowhere, so that nobody complains at the very end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _written_otherwise(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write the bytes of file names as they were, and characters that an encoding lacks as escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)
