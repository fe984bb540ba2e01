"""The command line. Exit status: 0 done, 1 an untrusted result or a failed gate, 2 wrong usage, 130 interrupted."""

import signal
import sys
from types import FrameType
from typing import Any

import click

from loopmark import __version__
from loopmark.cli.streams import drop_output, prepare_streams
from loopmark.errors import LoopmarkError, TrafficError

EPILOG = """\b
Examples:
  loopmark list
  loopmark run
  loopmark run -b asyncio,uvloop -c 1,100 --fast
  loopmark compare results/20261120T091500Z-my-machine

\b
Completion: eval "$(_LOOPMARK_COMPLETE=bash_source loopmark)"   (or zsh_source, fish_source)
"""

USAGE, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


HELP = {"help_option_names": ["-h", "--help"]}


class _Command(click.Command):
    """Has the same options for help wherever it is run from: click keeps those of the first time."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **{**options, "context_settings": HELP | (options.get("context_settings") or {})})


class _Commands(click.Group):
    command_class = _Command


@click.group(cls=_Commands, epilog=EPILOG, context_settings=HELP)
@click.version_option(__version__, prog_name="loopmark")
def cli() -> None:
    """Compare event loops by giving every one of them the same, proven work."""


def main() -> None:
    """Be the command `loopmark`."""
    if sys.platform == "win32":
        sys.exit(_complain("Windows is not supported: run loopmark on Linux or macOS, or in WSL."))
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # nohup
            signal.signal(ending, _terminate)
    try:
        prepare_streams()
        # Imported late, because not all of it can be imported on Windows, and because an interrupt may come meanwhile.
        from loopmark.cli import (  # noqa: PLC0415
            drive,  # noqa: F401
            inspection,  # noqa: F401
            matrix,  # noqa: F401
            measuring,  # noqa: F401
            profile,  # noqa: F401
            publish,  # noqa: F401
            serve,  # noqa: F401
            setup,  # noqa: F401
        )

        status = cli.main(prog_name="loopmark", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        status = USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "loopmark"
        status = _complain(f"{error.format_message().rstrip('.')} (see {path} --help)")
    except click.ClickException as error:
        status = _complain(error.format_message())
    except TrafficError as error:
        # Nothing is wrong with what was typed.
        status = _complain(str(error), 1)
    except LoopmarkError as error:
        status = _complain(str(error))
    except (KeyboardInterrupt, click.Abort):
        status = _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe has gone; there is nobody left to tell.
        drop_output()
        status = BROKEN_PIPE
    except OSError as error:
        # A full disk behind standard output, or a system that gives no more processes or files.
        drop_output()
        status = _complain(f"the system refuses: {error}", 1)
    sys.exit(status)


def _complain(text: str, status: int = USAGE) -> int:
    # One line, whatever others have put into their exceptions.
    click.echo(f"loopmark: {' '.join(text.split())}", err=True)
    return status


def _terminate(number: int, frame: FrameType | None) -> None:
    """End as on Ctrl-C, so that everything that was started is ended, too; loops have their own way to do that."""
    del number, frame
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)
