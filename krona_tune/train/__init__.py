"""One trial in one process: torch and transformers only."""
