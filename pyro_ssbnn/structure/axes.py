"""What must be cut together, as data: which axis of a tensor belongs to which group.

Pruning a fitted network, removing nodes while it is trained, and cutting an optimizer's moments are all the same
operation on tensors whose axes are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Axis", "put", "take"]


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor: ``width`` neighbouring entries for each member of a group, then what belongs to no member.

    :param group: name of the group.
    :param size: its number of members.
    :param width: entries of each member, one number for all or one for each.
    :param own: further entries at the end, which belong to no member and are never cut: a node's bias, or the scale and
        shift of its batch norm.

    A node of a dense layer that reads three channels of 2 pixels each owns 3 * 2 + 1 weights; without the channel in
    the middle five are left:

    >>> Axis("conv", size=3, width=2, own=1).indices({"conv": torch.tensor([0, 2])})
    tensor([0, 1, 4, 5, 6])

    Predictors of one, three and two columns, without the first:

    >>> Axis("input", size=3, width=(1, 3, 2)).indices({"input": torch.tensor([1, 2])})
    tensor([1, 2, 3, 4, 5])
    """

    group: str
    size: int
    width: int | tuple[int, ...] = 1
    own: int = 0

    @property
    def owners(self) -> Tensor:
        """The member that each entry belongs to, ``[entries]``, those of no member left out."""
        widths = self.width if isinstance(self.width, tuple) else (self.width,) * self.size
        return torch.arange(self.size).repeat_interleave(torch.tensor(widths))

    def indices(self, kept: Mapping[str, Tensor], device: torch.device | None = None) -> Tensor:
        """Indices along the axis that stay when groups keep only these members; absent groups stay whole."""
        members = kept.get(self.group)
        members = torch.arange(self.size, device=device) if members is None else members.to(device)
        if isinstance(self.width, tuple):
            first = sum(self.width)
            entries = torch.isin(self.owners.to(members.device), members).nonzero().flatten()
        else:
            first = self.size * self.width
            entries = members.unsqueeze(-1) * self.width + torch.arange(self.width, device=device)
            entries = entries.flatten()
        if not self.own:
            return entries
        return torch.cat([entries, torch.arange(first, first + self.own, device=device)])


def take(tensor: Tensor, axes: Sequence[Axis], kept: Mapping[str, Tensor]) -> Tensor:
    """Copy of the part of a tensor that stays; its last ``len(axes)`` dimensions are the axes."""
    for dim, axis in enumerate(axes, tensor.ndim - len(axes)):
        tensor = tensor.index_select(dim, axis.indices(kept, tensor.device))
    return tensor.clone() if not axes else tensor


def put(tensor: Tensor, part: Tensor, axes: Sequence[Axis], kept: Mapping[str, Tensor]) -> None:
    """Write a part back to where :func:`take` took it from."""
    if not axes:
        tensor.copy_(part)
        return
    indices = [axis.indices(kept, tensor.device) for axis in axes]
    flat = tensor.view(*tensor.shape[: tensor.ndim - len(axes)], -1)
    places = torch.zeros((), dtype=torch.long, device=tensor.device)
    for index, size in zip(indices, tensor.shape[-len(axes) :], strict=True):
        places = places.unsqueeze(-1) * size + index
    flat.index_copy_(-1, places.flatten(), part.flatten(-len(axes)))
