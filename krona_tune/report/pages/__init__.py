"""Writes the pages: one study, several compared, and how values become HTML."""
