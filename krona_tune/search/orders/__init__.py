"""Carries out the orders that people give to a running study."""
