"""Computes what a study may use and what it will need."""
