"""Studies as earlier versions left them: `format_N` holds what was written while the manifest's format was N."""
