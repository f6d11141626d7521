"""What will run: the plan and the space. No Ray, Optuna or torch."""
