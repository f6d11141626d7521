"""What a study found, read from its records alone."""
