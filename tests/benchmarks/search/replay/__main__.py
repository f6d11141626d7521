"""Runs `python -m tests.benchmarks.search.replay`."""

from tests.benchmarks.search.replay.run import main

if __name__ == "__main__":
    main()
