r"""What a fit leaves undecided, and the network cut down to it; :mod:`pyro_ssbnn.analysis.certificate` samples that.

Predictors, and linear terms, whose inclusion is close to 0 or 1 are taken for closed or open, unless they correlate
with one that is in: then the fit may have settled on the wrong one. Of a member that was removed in training its last
inclusion counts, not the 0 that it has now; predictors that were screened out before training are closed. Nodes of a
layer are exchangeable, so that it is their number that is decided; the open and the closed node of which the fit is
least sure are always undecided, and more closed ones as long as that is cheap. A structure with k of a layer's n nodes
open then counts for all that have as many,

.. math:: p(k, \dots) \propto \binom{n}{k} \lambda^k (1 - \lambda)^{n - k} p(y \mid k, \dots),

so that nothing is lost but the numbers beyond.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_ssbnn.exact import Structures
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.inference.correlated_blocks import correlations
from pyro_ssbnn.inference.shrinking import may_lose_members
from pyro_ssbnn.selection.error_control import model_size
from pyro_ssbnn.structure.network import Network

__all__ = ["Undecided"]

_FEW = 6  # undecided gates up to which closed nodes are added: 64 structures


class Undecided:
    """What is decided, and the network without what is closed.

    :param fit: the fit.
    :param x: predictors that were fitted to, for their correlations.
    :param decided: distance from 0 or 1 within which an inclusion probability counts as decided.
    :param correlated: absolute correlation from which a predictor is undecided beside one that is in; 1 for none.
    :ivar inclusion: probabilities under the guide, by group, float64.
    :ivar free: masks of the undecided members, by group.
    :ivar is_open: masks of those that are taken for open.
    :ivar layers: groups whose members are exchangeable.
    :ivar screened: predictors that were screened out before training.
    """

    def __init__(self, fit: Fit, x: Tensor, decided: float, correlated: float) -> None:
        self.fit, self.whole = fit, fit.model.description
        self.inclusion = {k: v.double().cpu() for k, v in fit.guide.inclusion().items()}
        gone = {k: v == 0 for k, v in self.inclusion.items()}
        self.screened = 0
        for move in fit.history.removed:
            if not gone[move.group][move.node]:
                continue  # it came back
            if move.epoch:
                self.inclusion[move.group][move.node] = move.inclusion
            else:
                self.screened += 1
        self.layers = [group.name for group in self.whole.gated_layers]
        self.free = {}
        for name, gamma in self.inclusion.items():
            free = (gamma > decided) & (gamma < 1 - decided)
            if name in self.layers:
                _add_least_sure(free, gamma)
            elif correlated < 1:
                alike = correlations(x.cpu(), self.whole.inputs.columns) >= correlated
                free = free | (alike.fill_diagonal_(False) & (free | (gamma > 0.5))).any(1)
                free = free | (alike & free).any(1) & (gamma > 0.5)
            self.free[name] = free
        self._add_spare_nodes()
        self.is_open = {k: (v > 0.5) & ~self.free[k] for k, v in self.inclusion.items()}

    @property
    def number(self) -> int:
        """Undecided gates."""
        return sum(int(free.sum()) for free in self.free.values())

    def _add_spare_nodes(self) -> None:
        """Leave more closed nodes undecided, the likeliest of every layer in turn, as long as there are few gates."""
        for _ in range(_FEW):
            for name in self.layers:
                gamma = self.inclusion[name]
                closed = ~self.free[name] & (gamma <= 0.5)
                if closed.any() and self.number < _FEW:
                    self.free[name][torch.where(closed, gamma, -1.0).argmax()] = True

    def names(self, masks: Mapping[str, Tensor]) -> dict[str, list[str]]:
        """Names of the members of a mask, by group."""
        member = self.whole.member_names
        return {k: [member(k)[j] for j in mask.nonzero().flatten()] for k, mask in masks.items()}

    @property
    def kept(self) -> dict[str, Tensor]:
        """Members that are not closed, by group, one at least; all where closed ones pass on a constant."""
        inputs, linear = self.whole.inputs, self.whole.linear
        kept = {}
        for name, free in self.free.items():
            stays = free | self.is_open[name]
            if linear is not None and name == inputs.name:
                stays = stays | self.free[linear.name] | self.is_open[linear.name]
            if linear is not None and name == linear.name:
                continue  # goes with its predictor
            if not may_lose_members(self.fit.model, name):
                stays = torch.ones_like(free)
            stays[0] |= not stays.any()
            kept[name] = stays.nonzero().flatten()
        return self.whole.with_sums(kept)

    def structures(self, model: Network) -> Structures:
        """Those of the cut network that agree with what is decided."""
        kept, decided = self.kept, {}
        for name, free in self.free.items():
            values = torch.where(free, torch.nan, self.is_open[name].double())
            decided[name] = values[kept[name]] if name in kept else values
        exchangeable = {name: self.whole[name].size for name in self.layers}
        return Structures.of(model.description, decided, exchangeable)

    def expected_size(self, name: str) -> Tensor:
        """Expected number of open gates under the guide: of nodes of all, of others of those not taken for closed."""
        gamma = self.inclusion[name]
        return (
            gamma.sum()
            if name in self.layers
            else gamma[self.free[name]].sum() + self.is_open[name].sum()
        )

    @property
    def left_out(self) -> float:
        """Probability under the guide of what the structures leave out, at most."""
        total, sizes = 0.0, model_size(self.inclusion)
        joint = getattr(self.fit.guide, "coupled", ())
        sizes |= {k: v for k, v in model_size(self.fit.guide).items() if k in joint}
        for name, free in self.free.items():
            if name in self.layers:
                least = int(self.is_open[name].sum())
                total += 1 - float(sizes[name][least : least + int(free.sum()) + 1].sum())
            else:
                gamma = self.inclusion[name][~free]
                total += float(torch.minimum(gamma, 1 - gamma).sum())
        return min(max(total, 0.0), 1.0)


def _add_least_sure(free: Tensor, gamma: Tensor) -> None:
    """Leave the open and the closed node of which the fit is least sure undecided."""
    for side in (gamma > 0.5, gamma <= 0.5):
        if side.any() and not (side & free).any():
            free[torch.where(side, (gamma - 0.5).abs(), torch.inf).argmin()] = True
