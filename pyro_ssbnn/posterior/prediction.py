"""Predictions averaged over draws, of the whole posterior or of a pruned network, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from pyro_ssbnn.checks import check_at_least_one, check_rows
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.likelihoods import GaussianLikelihood, Likelihood
from pyro_ssbnn.models import CompactNetwork
from pyro_ssbnn.posterior.draws import draw_latents
from pyro_ssbnn.posterior.networks import MEMORY, Block, DrawnNetworks, drawn_networks
from pyro_ssbnn.posterior.summary import (
    PredictiveSummary,
    RunningSummary,
    check_quantiles,
    joined,
)
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network

__all__ = [
    "Ensemble",
    "PredictiveSummary",
    "compact_ensemble",
    "posterior_ensemble",
    "predict",
    "predict_compact",
]

_DOUBLE = torch.zeros((), dtype=torch.float64)  # what predictions are added up in, on the CPU


def predict(
    model: Network,
    guide: Guide,
    x: Tensor,
    y: Tensor | None = None,
    *,
    quantiles: Sequence[float] = (),
    num_draws: int = 100,
    seed: int = 0,
    memory: int = MEMORY,
) -> PredictiveSummary:
    """Predict with draws from the whole posterior, gates drawn too.

    A row's prediction depends on the draws alone: it is the same beside other rows, in any order and in any memory, but
    for rounding. The draws are those of :func:`~pyro_ssbnn.draw_posterior` with the same number and seed.

    :param x: predictors ``[N, p]``; blocks of them are moved to the guide's device.
    :param y: targets to score, ``[N]`` (``[N, K]`` for several).
    :param quantiles: probabilities of quantiles of y to compute, ascending: ``(0.05, 0.95)`` are the limits of the
        central 90 % interval (:meth:`PredictiveSummary.interval`).
    :param num_draws: S.
    :param seed: of the draws; the caller's random state is left untouched.
    :param memory: bytes to work in, beside x, y and the answer.
    :raises ConfigurationError: for a guide of another network, fewer than one draw, a budget that holds no row, and
        quantiles of classes or of probabilities outside (0, 1).
    :raises DataError: for x or y of the wrong shape, or with missing or infinite values.
    """
    require_match("predict", model, guide)
    check_at_least_one("predict", num_draws=num_draws)
    check_rows("predict", x, y, model.description.inputs.names)
    ensemble = posterior_ensemble(model, guide, num_draws, seed=seed, rows=len(x), memory=memory)
    return ensemble.summary(x, y, quantiles)


def predict_compact(
    network: nn.Module,
    likelihood: Likelihood,
    x: Tensor,
    y: Tensor | None = None,
    *,
    quantiles: Sequence[float] = (),
    noise_variance: Tensor | None = None,
    memory: int = MEMORY,
) -> PredictiveSummary:
    """Predict with a pruned network, of posterior mean weights or of draws.

    :param network: maps ``[N, p]`` to f, ``[N, K]`` or ``[S, N, K]``, as :func:`~pyro_ssbnn.prune` returns it.
    :param likelihood: of the model it was cut from.
    :param x: predictors ``[N, p]``.
    :param y: targets to score, ``[N]`` (``[N, K]`` for several).
    :param quantiles: probabilities of quantiles of y to compute; see :func:`predict`.
    :param noise_variance: where a Gaussian likelihood's noise is unknown: ``[S]`` draws of it (``[S, K]`` for several
        targets), ``draw_posterior(...).latents["noise.variance"]``.
    :param memory: bytes to work in, beside x, y and the answer.
    :raises ConfigurationError: for an unknown noise that is not given, or draws in another number than the network's.
    :raises DataError: for x or y of the wrong shape, or with missing or infinite values.
    """
    size = network.num_inputs if isinstance(network, CompactNetwork) else None
    names = [f"x{i + 1}" for i in range(x.shape[-1] if size is None else size)]
    check_rows("predict_compact", x, y, names)
    latents = {}
    if isinstance(likelihood, GaussianLikelihood) and likelihood.scale is None:
        if noise_variance is None:
            raise ConfigurationError(
                "predict_compact: the noise of this likelihood is unknown, and a pruned network does not carry it; give"
                ' noise_variance, for example draw_posterior(...).latents["noise.variance"].'
            )
        latents["noise.variance"] = noise_variance.unsqueeze(1)  # draws, rows, targets
    ensemble = compact_ensemble(network, likelihood, latents, x[:1], rows=len(x), memory=memory)
    return ensemble.summary(x, y, quantiles)


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
        with torch.no_grad():
            return joined(
                [
                    part
                    for at in self._starts(x, bool(quantiles))
                    for part in self._rows(x[at], None if y is None else y[at], quantiles)
                ]
            )

    def _starts(self, x: Tensor, keeps: bool) -> Iterator[slice]:
        """Rows that all draws pass before the next ones: a quarter of the memory holds them, or their outputs."""
        a_row = x.shape[1] * self.like.element_size()
        if keeps:
            a_row = max(a_row, 8 * self.num_draws * self.likelihood.num_outputs)
        size = max(self.block.rows, self.memory // 4 // a_row)
        return (slice(at, at + size) for at in range(0, len(x), size))

    def _rows(
        self, x: Tensor, y: Tensor | None, quantiles: Sequence[float]
    ) -> list[PredictiveSummary]:
        passes = x.to(self.like).split(self.block.rows)
        targets: Sequence[Tensor | None] = [None] * len(passes)
        if y is not None:
            targets = self.likelihood.as_target(y, _DOUBLE).split(self.block.rows)
        running = [RunningSummary(self.likelihood, t, quantiles) for t in targets]
        for networks in self.networks():
            latents = {k: v.cpu().double() for k, v in networks.latents.items()}
            for rows, summary in zip(passes, running, strict=True):
                summary.add(networks(rows).double(), latents, networks.num_draws)
        return [summary.result() for summary in running]


def posterior_ensemble(
    model: Network,
    guide: Guide,
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
        for values in draw_latents(model, guide, num_draws, seed):
            yield from drawn_networks(model, values, block.draws)

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
    :raises ConfigurationError: for draws in another number than the network's.
    """
    tensors = chain(network.parameters(), network.buffers())
    like = next((t for t in tensors if t.is_floating_point()), row).detach()
    draws, widest = _seen(network, row.to(like))
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


def _seen(network: nn.Module, row: Tensor) -> tuple[int, int]:
    """Number of a network's draws, and numbers in its largest layer, all draws together, for one row."""
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
    return (len(f) if f.ndim == 3 else 1), largest


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
