"""Holds the tasks and their examples: GLUE, its generated miniature and one's own data, with metrics and batches."""
