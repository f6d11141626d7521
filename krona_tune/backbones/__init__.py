"""The geometry of a backbone, in integers: families that are known by name."""
