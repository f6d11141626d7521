"""Records results: the Parquet files are authoritative, MLflow holds a copy."""
