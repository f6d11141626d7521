"""Tests that a picture of a backbone has every site of its layers, from its width and its depths alone."""

from krona_tune.adapters.placement import sites
from krona_tune.backbones.geometry import Role, Stack
from krona_tune.study.backbone_outline import BackboneOutline, layer_roles
from krona_tune.study.request.trial import AdapterConfig

BOTH = {Stack.ENCODER: 2, Stack.DECODER: 3}


def test_a_decoder_reads_an_encoder_only_where_there_is_one() -> None:
    crossing = {Role.CROSS_QUERY, Role.CROSS_KEY, Role.CROSS_VALUE, Role.CROSS_OUTPUT}
    assert set(layer_roles(Stack.DECODER, BOTH)) - set(layer_roles(Stack.ENCODER, BOTH)) == crossing
    assert layer_roles(Stack.DECODER, {Stack.DECODER: 3}) == layer_roles(Stack.ENCODER, BOTH)


def test_a_bare_geometry_has_every_role_of_every_layer_once() -> None:
    shape = BackboneOutline(width=24, depths=BOTH).bare()
    places = [(site.stack, site.layer, site.role) for site in shape.sites]
    assert len(places) == len(set(places)) == 2 * 7 + 3 * 11
    assert {(site.d_out, site.d_in) for site in shape.sites} == {(24, 24)}
    assert (shape.text_to_text, shape.norms_of_layer) == (True, {Stack.ENCODER: (0, 0), Stack.DECODER: (0, 0, 0)})
    assert not BackboneOutline(width=24, depths={Stack.ENCODER: 2}).bare().text_to_text


def test_an_adapter_is_placed_in_it_as_in_the_whole_model() -> None:
    placed = sites(BackboneOutline(width=24, depths=BOTH).bare(), AdapterConfig(roles="query", layers="last 1"))
    assert {(site.stack, site.layer) for site in placed} == {(Stack.ENCODER, 1), (Stack.DECODER, 2)}
