"""Trains one trial in one process, with torch and transformers only."""
