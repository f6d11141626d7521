"""Holds the GLUE tasks: their table, metrics, data, the generated miniature and batches."""
