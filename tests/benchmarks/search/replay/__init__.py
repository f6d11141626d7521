"""Replays whole studies on recorded learning curves, to compare searches at equal cost."""
