"""Imports into a worker, before its first trial, what trials need: torch, and much of its compiler for transformers.

The collector of garbage rests meanwhile: it would look for it among all that is imported, for a sixth of the time.
"""

import gc
from importlib import import_module

NEEDED = ("krona_tune.search.worker.trainable", "transformers.modeling_utils")

gc.disable()
try:
    for name in NEEDED:
        import_module(name)
finally:
    gc.freeze()  # what is imported is no garbage later either
    gc.enable()
