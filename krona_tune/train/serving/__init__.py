"""What happens to an adapter after its training: loading, exporting, predicting."""
