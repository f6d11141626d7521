"""Finds the geometry of any transformers model by reading and testing it. Needs torch and transformers."""
