"""Makes a plan ready to run: starts Ray, loads the data, writes the folder."""
