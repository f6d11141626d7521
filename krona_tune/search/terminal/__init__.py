"""Shows studies in the terminal: the live view, the tables, other studies."""
