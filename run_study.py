"""Runs a study: `python run_study.py --tasks glue`."""

from krona_tune.cli import end_process_after, run_study

if __name__ == "__main__":
    end_process_after(run_study)
