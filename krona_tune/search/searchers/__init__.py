"""Which trial comes next: Optuna, asked and told."""
