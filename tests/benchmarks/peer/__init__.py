"""Compares a study of krona_tune with what a careful user would write today with Ray Tune, transformers and PEFT."""
