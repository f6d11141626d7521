"""A study of thousands of trials on dozens of workers, with nothing in it that trains."""
