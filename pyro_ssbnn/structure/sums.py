"""Sums of several groups' maps, as in residual networks: which channel of which group is added where, as data.

Maps put beside each other are such a sum, too: no two of them have a place in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["PlacedSum", "with_sums"]


@dataclass(frozen=True)
class PlacedSum:
    """A sum of maps whose channels are put at certain places; a layer's ``source`` may name it.

    A place is kept as long as anyone writes to it: the consumers' columns of a place leave only when each member that
    is added there has left.

    :param name: name of the sum, unlike any group's.
    :param size: number of places.
    :param terms: what is added: name of a group, or of an earlier sum, and the place of each of its members.
    :param whole: nothing is ever cut: what is made of the terms mixes their members, as a layer norm does. It has one
        place, and terms without places.

    Two channels are padded to four (as a residual network's shortcut does) and added to four others. Without the second
    of the two, and the first and third of the four, one place is left without a writer, the first:

    >>> total = PlacedSum("block", 4, (("stem", (1, 2)), ("conv", (0, 1, 2, 3))))
    >>> kept = {"stem": torch.tensor([0]), "conv": torch.tensor([1, 3])}
    >>> total.places(kept)
    tensor([1, 3])
    >>> total.narrowed(kept)
    PlacedSum(name='block', size=2, terms=(('stem', (0,)), ('conv', (0, 1))), whole=False)
    """

    name: str
    size: int
    terms: tuple[tuple[str, tuple[int, ...]], ...]
    whole: bool = False

    def places(self, kept: Mapping[str, Tensor]) -> Tensor:
        """Places to which someone still writes, ascending, when the terms keep only these members.

        :param kept: ascending indices by name, earlier sums included; what is absent stays whole.
        """
        if self.whole:
            return torch.arange(self.size)
        written = torch.zeros(self.size, dtype=torch.bool)
        for name, _ in self.terms:
            written[self._places_of(name, kept)] = True
        return written.nonzero().flatten()

    def narrowed(self, kept: Mapping[str, Tensor]) -> PlacedSum:
        """The sum of what is kept, over the places that are left."""
        if self.whole:
            return self
        left = self.places(kept)
        terms = tuple(
            (name, tuple(torch.searchsorted(left, self._places_of(name, kept)).tolist()))
            for name, _ in self.terms
        )
        return replace(self, size=len(left), terms=terms)

    def _places_of(self, name: str, kept: Mapping[str, Tensor]) -> Tensor:
        places = torch.tensor(dict(self.terms)[name], dtype=torch.long)
        return places[kept[name].cpu()] if name in kept else places


def with_sums(sums: tuple[PlacedSum, ...], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add to the kept members of groups the places that each sum keeps, ``{name: [kept]}``.

    :param sums: in forward order: their terms are groups or earlier sums.
    """
    known = {**kept}
    for total in sums:
        known[total.name] = total.places(known)
    return known
