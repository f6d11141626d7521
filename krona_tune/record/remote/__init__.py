"""Studies whose storage is a URI: worked on in a local folder, with a copy of it in an object store or on a server."""
