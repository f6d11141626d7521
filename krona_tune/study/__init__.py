"""What a study is: frozen, validated values; no torch."""
