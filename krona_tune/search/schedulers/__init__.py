"""Which trials stop early: ASHA."""
