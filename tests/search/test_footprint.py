"""Tests that memory is computed from sizes: longer texts, more bytes a number and kept layers take more."""

from dataclasses import replace

import pytest

from krona_tune.data.tasks import Generation
from krona_tune.search.planning.footprint import PROCESS_BYTES, checkpoints_of, footprint, largest_points
from krona_tune.study.request.domain import Choice, Fixed
from tests.search.plans import plan


def test_a_worker_holds_the_weights_and_what_its_steps_keep() -> None:
    asked = plan()
    small, long, wide = (footprint(asked, *sizes) for sizes in ((16, 2), (32, 2), (16, 4)))
    assert small.weights == 2 * asked.geometry.parameters
    assert wide.weights == 2 * small.weights
    assert PROCESS_BYTES + small.weights < small.worker < long.worker
    assert small.params in largest_points(asked.space)


def test_the_most_memory_is_that_of_the_method_which_keeps_the_most_of_a_batch() -> None:
    """The larger adapter computes its batch in parts."""
    asked = plan()
    knobs = {method: {**own, "learning_rate": Fixed(1e-3)} for method, own in asked.space.knobs.items()}
    parts = {name: {**own, "accumulation": Fixed(32 if name == "krona" else 1)} for name, own in knobs.items()}
    both = replace(asked, space=replace(asked.space, knobs=parts))
    alone = replace(asked, space=replace(asked.space.of("lora"), knobs={"lora": parts["lora"]}))
    sizes = {point["method"]: asked.space.parameters(point) for point in largest_points(both.space)}
    assert sizes["krona"] > sizes["lora"]
    assert footprint(both, 512, 4).worker >= footprint(alone, 512, 4).worker
    assert footprint(both, 512, 4).params["method"] == "lora"


def test_attention_that_is_not_fused_keeps_a_weight_of_each_pair_of_tokens() -> None:
    asked = plan()
    some, twice = (
        footprint(asked, length, 2).worker - footprint(asked, length, 2, fused=True).worker for length in (64, 128)
    )
    assert twice == 4 * some > 0


def test_one_of_five_thousand_points_that_fits_is_found() -> None:
    asked = plan()
    knobs = {**asked.space.knobs["lora"], "learning_rate": Fixed(1e-3), "rank": Choice(tuple(range(1, 5_001)))}
    whole = replace(asked.space.of("lora"), knobs={"lora": knobs})
    point = {**largest_points(whole)[0], "rank": 1}
    space = replace(whole, limit=whole.parameters(point))
    assert largest_points(space)[0] == point
    assert space.sizes() == [space.limit]
    found = checkpoints_of(replace(asked, space=space))
    assert 0 < found.usually == found.most


@pytest.mark.parametrize(("quantize", "bytes_each"), [("nf4", 0.5), ("int8", 1.0)])
def test_quantized_weights_take_less_but_for_those_of_words(quantize: str, bytes_each: float) -> None:
    asked, shape = plan(), plan().geometry
    backbone = asked.spec.backbone.model_copy(update={"quantize": quantize})
    spec = asked.spec.model_copy(update={"backbone": backbone, "precision": "fp32"})
    words = shape.vocabulary * shape.width
    expected = (shape.parameters - words) * bytes_each + 4 * words
    assert footprint(replace(asked, spec=spec), 16, 4).weights == round(expected)


def test_what_is_written_takes_its_logits() -> None:
    asked = plan()
    writing = Generation(prompt="{sentence}", max_new_tokens=50)
    tasks = {name: replace(task, generation=writing) for name, task in asked.tasks.items()}
    more = footprint(replace(asked, tasks=tasks), 16, 4).worker - footprint(asked, 16, 4).worker
    rows = largest_points(asked.space)[0]["batch_size"]
    assert more > rows * 50 * asked.geometry.vocabulary * 12
