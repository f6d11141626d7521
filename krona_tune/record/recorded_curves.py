"""Gives the recorded learning curves of Kronecker adapters on real tasks, as they come with the package. No torch."""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.refusal import Refusal
from krona_tune.refused_calls import refusing_at_the_caller

if TYPE_CHECKING:
    import pandas as pd

    from krona_tune.backbones.geometry import Geometry

FOLDER = Path(__file__).parent / "curves"
"""The folder with a Parquet file per recorded block, and a README that describes columns and recording."""
LEARNED = {
    "newsgroups": "5b5c147a60c25d5283977dad3faaafa6e905a9fcf6acb2f87683f0bad6d4e7e3",
    "reuters": "d5f1449632223d78e1f478f3a211aad4732d76f76b402c56bcaf66723e1ee389",
    "sst2": "99bb7be42ba21cb0e5d7cbff80d24eb28fb0fc1200e7254abf826a88764bb343",
    "stsb": "e50f94e55fe1d1ed239f5e403747d51109741ced0b6cb10110c6f553b394af03",
}
"""The tasks that the backbone learns from these examples, with `TaskData.contents` of each; the others are controls."""
HARDLY_LEARNED = {
    "cola": "0633576bb3827e8cb648baf480a874d56e59ffb49917766fd162b239daf09011",
    "mrpc": "e7e9ba8f843d2e787b929be224a24cde8d682cad98e03091bcf296ab99d5e57f",
    "rte": "514494e0f96a2f2da64845dd580c9c9aab6aa1518a46e512bbb030472e9698a2",
    "wnli": "96aa3b114a9b4c0bc40485d7f5c9f86e60a91e0ae1ebe96861eff12dff76c001",
}
"""The controls, with the same hash of each."""
SCORED_BY = {
    **dict.fromkeys(("newsgroups", "sst2", "rte", "wnli"), ("accuracy",)), "reuters": ("macro_f1",),
    "stsb": ("pearson", "spearman"), "cola": ("matthews",), "mrpc": ("accuracy", "f1"),
}  # fmt: skip
"""The metrics of which a recorded score is the mean."""
CONSTANT = {"newsgroups": 0.0425, "reuters": 0.0889694041867955, "sst2": 0.565, "stsb": 0.0}
"""The validation score of the best constant answer on each of these tasks; their best possible score is 1."""
BACKBONE = {
    "model_type": "bert", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6,
    "num_attention_heads": 12, "max_position_embeddings": 512, "type_vocab_size": 2, "vocab_size": 30522,
}  # fmt: skip
"""The config of the backbone that carried the adapters, the packaged MiniLM's."""
LOST_ON_OWN = {5: ".30", 10: ".55", 20: ".71"}
"""After how many trainings a search that the other recorded tasks taught lost which share of what random draws with
ASHA lose, at equal cost (`tests.benchmarks.search.tabular`)."""
FIRST_LOST, DRAW_LOST = ".003 to .023", ".044 to .152"
"""Say how much score the first taught point lost, and how much an even draw, against the best of 17 trainings. They are
means over tasks that taught nothing, on three other backbones, in the space that is made for each
(`tests.benchmarks.search.live_points`)."""


COLUMNS = (
    "task", "kind", "number", "seed", "status", "epochs", "examples", "step", "score", "train_loss", "a_out", "a_in",
    "terms", "scaling", "scale", "roles", "layers", "layer_norms", "learning_rate", "batch_size", "dropout", "warmup",
)  # fmt: skip
"""The columns that a new study reads."""


def is_recorded_backbone(geometry: "Geometry") -> bool:
    """Returns whether a backbone is of the kind, width and depth of the one that carried the recorded adapters."""
    config = (BACKBONE["model_type"], BACKBONE["hidden_size"], BACKBONE["num_hidden_layers"])
    return (geometry.model_type, geometry.width, sum(geometry.depths.values())) == config


@refusing_at_the_caller
def curves() -> "pd.DataFrame":
    """Returns the recorded learning curves: one row per report of a trial; a trial without a report has one row.

    `kind` is "search" for a point of the design, "repeat" for one of its first points with another seed, "baseline" for
    the head alone; point `number` is the same on every task. The README beside the files describes the other columns::

        frame = krona_tune.curves()
        last = frame[(frame.kind == "search") & (frame.epochs == 9)]
        last.pivot(index="number", columns="task", values="score").corr("spearman")

    Raises:
        FileNotFoundError: the package was installed without the files.
        Refusal: a file has other columns, as another version has written it.
    """
    frame: pd.DataFrame = curve_table().to_pandas()
    return frame


def curve_table() -> pa.Table:
    """Returns what `curves` returns, as a table of Arrow; raises the same errors."""
    paths = sorted(FOLDER.glob("*.parquet"))
    if not paths:
        raise FileNotFoundError(f"no recorded curves in {FOLDER}")
    return pa.concat_tables(map(_read, paths), promote_options="permissive").replace_schema_metadata()


def _read(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:  # read_table imports pandas
        found = file.read()
    if lacking := [name for name in COLUMNS if name not in found.column_names]:
        problem = f"are no learning curves of this version: no column {lacking[0]}"
        raise Refusal(str(path), problem, "install krona_tune again, or write --warm-start none")
    return found
