"""The backbone as far as a study's left adapters tell of it: how wide, how deep, which stacks."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from krona_tune.study.folder import StudyFolder
from krona_tune.study.geometry import Geometry, Role, Site, Stack

_SELF = (Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT)
_CROSS = (Role.CROSS_QUERY, Role.CROSS_KEY, Role.CROSS_VALUE, Role.CROSS_OUTPUT)
_AFTER = (Role.FEED_FORWARD_IN, Role.FEED_FORWARD_OUT, Role.FEED_FORWARD)
ROLES = {Stack.ENCODER: (*_SELF, *_AFTER), Stack.DECODER: (*_SELF, *_CROSS, *_AFTER)}
"""The roles of a layer of each stack, in the order in which the picture shows them."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A backbone's width in features and each stack's depth in layers."""

    width: int
    depths: dict[Stack, int]

    def bare(self) -> Geometry:
        """Its sites by stack, layer and role, as if every map were square: where adapters stand, not what they cost."""
        return Geometry(
            model_type="",
            sites=tuple(self._sites()),
            depths=self.depths,
            norms=0,
            norm_biases=0,
            parameters=1,
            head_width=self.width,
            head_layers=1,
            text_to_text=Stack.DECODER in self.depths,
        )

    def _sites(self) -> Iterator[Site]:
        for stack, depth in self.depths.items():
            for layer in range(depth):
                for role in ROLES[stack]:
                    name = f"{stack}.{layer}.{role}"
                    d = self.width
                    yield Site(name=name, enters=name, role=role, stack=stack, layer=layer, d_out=d, d_in=d)


def network(folder: StudyFolder) -> Network | None:
    """What the first adapter that the study has left says; None before there is one."""
    for card in sorted((folder.root / "adapters").glob("*/adapter.json")):
        with suppress(OSError, ValueError, KeyError):
            told = json.loads(card.read_text(encoding="utf-8"))
            return _network(told["backbone_width"], told["backbone_layers"], told["text_to_text"])
    return None


def _network(width: int, layers: int, text_to_text: bool) -> Network:
    """The card counts the layers of both stacks together; they are equally deep in the known families' checkpoints."""
    stacks = (Stack.ENCODER, Stack.DECODER) if text_to_text else (Stack.ENCODER,)
    return Network(width=width, depths={stack: layers // len(stacks) for stack in stacks})
