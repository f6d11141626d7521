"""Describes backbones in integers, and finds that by reading and testing a model."""
