"""Describes a backbone in integers: its sites and their dimensions."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

POOLER = ".pooler."
"""Stands in the names of the parameters that compute what a head reads from the first token."""
ANYWHERE = r"(.*\.)?"
"""Matches whatever is before the end of a map's name, in the expressions that are made of a person's names."""


class Role(StrEnum):
    """The role of a weight matrix in its layer. `feed_forward` is the whole feed-forward block, `named` a map that a
    person has named whatever it does."""

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
    NAMED = "named"


class Stack(StrEnum):
    """The half of the network that a layer belongs to; a BERT-like model has only the encoder, a GPT the decoder."""

    ENCODER = "encoder"
    DECODER = "decoder"


@dataclass(frozen=True, kw_only=True)
class RoleRows:
    """The rows of a fused map that compute one role.

    They are `count` blocks of `block` rows: the first begins at row `start`, each other one `stride` rows after the one
    before it. The map has `total` rows.
    """

    start: int
    block: int
    stride: int
    count: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Site:
    """One weight matrix or block that can carry an adapter: a map from d_in to d_out features.

    The adapter reads the input of module `enters` and adds to the output of module `name`; for a linear map both are
    the same. Names are relative to the backbone's base model, as is `layer_name`, the module of the site's layer. A
    `transposed` map keeps its weight as (d_in, d_out), a `biased` one has a bias.
    """

    name: str
    enters: str
    role: Role
    stack: Stack
    layer: int
    layer_name: str
    d_out: int
    d_in: int
    rows: RoleRows | None = None
    transposed: bool = False
    biased: bool = False

    @property
    def key(self) -> str:
        """Returns a name that is unique among the sites, because a fused map carries several."""
        return self.name if self.rows is None else f"{self.name}#{self.role}"

    @property
    def weight_shape(self) -> tuple[int, int]:
        """Returns the shape of the whole map's weight."""
        shape = (self.rows.total if self.rows else self.d_out, self.d_in)
        return shape[::-1] if self.transposed else shape


@dataclass(frozen=True)
class UnadaptedMap:
    """A linear map of the layers that carries no adapter, by its name inside its layer, and why.

    `role` is what its name says.
    """

    name: str
    reason: str
    role: Role | None = None


KEPT_PER_LAYER = 17
"""Values per token that a layer keeps for its backward pass, in units of the width: inputs and outputs, roughly."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A backbone in integers.

    Attributes:
        depths: the layers of each stack; one whose output is used `uses` times counts once.
        norms: the parameters of the layer norms, `norm_biases` the biases among them, `norms_of_layer` those inside
            each layer of a stack.
        parameters: the pretrained weights, without a task's head; `output_embeddings` are those that a decoder has
            beside them to write with, unless they are its input's.
        width: the features of a hidden state.
        head: the parameters of a fresh task head: a number, and a number per output; (0, 0) for text to text.
        text_to_text: it answers with text: an encoder-decoder, or a decoder after `writing`.
        vocabulary: how many ids of tokens it knows.
        positions: the longest input in tokens; None if there is no limit.
        layer_names: those of each stack's layers; of a stack that is not there each layer has a site.
        weights: the shapes of the base model's parameters by their names; `spared` are those that it may be saved
            without, because others are the same, or the library computes them.
    """

    model_type: str
    sites: tuple[Site, ...]
    depths: dict[Stack, int]
    norms: int
    norm_biases: int
    norms_of_layer: dict[Stack, tuple[int, ...]]
    parameters: int
    width: int
    head: tuple[int, int]
    text_to_text: bool
    output_embeddings: int = 0
    vocabulary: int = 0
    positions: int | None = None
    uses: int = 1
    left_out: tuple[UnadaptedMap, ...] = ()
    layer_names: dict[Stack, tuple[str, ...]] = field(default_factory=dict)
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    spared: tuple[str, ...] = ()

    def __hash__(self) -> int:
        """Returns a hash of the fields that have one; equal geometries have equal ones."""
        return hash((self.model_type, self.sites, self.parameters))

    def layers_of(self, stack: Stack) -> tuple[str, ...]:
        """Returns the names of a stack's layers, whether they have a site or not."""
        own = dict.fromkeys(site.layer_name for site in self.sites if site.stack is stack)
        return self.layer_names.get(stack, tuple(own))

    @property
    def layers(self) -> tuple[str, ...]:
        """Returns the names of all layers."""
        return tuple(name for stack in self.depths for name in self.layers_of(stack))

    @property
    def first_stack(self) -> Stack:
        """Returns the stack that reads a task's text."""
        return Stack.ENCODER if Stack.ENCODER in self.depths else Stack.DECODER

    @property
    def is_encoder_decoder(self) -> bool:
        return set(self.depths) == {Stack.ENCODER, Stack.DECODER}

    @property
    def is_encoder(self) -> bool:
        """Returns whether it is an encoder without a decoder."""
        return set(self.depths) == {Stack.ENCODER}

    @property
    def writes_alone(self) -> bool:
        """Returns whether it answers with text without an encoder that reads for it."""
        return self.text_to_text and not self.is_encoder_decoder

    def writing(self) -> "Geometry":
        """Returns the backbone as one that answers with text. Raises ValueError for an encoder, which writes none."""
        if Stack.DECODER not in self.depths:
            raise ValueError(f"{self.model_type} only reads")
        parameters = self.parameters + self.output_embeddings
        return replace(self, parameters=parameters, output_embeddings=0, head=(0, 0), text_to_text=True)

    def kept_values(self, *, recomputed: bool = False) -> int:
        """Returns roughly how many values of a token are kept for a backward pass through all layers.

        Args:
            recomputed: only what enters each layer is kept, and the rest of one layer at a time.
        """
        layers = sum(self.depths.values()) * self.uses
        return (layers + KEPT_PER_LAYER if recomputed else layers * KEPT_PER_LAYER) * self.width

    @property
    def head_has_bias(self) -> bool:
        """Returns whether an output of a fresh task head has a bias: that of a decoder with one map alone has none, nor
        has one with as many parameters as a hidden state has features."""
        fixed, per_output = self.head
        return per_output != self.width and not (self.first_stack is Stack.DECODER and not fixed)

    @property
    def reads_first_token(self) -> bool:
        """Returns whether a fresh task head reads the first token, as those do that have a map beside the outputs' or
        read a pooler; that of a decoder, which reads the last one, does not."""
        return self.head[0] > 0 or (not self.text_to_text and any(POOLER in f".{name}" for name in self.weights))

    def head_parameters(self, outputs: int) -> int:
        """Counts the parameters of a fresh task head with that many outputs; 0 for text to text."""
        fixed, per_output = self.head
        return fixed + per_output * outputs
