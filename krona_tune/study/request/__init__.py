"""Holds what study.yaml says, checked and frozen."""
