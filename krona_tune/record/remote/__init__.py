"""Keeps studies at a URI: they run in a local folder, with a copy of it in an object store or on a server."""
