"""Holds what a study is, as frozen, validated values. No torch."""
