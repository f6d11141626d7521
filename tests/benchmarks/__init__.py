"""Measurements: what a choice moves, with numbers that anyone can get again."""
