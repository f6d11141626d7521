"""Holds the Kronecker mathematics: `factors` is integers only, `product` is the operator."""
