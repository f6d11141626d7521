"""Decides with ASHA which trials stop early."""
