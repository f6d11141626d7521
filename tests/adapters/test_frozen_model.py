"""Tests that a fingerprint changes with the weights, but not with the dtype."""

import pytest
import torch

from krona_tune.adapters.frozen_model import SAMPLE, fingerprint, part_fingerprints
from krona_tune.adapters.inject import Adapters
from tests.models import CONFIGS, build, of_each_kind
from tests.trained_adapters import shaped, trained


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_weights_have_one_fingerprint_in_float32_and_bfloat16_and_none_in_float16(name: str) -> None:
    shape, model, base = build(name)
    found = fingerprint(base, shape)
    assert found is not None
    assert len(found) == 64
    assert fingerprint(build(name)[2], shape) == found
    model.bfloat16()
    assert fingerprint(base, shape) == found
    model.float()  # stored in bfloat16, computed in float32
    assert fingerprint(base, shape) == found
    model.half()
    assert fingerprint(base, shape) is None


@pytest.mark.parametrize("name", ["t5", "distilbert", "deberta"])
def test_every_adaptable_weight_counts(name: str) -> None:
    shape, _, base = build(name)
    found = {fingerprint(base, shape)}
    weights = {site.name: base.get_submodule(site.name) for site in shape.sites if site.role != "feed_forward"}
    with torch.no_grad():
        for count, linear in enumerate(weights.values(), start=2):
            linear.weight[-1] += 1.0
            found.add(fingerprint(base, shape))
            assert len(found) == count


@pytest.mark.parametrize("name", of_each_kind())
def test_every_other_weight_counts_in_its_part_in_float32_and_bfloat16(name: str) -> None:
    shape, model, base = build(name)
    found = part_fingerprints(base, shape, model)
    maps = {f"{site.name}.weight" for site in shape.sites}
    with torch.no_grad():
        for key, weight in base.named_parameters():
            before = weight[-1].clone()
            weight[-1] += 1.0
            now = part_fingerprints(base, shape, model)
            assert [part for part in found if now[part] != found[part]] == [key.split(".")[0]] * (key not in maps)
            weight[-1] = before
    if not shape.text_to_text:  # its head is drawn
        model.get_parameter(list(dict(model.named_parameters()))[-1]).data.add_(1.0)
    model.bfloat16()
    assert part_fingerprints(base, shape, model) == found
    assert part_fingerprints(base, shape, base) == found
    model.half()
    assert part_fingerprints(base, shape, model) == {}


def test_a_fully_trained_copy_has_another_and_a_standing_adapter_does_not_matter() -> None:
    shape, _, base = build("bert")
    before = fingerprint(base, shape)
    with trained(Adapters(base, shape, shaped(shape, "krona", layer_norms=True), torch.Generator())):
        assert fingerprint(base, shape) == before
    with trained(Adapters(base, shape, shaped(shape, "full"), torch.Generator())):
        assert fingerprint(base, shape) != before
    assert fingerprint(base, shape) == before


def test_a_large_weight_is_sampled_in_all_its_columns() -> None:
    shape, _, base = build("bert")
    site = shape.sites[0]
    large = torch.nn.Linear(512, 1024, bias=False)
    base.set_submodule(site.name, large)
    found = fingerprint(base, shape)
    stride = large.weight.numel() // SAMPLE | 1
    assert {int(i) % 512 for i in range(0, large.weight.numel(), stride)} == set(range(512))
    with torch.no_grad():
        large.weight.mul_(1.01)
    assert fingerprint(base, shape) != found


def test_weights_that_are_not_there_have_none() -> None:
    shape, _, base = build("bert", device="meta")
    assert fingerprint(base, shape) is None
