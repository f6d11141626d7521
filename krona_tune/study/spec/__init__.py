"""What study.yaml says, checked and frozen."""
