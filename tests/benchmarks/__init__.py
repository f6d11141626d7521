"""Measurements that show what a choice changes, with numbers that anyone can reproduce."""
