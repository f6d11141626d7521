"""Runs a study on Ray, which no other package imports."""
