"""Runs trials in the worker processes."""
