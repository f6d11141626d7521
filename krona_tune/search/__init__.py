"""The only rooms that know Ray and Optuna."""
