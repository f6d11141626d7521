"""Loads, exports and uses an adapter after its training."""
