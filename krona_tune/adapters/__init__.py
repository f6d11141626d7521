"""Holds every adaptation method: where it is placed, how it enters a model and how it is removed."""
