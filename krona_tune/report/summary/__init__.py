"""Computes what the pages say from the records."""
