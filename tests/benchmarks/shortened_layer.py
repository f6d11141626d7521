"""Times trials of MiniLM whose last layer computes the first token alone, over trials that compute every token.

python -m tests.benchmarks.shortened_layer [TASK] [ROUNDS] [float32 | bfloat16]

The layers below the adapters are stored. Each round runs every case once; times are of the computing thread.
"""

import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from krona_tune.train import loop
from krona_tune.train.hidden_states import HiddenStateStore
from tests.benchmarks.kron.timing import conditions
from tests.benchmarks.stored_states import ADAPTER, mini_work, seconds

LAYERS = ("last 1", "last 2", "last 3", "last 4", "all")


@contextmanager
def every_token() -> Iterator[None]:
    """Lets trials compute every token of the last layer."""
    with patch.object(loop, "first_token_maps", lambda *_: {}):
        yield


def main(task: str = "rte", rounds: str = "3", precision: str = "bfloat16") -> None:
    """Prints, for each placement, the seconds of a trial that computes every token, and the other's share of them."""
    print(f"{conditions()}, {precision}, {task} of the miniature (synthetic), median of {rounds} rounds")
    work, backbone = mini_work(task, precision)
    with tempfile.TemporaryDirectory() as folder:
        store = HiddenStateStore(Path(folder), 10**9)
        for layers in LAYERS:
            knobs: dict[str, Any] = {**ADAPTER, "layers": layers}
            seconds(work, backbone, knobs, store)  # fills the store
            whole, shares = [], []
            for _ in range(int(rounds)):
                with every_token():
                    whole.append(seconds(work, backbone, knobs, store))
                shares.append(seconds(work, backbone, knobs, store) / whole[-1])
            print(f"{layers:7} {statistics.median(whole):6.2f} s, first token alone {statistics.median(shares):.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
