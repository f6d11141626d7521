"""Runs a study on Ray."""
