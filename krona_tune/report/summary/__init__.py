"""What the pages say, computed from the records."""
