"""Records the learning curves of a design on real GLUE, which the replays of searches are made of."""
