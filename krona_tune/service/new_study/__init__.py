"""Begins studies from the page: what a form offers, what a person chooses there, and the request that this makes."""
