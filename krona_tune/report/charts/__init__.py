"""Draws the charts of a page, each as a figure of its own."""
