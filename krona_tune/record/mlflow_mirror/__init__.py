"""A copy of the records in MLflow."""
