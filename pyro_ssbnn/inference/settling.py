r"""The last phase of a linear network's fit: joint laws of predictors at their optimum, without sampling.

:mod:`pyro_ssbnn.inference.block_ascent` finds the laws of gates and weights given the precision of noise and slab.
In turns with it, the LogNormal law of the noise variance under an InverseGamma(a, rate b) prior has the optimum

.. math:: E[1/\sigma^2] = \frac{N/2 + a}{E\lVert y - f\rVert^2/2 + b},\qquad v^2 = \frac{1}{N/2 + a},

and the laws of slab scales t follow the gradient of their part of the bound.

Gates and weights depend on t where the network has one target: each cell, a range of t, has laws of its own. The cells
are of one width in log t; below what the data can see of any weight there is one cell. In each cell either the weights
u are independent of t, which suits scales that the data leave open, or the effective weights t u are ("centred"), which
suits weights that the data know. With a the mean of t in the cell (1 if centred) and b that of its square, the linear
model sees targets :math:`(a/b) y`, a noise precision :math:`b E[1/\sigma^2]` and a slab precision :math:`1/\sigma_0^2`
(:math:`E[t^{-2}]/\sigma_0^2` if centred). Several targets have several slab scales; there all of them is one cell, both
families are tried, and that of the higher bound is kept.

A large block's sets take a search. Its lists are short until noise and slab scale are at rest, and complete from there.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_ssbnn.distributions.blocks import MOST_SETS
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides.block import BlockGuide
from pyro_ssbnn.guides.joint_law import JointLaw
from pyro_ssbnn.inference.block_ascent import BlockAscent, Fitted, Regression
from pyro_ssbnn.inference.correlated_blocks import correlated_blocks
from pyro_ssbnn.inference.guards import check_data
from pyro_ssbnn.inference.slab_scales import SlabScales
from pyro_ssbnn.inference.training_rows import require_in_memory
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network

__all__ = ["settle"]

_ROUNDS = 12  # of blocks, noise and slab scales
_EARLY = 1024  # sets of a large block's law until they end
_STILL = 3e-3  # relative change of the noise precision below which rounds end
_STILL_SCALE = 3e-2  # and of the slab scale
_FINAL = 16_384  # draws of the slab scale for the probabilities of its cells
_WIDTH = 0.4  # of a cell, in log t
_SEEN = 0.3  # precision that the data have of a weight, as a multiple of the slab's, below which they see little of it


def settle(model: Network, guide: Guide, x: Tensor, y: Tensor, *, seed: int = 0) -> None:
    """Bring a :class:`~pyro_ssbnn.guides.BlockGuide` to the optimum of its joint laws, given data; ``fit`` does.

    The laws start from what the guide was trained to. Its trained weights and gates stay beside them; the laws of noise
    and slab scales are changed.

    :param x: predictors ``[N, p]``.
    :param y: targets, ``[N]`` (``[N, K]`` for several).
    :param seed: of draws of the slab scale; the caller's random state is left untouched.
    :raises ConfigurationError: for another guide, or one of another network.
    :raises DataError: for data that do not fit the model.
    """
    require_match("settle", model, guide)
    if not isinstance(guide, BlockGuide):
        raise ConfigurationError(
            f"settle: expected a BlockGuide, which has joint laws; got {type(guide).__name__}."
        )
    require_in_memory("settle", x)
    check_data("settle", model, x, y)
    like = next(guide.parameters())
    with isolated(seed, like):
        guide.release()
        begun = {name: value.clone() for name, value in guide.state_dict().items()}
        group, runs = model.description.groups[0], []
        scaled = guide.mean_slab_scale(group.name) is not None
        for centred in (False, True) if scaled and group.size > 1 else (None,):
            guide.load_state_dict(begun)
            runs.append(_Settling(model, guide, x.to(like), y.to(like), centred, seed).run())
        best = max(runs, key=lambda run: run.bound)
        guide.load_state_dict(best.latents)
        guide.take_law(best.law)


class _Run(NamedTuple):
    law: JointLaw
    latents: dict[str, Tensor]
    bound: float


class _Cells(NamedTuple):
    law: JointLaw
    fitted: Fitted  # [G, size]
    gates: Tensor  # KL of the gates, [G]


def _change(now: tuple[Tensor, Tensor], before: tuple[Tensor, Tensor]) -> float:
    """Largest change of what laws depend on, in those changes that end the rounds."""
    apart = (
        a.sub(b).abs() / still
        for a, b, still in zip(now, before, (_STILL, _STILL_SCALE), strict=True)
    )
    return max(float(each.max()) for each in apart)


class _Settling:
    """One run, in double precision; the guide holds the laws of noise and slab scales.

    :param centred: the family of a run with one cell; None for cells of the slab scale, where there is one.
    """

    def __init__(
        self,
        model: Network,
        guide: BlockGuide,
        x: Tensor,
        y: Tensor,
        centred: bool | None,
        seed: int,
    ) -> None:
        self.model, self.guide, self.centred = model, guide, centred
        self.scales = SlabScales(model, guide, seed)
        self.group = model.description.groups[0]
        self.likelihood: Any = model.likelihood
        inputs = model.description.inputs
        like = guide.temperature.new_zeros(len(y), self.group.size)
        _, target, weights = self.likelihood.unpacked(like, self.likelihood.as_target(y, like))
        self.y = target.double().reshape(len(y), -1)
        weights = self.y.new_ones(len(y)) if weights is None else weights.double()
        mean = guide.mean_weights(self.group.name).double()[:, :-1]
        inclusion = guide.inclusion()[inputs.name].double()
        mean = mean * inputs.spread(inclusion)
        unit = guide.mean_slab_scale(self.group.name)
        if unit is not None and centred is False:
            mean = mean / unit.double().unsqueeze(-1)
        self.blocks = correlated_blocks(x, inputs.columns)
        start = (self.blocks, mean, inclusion)
        first = BlockAscent(model.description, x.double(), self.y, weights, *start)
        self.ascents = {0: first}  # by cell
        self.seen: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # by searches, which are dear
        self.large = any(2 ** len(block) > MOST_SETS for block in self.blocks)
        self.rows, self.squares = first.rows, first.y.square().sum(0)
        columns = first.x.square().sum(0) - first.sums.square() / self.rows
        self.most = float(columns.max().clamp_min(self.rows))  # sum of squares, of the bias, too

    def run(self) -> _Run:
        """Alternate between blocks and the laws of noise and slab scales."""
        unit = self.scales.draws()
        now = self._inputs(unit)
        most = _EARLY if self.large else MOST_SETS
        for left in reversed(range(_ROUNDS)):
            before = now
            cells = self._ascended(unit, most)
            self._follow(cells)
            unit = self.scales.draws()
            now = self._inputs(unit)
            still = _change(now, before) <= 1
            if still and most == MOST_SETS:
                break
            if still or left == 1:
                most = MOST_SETS
        state = {name: value.clone() for name, value in self.guide.state_dict().items()}
        bound = float(self._bound(cells))
        self._weigh_cells(cells.law)
        return _Run(cells.law, state, bound)

    def _ascended(self, unit: Tensor | None, most: int) -> _Cells:
        """Laws at their optimum in each cell that a draw of the slab scale is in; others are those below.

        A search is not repeated where it would see nearly the same, which may be less so in a cell of a small share:
        on average over the slab scale no more has changed than what ends the rounds.
        """
        lowest = self._lowest()
        if unit is None or self.centred is not None:
            numbers = torch.zeros(1 if unit is None else len(unit), dtype=torch.int64)
        else:
            numbers = ((unit[:, 0].log() - lowest) / _WIDTH + 1).floor().clamp_min(0).long()
        found, places = numbers.unique(return_inverse=True)
        law = JointLaw(self.model.description, self.blocks, len(found), most).to(self.y)
        law.get_buffer("edges").copy_((lowest + _WIDTH * (found[1:] - 1)).exp())
        each = []
        for cell, number in enumerate(found.tolist()):
            if number not in self.ascents:
                nearest = min(self.ascents, key=lambda other: abs(other - number))
                self.ascents[number] = self.ascents[nearest].twin()
            inside = None if unit is None else unit[places == cell]
            centred = number > 0 if self.centred is None else self.centred
            inputs, seen = self._inputs(inside), self.seen.get((number, most))
            weight = min(1.0, len(found) * float((places == cell).double().mean()))
            if seen is None or weight * _change(inputs, seen) > 1:
                self.ascents[number].ascend(self._given(inside, centred), most)
                if self.large:
                    self.seen[number, most] = inputs
            each.append(self.ascents[number].law(law, cell))
            law.fill(cell, centred=torch.tensor(centred))
        fitted = Fitted(*(torch.stack(parts) for parts in zip(*each, strict=True)))
        group = self.model.description.inputs
        gates = law.gates.given(torch.arange(len(found), device=places.device))
        prior = group.prior_gates(self.y).expand(gates.batch_shape)
        return _Cells(law, fitted, kl_divergence(gates, prior).sum(-1))

    def _inputs(self, unit: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logarithms of the precision of the noise and of the slab scale, which the laws depend on, ``[size]``."""
        noise = self._noise()[0].log()
        return noise, torch.zeros_like(noise) if unit is None else unit.log().mean(0)

    def _lowest(self) -> float:
        """Logarithm of the slab scale below which the data see little of any weight: the upper end of cell 0."""
        seen = self.most * float(self._noise()[0].max()) * self.group.prior.scale**2
        return 0.5 * math.log(_SEEN / seen)

    def _weigh_cells(self, law: JointLaw) -> None:
        """Probabilities of the cells, and the mean slab scale in those whose law is that of u."""
        unit = self.scales.draws(_FINAL)
        if unit is None:
            return
        cells = law.cells_of(unit).expand(_FINAL)
        share = cells.bincount(minlength=law.cells).to(unit) / _FINAL
        law.get_buffer("share").copy_(share)
        for cell in (~law.get_buffer("centred") & (share > 0)).nonzero().flatten().tolist():
            law.fill(cell, unit=unit[cells == cell].mean(0))

    def _given(self, unit: Tensor | None, centred: bool) -> Regression:
        """What the linear model sees where the slab scale is one of these, ``[n, size]``."""
        noise, _ = self._noise()
        size, scale = self.group.size, self.group.prior.scale
        one = self.y.new_ones(size)
        if unit is None:
            return Regression(noise, one, one / scale**2, one * math.log(scale))
        if centred:
            slab = (unit**-2).mean(0) / scale**2
            log_slab = unit.log().mean(0) + math.log(scale)
            return Regression(noise, one, slab.expand(size), log_slab.expand(size))
        mean, square = unit.mean(0).expand(size), unit.square().mean(0).expand(size)
        return Regression(noise * square, mean / square, one / scale**2, one * math.log(scale))

    def _noise(self) -> tuple[Tensor, Tensor]:
        """E[1/sigma^2] and E log sigma^2 of each target, ``[size]``."""
        if self.likelihood.scale is not None:
            variance = self.y.new_full((self.group.size,), self.likelihood.scale**2)
            return 1 / variance, variance.log()
        law: Any = self.guide.noise.variance  # type: ignore[union-attr]
        loc, scale = law.loc.double(), law.log_scale.double().exp()
        precision = (-loc + 0.5 * scale.square()).exp()
        return precision.expand(self.group.size), loc.expand(self.group.size)

    def _follow(self, cells: _Cells) -> None:
        """Bring noise and slab scales to their optimum given the laws."""
        unit = self.scales.draws()
        if self.likelihood.scale is None:
            shape = 0.5 * self.rows + self.likelihood.concentration
            residuals = self._squared_residuals(cells, unit)
            precision = shape / (0.5 * residuals + self.likelihood.rate)
            noise: Any = self.guide.noise.variance  # type: ignore[union-attr]
            noise.log_scale.fill_(-0.5 * math.log(shape))
            noise.loc.copy_((0.5 / shape - precision.log()).reshape(noise.loc.shape))
        if unit is not None:
            self.scales.climb(lambda: self._bound(cells))

    def _squared_residuals(self, cells: _Cells, unit: Tensor | None) -> Tensor:
        """E of the sum of squared residuals, ``[size]``, over draws of the slab scale."""
        if unit is None:
            mean, square = cells.fitted.cross[0], cells.fitted.squares[0]
        else:
            place, own = self._effective(cells.law, unit)
            mean = (own * cells.fitted.cross[place]).mean(0)
            square = (own.square() * cells.fitted.squares[place]).mean(0)
        return self.squares - 2 * mean + square

    def _effective(self, law: JointLaw, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Cells of draws of the slab scale, and what makes their laws' weights effective ones, ``[S, size]``."""
        place = law.cells_of(unit).expand(len(unit))
        centred = law.get_buffer("centred")[place].unsqueeze(-1)
        return place, torch.where(centred, 1.0, unit)

    def _bound(self, cells: _Cells) -> Tensor:
        """The bound on the log evidence, by the same draws of the slab scale at every call."""
        precision, log_variance = self._noise()
        unit, of_latents = self.scales.draws_and_kl()
        residuals = self._squared_residuals(cells, unit)
        each = self.rows * (log_variance + math.log(2 * math.pi)) + precision * residuals
        place, scale = torch.zeros(1, dtype=torch.int64), self.y.new_ones(1, self.group.size)
        if unit is not None:
            place, own = self._effective(cells.law, unit)
            scale = unit / own
        of_weights = cells.law.moments.kl(place, self.group.prior.scale * scale).sum(-1)
        return -0.5 * each.sum() - (of_weights + cells.gates[place]).mean() - of_latents
