"""An adapter in files: what is written, the cards beside it, and the forms that it is exported in."""
