"""`python -m spcli` is the `spcli` command."""

from spcli.cli.main import main

if __name__ == "__main__":
    main()
