"""What the terminal shows: the live view, the tables, other studies."""
