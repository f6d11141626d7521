"""Runs a study: `python run_study.py --tasks glue`."""

from krona_tune.cli import run_study

if __name__ == "__main__":
    run_study()
