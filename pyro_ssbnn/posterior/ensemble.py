"""Networks of draws whose predictive distributions are averaged, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor, nn

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.models import CompactNetwork
from pyro_ssbnn.posterior.draws import draw_latents
from pyro_ssbnn.posterior.networks import MEMORY, Block, DrawnNetworks, drawn_networks
from pyro_ssbnn.posterior.parts import parts_of
from pyro_ssbnn.posterior.summary import (
    PredictiveSummary,
    RunningSummary,
    check_quantiles,
    joined,
    predictive_quantiles,
)
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["Ensemble", "compact_ensemble", "posterior_ensemble"]

_DOUBLE = torch.zeros((), dtype=torch.float64)  # what predictions are added up in, on the CPU


@dataclass(frozen=True)
class Ensemble:
    """S networks whose predictive distributions are averaged.

    :param likelihood: of the targets.
    :param num_draws: S.
    :param networks: gives the networks, some draws at a time, the same ones at every call.
    :param like: a tensor on the networks' device and in their precision.
    :param block: draws and rows of a pass.
    :param memory: bytes to work in.
    """

    likelihood: Likelihood
    num_draws: int
    networks: Callable[[], Iterable[DrawnNetworks]]
    like: Tensor
    block: Block
    memory: int

    def summary(
        self, x: Tensor, y: Tensor | None = None, quantiles: Sequence[float] = ()
    ) -> PredictiveSummary:
        """Predictive distribution at rows x, ``[N, p]``; see :func:`predict`.

        :raises ConfigurationError: for quantiles that cannot be had.
        """
        check_quantiles(self.likelihood, quantiles)
        a_row = x.shape[1] * self.like.element_size()
        if quantiles:
            a_row = max(a_row, 8 * self.num_draws * self.likelihood.num_outputs)
        rows = max(1, self.memory // 4 // a_row)
        starts = range(0, len(x), rows)
        if y is not None:
            y = self.likelihood.as_target(y, _DOUBLE)
        with torch.no_grad():
            return joined(
                [
                    self._summary(
                        x[at : at + rows], None if y is None else y[at : at + rows], quantiles
                    )
                    for at in starts
                ]
            )

    def means(self, x: Tensor) -> Tensor:
        """Expected y of each draw at rows x, ``[S, N]`` (``[S, N, K]``), float64 on the CPU."""
        passes = x.to(self.like).split(self.block.rows)
        parts = []
        with torch.no_grad():
            for networks in self.networks():
                latents = {k: v.cpu().double() for k, v in networks.latents.items()}
                found = [self.likelihood.mean(networks(r).double(), latents) for r in passes]
                parts.append(torch.cat(found, 1))
        return torch.cat(parts)

    def _summary(
        self, x: Tensor, y: Tensor | None, quantiles: Sequence[float]
    ) -> PredictiveSummary:
        """Of rows that are passed by all draws before the next ones are: a quarter of the memory holds them."""
        passes = x.to(self.like).split(self.block.rows)
        targets: Sequence[Tensor | None] = [None] * len(passes)
        if y is not None:
            targets = y.split(self.block.rows)
        running = [RunningSummary(self.likelihood) for _ in passes]
        kept: list[tuple[Tensor, dict[str, Tensor]]] = []
        for networks in self.networks():
            latents = {k: v.cpu().double() for k, v in networks.latents.items()}
            outputs = []
            for rows, target, summary in zip(passes, targets, running, strict=True):
                f = networks(rows).double()
                if target is not None:
                    f, target, _ = self.likelihood.unpacked(f, target)
                summary.add(f, latents, networks.num_draws, target)
                if quantiles:
                    outputs.append(f)
            if quantiles:
                kept.append((torch.cat(outputs, 1), latents))
        found = joined([summary.result() for summary in running])
        if not quantiles:
            return found
        f = torch.cat([of_draws for of_draws, _ in kept])
        latents = {k: torch.cat([of[k] for _, of in kept]) for k in kept[0][1]}
        values = predictive_quantiles(self.likelihood, f, latents, quantiles)
        return replace(found, probabilities=tuple(quantiles), quantiles=values)


def posterior_ensemble(
    model: Network,
    guide: Guide | MixtureGuide,
    num_draws: int,
    *,
    seed: int = 0,
    rows: int,
    memory: int = MEMORY,
) -> Ensemble:
    """Networks drawn from the whole posterior, made once where a quarter of the memory holds them.

    :param rows: to predict at together, N.
    """
    like = next(guide.parameters()).detach()
    block = Block.of(model.description.widest, num_draws, rows, like, memory)

    def networks() -> Iterator[DrawnNetworks]:
        for part in parts_of(model, guide, num_draws, seed):
            for values in draw_latents(part.model, part.guide, part.num_draws, part.seed):
                yield from drawn_networks(part.model, values, block.draws)

    held = num_draws * model.description.num_weights * like.element_size() <= memory // 4
    made: list[DrawnNetworks] = []

    def once() -> list[DrawnNetworks]:
        if not made:
            made.extend(networks())
        return made

    return Ensemble(model.likelihood, num_draws, once if held else networks, like, block, memory)


def compact_ensemble(
    network: nn.Module,
    likelihood: Likelihood,
    latents: Mapping[str, Tensor],
    row: Tensor,
    *,
    rows: int,
    memory: int = MEMORY,
) -> Ensemble:
    """A pruned network of one set of weights or of draws.

    :param latents: the likelihood's, ``[S, 1, ...]``; one set of weights goes with any number of draws of them.
    :param row: predictors of some row, ``[1, p]``, to see what the network makes of it.
    :param rows: to predict at together, N.
    :raises ConfigurationError: for draws in another number than the network's, and another likelihood's outputs.
    """
    tensors = chain(network.parameters(), network.buffers())
    like = next((t for t in tensors if t.is_floating_point()), row).detach()
    f, widest = _seen(network, row.to(like))
    if f.shape[-1] != likelihood.num_outputs:
        raise ConfigurationError(
            f"predict_compact: the network has {f.shape[-1]} outputs, {type(likelihood).__name__} takes"
            f" {likelihood.num_outputs}. Give the likelihood of the model that the network was cut from."
        )
    draws = len(f) if f.ndim == 3 else 1
    num_draws = _num_draws(draws, latents)
    block = Block.of(-(-widest // draws), draws, rows, like, memory)
    if draws == 1:
        made = [DrawnNetworks(network, latents, num_draws)]
    elif isinstance(network, CompactNetwork):
        made = [
            DrawnNetworks(
                _draws_of(network, slice(at, at + block.draws)),
                {k: v[at : at + block.draws] for k, v in latents.items()},
                min(block.draws, draws - at),
            )
            for at in range(0, draws, block.draws)
        ]
    else:
        block = Block(draws, max(1, block.rows * block.draws // draws))
        made = [DrawnNetworks(network, latents, num_draws)]
    return Ensemble(likelihood, num_draws, lambda: made, like, block, memory)


def _seen(network: nn.Module, row: Tensor) -> tuple[Tensor, int]:
    """Output for one row, ``[1, K]`` or ``[S, 1, K]``, and numbers in the largest layer, all draws together."""
    largest = row.numel()

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel())

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            f = network(row)
    finally:
        for hook in hooks:
            hook.remove()
    return f, largest


def _num_draws(draws: int, latents: Mapping[str, Tensor]) -> int:
    for name, value in latents.items():
        if draws > 1 and len(value) != draws:
            raise ConfigurationError(
                f"predict_compact: the likelihood's {name} must hold one draw for each of the network's {draws}; got"
                f" {[len(value)]}."
            )
    return max([draws, *(len(value) for value in latents.values())])


def _draws_of(network: CompactNetwork, part: slice) -> nn.Module:
    """The network of some of its draws, on the same memory."""
    held = {id(t): t[part] if t.is_floating_point() else t for t in network.buffers()}
    return deepcopy(network, held)
