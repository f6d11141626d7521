"""Holds the methods: a table of what each one counts and reads, and the module of each."""
