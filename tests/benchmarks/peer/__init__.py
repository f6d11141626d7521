"""A study of krona_tune against what a careful user would write today with Ray Tune, transformers and PEFT."""
