"""``python -m redismr``: the command line."""

from redismr.cli import main

if __name__ == "__main__":
    main()
