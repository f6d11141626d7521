"""Copies the trials to Weights & Biases."""
