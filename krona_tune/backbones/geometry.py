"""Describes a backbone in integers: its sites and their dimensions."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """The role of a weight matrix in its layer. `feed_forward` is the whole feed-forward block."""

    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    OUTPUT = "output"
    CROSS_QUERY = "cross_query"
    CROSS_KEY = "cross_key"
    CROSS_VALUE = "cross_value"
    CROSS_OUTPUT = "cross_output"
    FEED_FORWARD_IN = "feed_forward_in"
    FEED_FORWARD_OUT = "feed_forward_out"
    FEED_FORWARD = "feed_forward"


class Stack(StrEnum):
    """The half of the network that a layer belongs to; a BERT-like model has only the encoder."""

    ENCODER = "encoder"
    DECODER = "decoder"


@dataclass(frozen=True)
class Part:
    """One role's share of a fused map. The map's output is (heads, parts, width); this is `index` of `parts`."""

    index: int
    parts: int
    heads: int


@dataclass(frozen=True, kw_only=True)
class Site:
    """One weight matrix or block that can carry an adapter: a map from d_in to d_out features.

    The adapter reads the input of module `enters` and adds to the output of module `name`; for a linear map both are
    the same. Names are relative to the backbone's base model.
    """

    name: str
    enters: str
    role: Role
    stack: Stack
    layer: int
    d_out: int
    d_in: int
    part: Part | None = None

    @property
    def layer_name(self) -> str:
        """Returns the name of the layer's module, which the site is in."""
        return f"{self.name.partition(f'.{self.layer}.')[0]}.{self.layer}"

    @property
    def key(self) -> str:
        """Returns a name that is unique among the sites, because a fused map carries several."""
        return self.name if self.part is None else f"{self.name}#{self.role}"


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A backbone in integers. `parameters` counts the pretrained weights, without a task's head,
    `norms` those of its layer norms, `norm_biases` the biases among them, `norms_of_layer` those inside one layer;
    `positions` is the longest input in tokens, None if there is no limit."""

    model_type: str
    sites: tuple[Site, ...]
    depths: dict[Stack, int]
    norms: int
    norm_biases: int
    norms_of_layer: dict[Stack, int]
    parameters: int
    head_width: int
    head_layers: int
    text_to_text: bool
    positions: int | None = None

    def head_parameters(self, outputs: int) -> int:
        """Counts the parameters of a fresh task head with that many outputs; 0 for text to text."""
        if self.text_to_text:
            return 0
        width = self.head_width
        return (self.head_layers - 1) * (width * width + width) + (width + 1) * outputs
