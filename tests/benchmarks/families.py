"""Prints what introspection finds in each family at its library's default size: python -m tests.benchmarks.families"""

import sys
import time

import transformers

from krona_tune.backbones.geometry import Geometry, Role
from krona_tune.backbones.introspect import introspect
from krona_tune.refusal import Refusal

FAMILIES = (
    *("bert", "roberta", "distilbert", "albert", "electra", "deberta-v2", "mpnet", "modernbert", "eurobert"),
    *("t5", "mt5", "bart", "llama", "mistral", "qwen2", "qwen3", "gemma", "phi3", "opt", "gpt2", "gpt_neox"),
    *("mixtral", "deepseek_v3", "gpt_oss", "falcon", "bloom", "mamba", "jamba", "qwen2_vl"),
)
RELATIVE = {"deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}}


def row(model_type: str) -> str:
    """Returns a line of the table."""
    began = time.perf_counter()
    try:
        shape = introspect({"model_type": model_type, **RELATIVE.get(model_type, {})}, model_type)
    except Refusal as refusal:
        return f"| {model_type} | refused: {refusal.problem} | | | |"
    seconds = time.perf_counter() - began
    depths = ", ".join(f"{depth} {stack}" for stack, depth in shape.depths.items())
    used = f" × {shape.uses}" if shape.uses > 1 else ""
    left = ", ".join(each.name for each in shape.left_out) or "-"
    return f"| {model_type} | {shape.parameters:,} | {depths}{used} | {roles(shape)} | {left} | {seconds:.1f} |"


def roles(shape: Geometry) -> str:
    """Returns the roles of the last layer's maps, with the number of maps where there are several of a role."""
    last = [site for site in shape.sites if site.layer_name == shape.sites[-1].layer_name]
    counted = {role: sum(site.role is role for site in last) for role in Role if role is not Role.FEED_FORWARD}
    fused = " (fused)" if any(site.rows for site in last) else ""
    return ", ".join(f"{role}{f' {n}' if n > 1 else ''}" for role, n in counted.items() if n) + fused


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    introspect({"model_type": "bert"}, "warm")
    print("| type | parameters | layers | roles | left out | seconds |\n|---|---|---|---|---|---|")
    for each in sys.argv[1:] or FAMILIES:
        print(row(each), flush=True)
