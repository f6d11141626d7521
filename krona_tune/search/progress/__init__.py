"""Says how far a study is: which trials it has left, and its state."""
