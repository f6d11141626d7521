"""The rule that ASHA judges by, where Ray's own scheduler can't be asked."""

from collections.abc import Sequence

import numpy as np


def goes_on(score: float, rivals: Sequence[float], reduction: float) -> bool:
    """Whether a score is in the upper 1/η of those that came as far before it; the first one always is."""
    return not rivals or bool(score >= np.percentile(rivals, 100 * (1 - 1 / reduction)))
