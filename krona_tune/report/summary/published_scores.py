"""Holds what Edalati et al. report for T5-base: the measurements of others, to compare with ours, never as ours."""

from collections.abc import Mapping
from types import MappingProxyType

from krona_tune.study.manifest import Manifest

SOURCE = "reported by Edalati et al. (arXiv 2212.10650), as transcribed"

GLUE_AVERAGE: Mapping[str, float] = MappingProxyType(
    {
        "full": 85.65,
        "bitfit": 84.17,
        "adapter": 85.30,
        "lora": 85.73,
        "compacter": 85.82,
        "parallel_adapter": 85.86,
        "krona": 86.14,
        "krona_b": 86.28,
        "krona_b_res": 86.57,
    }
)
"""The average over GLUE with T5-base, in points (hundredths), by method; from notes that transcribe the table."""


def reported(manifest: Manifest) -> Mapping[str, float]:
    """Returns the reported averages if a study is comparable with them: T5-base on real data; else nothing."""
    name = manifest.model.name.rstrip("/").rsplit("/", maxsplit=1)[-1].lower()
    comparable = name == "t5-base" and manifest.model.model_type == "t5" and not manifest.synthetic
    return GLUE_AVERAGE if comparable else {}
