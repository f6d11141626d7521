"""Describes a backbone in outline: how wide, how deep, which stacks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from krona_tune.backbones.geometry import Geometry, Role, Site, Stack
from krona_tune.study.manifest import ModelFacts

_SELF = (Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT)
_CROSS = (Role.CROSS_QUERY, Role.CROSS_KEY, Role.CROSS_VALUE, Role.CROSS_OUTPUT)
_AFTER = (Role.FEED_FORWARD_IN, Role.FEED_FORWARD_OUT, Role.FEED_FORWARD)


def layer_roles(stack: Stack, depths: Mapping[Stack, int]) -> tuple[Role, ...]:
    """Returns the roles of a stack's layers, in the order of a picture; a decoder beside an encoder reads it."""
    cross = _CROSS if stack is Stack.DECODER and Stack.ENCODER in depths else ()
    return (*_SELF, *cross, *_AFTER)


@dataclass(frozen=True, kw_only=True)
class BackboneOutline:
    """A backbone's width in features and each stack's depth in layers."""

    width: int
    depths: dict[Stack, int]

    def bare(self) -> Geometry:
        """Returns its sites by stack, layer and role, with square maps: where adapters are, not what they cost."""
        return Geometry(
            model_type="",
            sites=tuple(self._sites()),
            depths=self.depths,
            norms=1,
            norm_biases=0,
            norms_of_layer={stack: (0,) * depth for stack, depth in self.depths.items()},
            parameters=1,
            width=self.width,
            head=(0, 0),
            text_to_text=len(self.depths) > 1,
        )

    def _sites(self) -> Iterator[Site]:
        for stack, depth in self.depths.items():
            for layer in range(depth):
                for role in layer_roles(stack, self.depths):
                    at = f"{stack}.{layer}"
                    name, d = f"{at}.{role}", self.width
                    yield Site(
                        name=name, enters=name, role=role, stack=stack, layer=layer, layer_name=at, d_out=d, d_in=d
                    )


def recorded_outline(model: ModelFacts) -> BackboneOutline | None:
    """Returns what the manifest says of the backbone; None for a study that is older than that."""
    return BackboneOutline(width=model.width, depths=model.depths) if model.depths else None
