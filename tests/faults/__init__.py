"""Causes in real studies the faults that a cluster causes."""
