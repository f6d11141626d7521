"""How well the search searches: strategies on tasks whose learning curves, and so whose best adapters, are known."""
