"""Lets Python plan, run and read a study; the command line calls the same."""
