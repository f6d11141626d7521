"""Chooses how Σ A⊗B is applied, by one rule over integers and precision. tests/benchmarks/LOG.md has the costs."""

from dataclasses import dataclass

import torch

from krona_tune.kron.factors import FactorShape

FULL = frozenset({torch.float32, torch.float64})
"""Precisions in which W + s·ΣA⊗B keeps a small adapter; in the others it would be rounded away."""

LOW_FORMED = 1024
"""Up to this d_out·d_in / (d_out + d_in), low precision multiplies a formed product faster than it moves the
activations that the factors need between their two products."""

SUM_FORMED = 0.4
"""From this share of d_out·d_in on, the gradients of a sum cost more by its factors than by the formed dyᵀx: each term
adds narrow products. One term costs less for the same count, and is formed from a share of 1."""

CHUNK = {"cpu": 3 << 15}
"""How many activations are processed at a time, so that the intermediate results stay in a core's cache. Other devices
process all at once."""


@dataclass(frozen=True, kw_only=True)
class Path:
    """How one application of Σ A⊗B is computed.

    `formed`: y and dx come from one product with a formed matrix, W + s·ΣA⊗B where `folded`, else from the factors.
    `formed_gradient`: dA and dB are read from the formed dyᵀx, else contracted with the factors.
    """

    formed: bool
    folded: bool
    formed_gradient: bool


def path(shape: FactorShape, tokens: int, dtype: torch.dtype, weight: torch.dtype | None) -> Path:
    """The path for `tokens` inputs in precision `dtype` beside a weight of that dtype, or beside none.

    By counting, y or dx from the factors costs `shape.multiply_adds` a token, and dA with dB twice that; from a
    formed matrix each of them costs d_out·d_in.
    """
    dense = shape.d_out * shape.d_in
    crowded = tokens * (shape.d_out + shape.d_in) >= dense  # forming is no more work than reading x and writing y
    if dtype in FULL:
        folded = crowded and weight in FULL
        most = dense if shape.terms == 1 else SUM_FORMED * dense
        return Path(formed=folded, folded=folded, formed_gradient=2 * shape.multiply_adds >= most)
    formed = crowded and dense <= LOW_FORMED * (shape.d_out + shape.d_in)
    return Path(formed=formed, folded=False, formed_gradient=formed)


def chunk_tokens(shape: FactorShape, device: str) -> int | None:
    """How many tokens to contract at a time, or None for all."""
    numbers = CHUNK.get(device)
    return None if numbers is None else max(1, numbers // max(shape.d_out, shape.d_in, shape.between))
