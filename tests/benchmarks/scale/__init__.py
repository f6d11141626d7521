"""Simulates a study of thousands of trials on dozens of workers, without training."""
