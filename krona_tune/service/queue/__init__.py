"""Queues studies that wait for their share of one cluster, and starts the drivers that run them."""
