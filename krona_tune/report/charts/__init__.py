"""The charts of a page, each a figure of its own."""
