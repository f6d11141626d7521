"""Measures the search: strategies on tasks with known learning curves, so that the best adapter is known."""
