"""Measures what the Kronecker operator costs beside a frozen map, and in a training step of a whole model."""
