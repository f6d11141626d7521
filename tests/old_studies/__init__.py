"""Studies that earlier versions wrote: `format_N` holds what was written with the manifest's format N."""
