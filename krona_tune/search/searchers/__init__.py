"""Chooses the next trial, reports its results to Optuna, and decides with ASHA which trials stop early."""
