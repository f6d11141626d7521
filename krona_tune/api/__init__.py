"""A study from Python; the command line calls the same."""
