"""Which nodes and predictors to keep: from inclusion probabilities to indices.

The median probability model (Barbieri and Berger 2004) keeps what has posterior inclusion probability above 1/2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_ssbnn.checks import check_that, is_number, is_whole
from pyro_ssbnn.errors import ConfigurationError, SelectionError
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.flow import cut_off

__all__ = ["Selection", "check_inclusion", "select"]

_INTEGERS = (torch.int64, torch.int32)


@dataclass(frozen=True)
class Selection:
    """Indices of the kept members of every gated group.

    :param kept: ``{group: [kept]}`` ascending indices; groups without gates are absent and kept whole.
    :param sizes: ``{group: size}`` before the selection.
    :param rule: how it was made, in words.
    """

    kept: dict[str, Tensor]
    sizes: dict[str, int]
    rule: str

    def __repr__(self) -> str:
        kept = ", ".join(f"{name} {len(k)} of {self.sizes[name]}" for name, k in self.kept.items())
        return f"Selection: {kept or 'no gated groups'} ({self.rule})"

    def mask(self, group: str) -> Tensor:
        """Kept members as a boolean vector ``[size]``."""
        mask = torch.zeros(self.sizes[group], dtype=torch.bool, device=self.kept[group].device)
        mask[self.kept[group]] = True
        return mask

    @property
    def counts(self) -> dict[str, int]:
        """Number of kept members of each gated group."""
        return {name: len(indices) for name, indices in self.kept.items()}


def select(
    inclusion: Mapping[str, Tensor],
    *,
    threshold: float = 0.5,
    nodes: int | Mapping[str, int] | None = None,
) -> Selection:
    """Select nodes by their inclusion probability.

    :param inclusion: ``{group: [size]}`` probabilities, as ``guide.inclusion()`` gives them.
    :param threshold: keep what lies strictly above; 0.5 is the median probability model.
    :param nodes: keep a given number instead: so many in every gated group, or ``{group: number}`` (groups not
        named keep to the threshold). Ties go to the lower index. ``{"input": k}`` keeps k predictors, with their
        linear terms where the network has these: the likeliest to be in by either gate.
    :raises ConfigurationError: for a threshold outside [0, 1), an unknown group, or more nodes than there are.
    """
    check_inclusion("select", inclusion)
    if not (is_number(threshold) and 0 <= threshold < 1):
        raise ConfigurationError(f"select: threshold must lie in [0, 1); got {threshold!r}.")
    kinds = nodes is None or is_whole(nodes) or isinstance(nodes, Mapping)
    check_that("select", "nodes", nodes, kinds, "a whole number, or {group: number}")
    wanted = _wanted(inclusion, nodes)
    kept = {}
    for name, probability in inclusion.items():
        if name in wanted:
            best = probability.argsort(descending=True, stable=True)[: wanted[name]]
            kept[name] = best.sort().values
        else:
            kept[name] = (probability > threshold).nonzero().flatten()
    if "input" in wanted and "linear" in inclusion and "linear" not in wanted:
        kept |= _predictors(inclusion, wanted["input"], threshold)
    rule = "median probability model" if threshold == 0.5 else f"inclusion above {threshold:g}"
    if wanted:
        rule = f"{rule}; given numbers: " + ", ".join(f"{k} {v}" for k, v in wanted.items())
    return Selection(kept, {name: len(p) for name, p in inclusion.items()}, rule)


def _predictors(
    inclusion: Mapping[str, Tensor], number: int, threshold: float
) -> dict[str, Tensor]:
    """Gates of so many predictors: of each those above the threshold, or the likelier one."""
    nonlinear, linear = inclusion["input"], inclusion["linear"]
    either = 1 - (1 - nonlinear) * (1 - linear)
    chosen = torch.zeros_like(nonlinear, dtype=torch.bool)
    chosen[either.argsort(descending=True, stable=True)[:number]] = True
    neither = (nonlinear <= threshold) & (linear <= threshold)
    bends = (nonlinear > threshold) | (neither & (nonlinear >= linear))
    straight = (linear > threshold) | (neither & (linear > nonlinear))
    masks = {"input": chosen & bends, "linear": chosen & straight}
    return {name: mask.nonzero().flatten() for name, mask in masks.items()}


def check_inclusion(owner: str, inclusion: Mapping[str, Tensor]) -> None:
    """Raise :class:`ConfigurationError` unless these are inclusion probabilities by group.

    :param owner: the public function, for the message.
    """
    tensors = isinstance(inclusion, Mapping) and all(
        isinstance(probability, Tensor) and probability.ndim == 1
        for probability in inclusion.values()
    )
    expected = "{group: tensor [size]}, as guide.inclusion() gives it"
    check_that(owner, "inclusion", inclusion, tensors, expected)


def _wanted(
    inclusion: Mapping[str, Tensor], nodes: int | Mapping[str, int] | None
) -> dict[str, int]:
    if nodes is None:
        return {}
    layers = [k for k in inclusion if k not in ("input", "linear")]
    wanted = dict.fromkeys(layers, nodes) if isinstance(nodes, int) else {**nodes}
    for name, number in wanted.items():
        if name not in inclusion:
            raise ConfigurationError(
                f"select: no gated group is called {name!r}; this network has {sorted(inclusion)}."
            )
        if not 1 <= number <= len(inclusion[name]):
            raise ConfigurationError(
                f"select: {name} has {len(inclusion[name])} nodes; cannot keep {number} of them."
            )
    return wanted


def require_selection(owner: str, selection: Selection, description: NetworkDescription) -> None:
    """Raise :class:`SelectionError` unless the selection is one of this network's gated groups, and ascending.

    :param owner: the public function, for the message.
    """
    if not isinstance(selection, Selection):
        raise SelectionError(
            f"{owner}: expected a Selection, as select(guide.inclusion()) makes it; got"
            f" {type(selection).__name__}."
        )
    expected = {group.name: group.size for group in description.gate_groups}
    if dict(selection.sizes) != expected or set(selection.kept) != set(expected):
        raise SelectionError(
            f"{owner}: the selection is one of {dict(selection.sizes)} members; this network has {expected}."
            " Make it from the inclusion probabilities of its guide: select(guide.inclusion())."
        )
    for name, indices in selection.kept.items():
        integral = isinstance(indices, Tensor) and indices.dtype in _INTEGERS and indices.ndim == 1
        rising = integral and bool((indices.diff() > 0).all())
        if not rising or not all(0 <= i < expected[name] for i in indices[[0, -1][: len(indices)]]):
            raise SelectionError(
                f"{owner}: the selection's indices of {name} must be a tensor of ascending integers within"
                f" 0..{expected[name] - 1}, each once; got {indices}."
            )


def require_nodes(selection: Selection, description: NetworkDescription) -> None:
    """Raise :class:`SelectionError` when what is kept makes the network a constant.

    A layer that a sum bypasses, as in a residual block, may keep nothing.
    """
    empty = [name for name, indices in selection.kept.items() if len(indices) == 0]
    blocking = cut_off(description, empty)
    if blocking:
        raise SelectionError(
            f"{', '.join(blocking)} would keep no member by the rule «{selection.rule}», which leaves a constant."
            " Train anew (see the collapse warning), lower the threshold, or give a number of nodes."
        )
