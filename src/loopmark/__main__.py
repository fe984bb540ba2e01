"""`python -m loopmark` is the command `loopmark`."""

from loopmark.cli import main

if __name__ == "__main__":
    main()
