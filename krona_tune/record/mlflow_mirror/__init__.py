"""Copies the records to MLflow."""
