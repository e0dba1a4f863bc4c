"""`python -m engram`: the command line."""

from engram.sweeps.commands.line import main

if __name__ == "__main__":
    raise SystemExit(main())
