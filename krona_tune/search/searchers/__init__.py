"""Chooses the next trial with Optuna and reports the results to it."""
