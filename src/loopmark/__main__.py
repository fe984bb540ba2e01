"""`python -m loopmark` is the command `loopmark`."""

import sys


def main() -> None:
    """Be the command `loopmark`, also for who interrupts it while it is still being imported."""
    try:
        from loopmark.cli import main as command  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.stderr.write("loopmark: interrupted\n")
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
