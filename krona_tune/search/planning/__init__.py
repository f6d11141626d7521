"""Makes the plan and the space of a study, without Ray, Optuna or torch."""
