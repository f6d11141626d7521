"""Describes backbones in integers, for the families that are known by name."""
