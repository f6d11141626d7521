"""Reports what a study found, from its records alone."""
