"""Makes the sites of one layer of a backbone."""

from dataclasses import dataclass

from krona_tune.backbones.geometry import Part, Role, Site, Stack


@dataclass(frozen=True)
class Layer:
    """A layer of a stack, by its number."""

    stack: Stack
    layer: int

    def map(self, name: str, role: Role, d_out: int, d_in: int, part: Part | None = None) -> Site:
        return self._site(name, name, role, d_out, d_in, part)

    def block(self, enters: str, leaves: str, width: int) -> Site:
        return self._site(leaves, enters, Role.FEED_FORWARD, width, width)

    def _site(self, name: str, enters: str, role: Role, d_out: int, d_in: int, part: Part | None = None) -> Site:
        return Site(
            name=name, enters=enters, role=role, stack=self.stack, layer=self.layer, d_out=d_out, d_in=d_in, part=part
        )
