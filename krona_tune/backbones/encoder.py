"""Builds the geometry of BERT-like families: an encoder of equal layers with biases, and parameters outside of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from krona_tune.backbones.geometry import Geometry, Part, Role, Site, Stack
from krona_tune.backbones.layer import Layer

AFTER_ATTENTION = {
    "attention.output.dense": Role.OUTPUT,
    "intermediate.dense": Role.FEED_FORWARD_IN,
    "output.dense": Role.FEED_FORWARD_OUT,
}
"""The maps of a layer that follow its attention, as most families name them."""


@dataclass(frozen=True, kw_only=True)
class EncoderNames:
    """The names of a BERT-like family's maps (under `layers`.i), and the number of parameters outside its layers."""

    layers: str
    maps: dict[str, Role]
    outside: Callable[[Mapping[str, Any]], int]
    extra: Callable[[Mapping[str, Any]], int] = lambda config: 0
    outer_norms: Callable[[Mapping[str, Any]], int] = lambda config: 1
    positions: Callable[[Mapping[str, Any]], int | None] = lambda config: config["max_position_embeddings"]
    head_layers: int = 2

    def build(self, model_type: str, config: Mapping[str, Any]) -> Geometry:
        hidden, ff, depth = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
        d_out = {Role.FEED_FORWARD_IN: ff}
        d_in = {Role.FEED_FORWARD_OUT: ff}
        by_role = {role: name for name, role in self.maps.items()}

        def sites() -> Iterator[Site]:
            for layer in range(depth):
                at = Layer(Stack.ENCODER, layer)
                for name, role in self.maps.items():
                    path, _, index = name.partition("#")
                    part = Part(int(index), 3, config["num_attention_heads"]) if index else None
                    yield at.map(
                        f"{self.layers}.{layer}.{path}",
                        role,
                        d_out.get(role, hidden),
                        d_in.get(role, hidden),
                        part,
                    )
                inside = f"{self.layers}.{layer}"
                yield at.block(
                    f"{inside}.{by_role[Role.FEED_FORWARD_IN]}", f"{inside}.{by_role[Role.FEED_FORWARD_OUT]}", hidden
                )

        every = tuple(sites())
        maps = [s for s in every if s.role is not Role.FEED_FORWARD]
        biases = sum(s.d_out for s in maps if s.part is None) + depth * 2 * hidden * any(s.part for s in maps)
        weights = sum(s.d_out * s.d_in for s in maps) + biases + depth * self.extra(config)
        inner_norms = depth * 4 * hidden
        outer = self.outer_norms(config) * 2 * hidden
        if config.get("embedding_size", hidden) != hidden and model_type == "electra":
            outer = 2 * config["embedding_size"]
        return Geometry(
            model_type=model_type,
            sites=every,
            depths={Stack.ENCODER: depth},
            norms=inner_norms + outer,
            norm_biases=(inner_norms + outer) // 2,
            norms_of_layer={Stack.ENCODER: 4 * hidden},
            parameters=weights + inner_norms + outer + self.outside(config),
            head_width=hidden,
            head_layers=self.head_layers,
            text_to_text=False,
            positions=self.positions(config),
        )
