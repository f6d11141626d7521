"""Runs what the documentation shows, and builds it."""
