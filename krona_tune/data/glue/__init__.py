"""GLUE's official files: where they are, how they are read, and how they become train, validation and test."""
