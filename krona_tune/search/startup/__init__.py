"""Makes a plan ready to run: starts Ray, loads the data, checks what could fail later, writes the folder."""
