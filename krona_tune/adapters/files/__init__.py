"""Reads and writes an adapter as files: its tensors, the cards beside them, and the forms that it is exported in."""
