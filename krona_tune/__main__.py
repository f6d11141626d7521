"""Runs `python -m krona_tune`, which is the program `krona-tune`."""

from krona_tune.cli import program

if __name__ == "__main__":
    program()
