"""Where results go: Parquet is the truth, MLflow its mirror."""
