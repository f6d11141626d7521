"""Serves studies to browsers and programs: a live page of each, REST, and orders to the studies that run."""

from krona_tune.service.client import Client

__all__ = ["Client"]
