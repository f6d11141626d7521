"""The queue: studies that wait for their share of one cluster, and the drivers that run them."""
