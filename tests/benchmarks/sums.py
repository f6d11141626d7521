"""Shows that a study of a decoder finds an adapter that can do what the frozen model can't: carry in a sum.

    python -m tests.benchmarks.sums DIR

A tiny decoder is trained on sums of two numbers below 100 in which nothing is carried, three in ten of all. A study
then searches an adapter with examples of all sums. The decoder, its data and the study stay in DIR.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoTokenizer, LlamaForCausalLM

from tests.language_models import saved_language_model, sums, write_sums

SIZES: dict[str, Any] = {
    "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 24,
}  # fmt: skip
RUN = Path(__file__).parents[2] / "run_study.py"
STEPS, BATCH, RATE = 1500, 128, 2e-3
SPACE = """\
model: {folder}/decoder
tasks:
  sums:
    data: {folder}/sums.csv
    text: [a, b]
    target: sum
    prompt: "{{a}}+{{b}}="
    max_new_tokens: 5
    metric: exact_match
    split: {{validation: 500, test: 1000}}
adapter:
  method: krona
  roles: query+value+feed_forward_in+feed_forward_out
  a_out: [4, 8, 16, 32]
  a_in: [4, 8, 16, 32]
  terms: [1, 2, 4]
  scale: [1, 2, 4]
training:
  learning_rate: {{low: 1e-3, high: 3e-2, log: true}}
  batch_size: 32
  dropout: 0.0
examples: {{train: 3000, max_length: 16}}
schedule: {{epochs: 9, grace_epochs: 1, reduction: 3}}
search: {{trials: 16, max_params: 6000}}
finalists: {{top: 1, seeds: 3}}
"""


def carries(row: dict[str, str]) -> bool:
    """Returns whether the digits of the two numbers add up to more than nine anywhere."""
    a, b = int(row["a"]), int(row["b"])
    return a % 10 + b % 10 > 9 or a // 10 + b // 10 > 9


def train_decoder(folder: Path) -> None:
    """Writes a decoder that knows the sums without a carry."""
    saved_language_model(folder, "llama", **SIZES)
    model, tokenizer = LlamaForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    plain = [row for row in sums(10_000, seed=0) if not carries(row)]
    ids, labels = encoded(plain, tokenizer)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    draw = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        rows = torch.randint(len(ids), (BATCH,), generator=draw)
        logits = model(input_ids=ids[rows]).logits[:, :-1]
        loss = functional.cross_entropy(logits.transpose(1, 2), labels[rows][:, 1:])
        torch.autograd.backward(loss)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        if step % 250 == 0 or step == STEPS - 1:
            print(f"decoder, step {step}: loss {loss.item():.3f}", flush=True)
    model.save_pretrained(folder)


def encoded(rows: list[dict[str, str]], tokenizer: AutoTokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns sums as token ids, padded, and the same with the prompts left out of the loss."""
    whole = tokenizer([f"{row['a']}+{row['b']}= {row['sum']}</s>" for row in rows], padding=True, return_tensors="pt")
    lengths = torch.tensor([len(f"{row['a']}+{row['b']}=") for row in rows])
    prompt = torch.arange(whole.input_ids.shape[1]) < lengths[:, None]
    return whole.input_ids, whole.input_ids.masked_fill(prompt | (whole.attention_mask == 0), -100)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "decoder").exists():
        train_decoder(folder / "decoder")
    rows = write_sums(folder / "sums.csv", sums(4500, seed=1))
    space = folder / "sums.yaml"
    space.write_text(SPACE.format(folder=folder.resolve()), encoding="utf-8")
    print(f"{rows}: {sum(map(carries, sums(4500, seed=1))) / 4500:.0%} of the sums carry", flush=True)
    words = ["--space", str(space), "--storage", str(folder / "studies"), "--name", "sums"]
    subprocess.run([sys.executable, str(RUN), *words], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
