"""Draws from the guide: latents with their log-densities, effective weights, predictions.

Gates are always drawn hard here, so that every draw is a network of the model, whatever relaxation trained the guide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from pyro_ssbnn.distributions import CoupledNormal, GatedNormal
from pyro_ssbnn.isolation import seeded
from pyro_ssbnn.posterior.weights import effective_weights
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network
from pyro_ssbnn.traces import random_sites

__all__ = [
    "PosteriorDraws",
    "draw_posterior",
]

_CHUNK_ELEMENTS = 2**24  # weights held at a time; 64 MB in float32


@dataclass
class PosteriorDraws:
    """S draws from the guide, and what they predict; tensors on the CPU.

    :param latents: gates, scales and noise by site name, ``[S, ...]``.
    :param log_prior: log p of all latents of a draw, ``[S]``, float64.
    :param log_q: log q of the same, ``[S]``.
    :param weights: effective weights w = z t u by group, ``[S, size, group_size]``, a node's own ones (bias, or scale
        and shift of its batch norm) last; empty unless asked for.
    :param log_likelihood: log p(y | draw) of each observation, ``[S, N]``; None without y.
    :param predictive: draws of y, ``[S, N]`` (``[S, N, K]`` for several targets); None without x.
    :param mean: expected y given the draw, ``[S, N]``, or ``[S, N, K]`` class probabilities; None without x.
    """

    latents: dict[str, Tensor]
    log_prior: Tensor
    log_q: Tensor
    weights: dict[str, Tensor] = field(default_factory=dict)
    log_likelihood: Tensor | None = None
    predictive: Tensor | None = None
    mean: Tensor | None = None


def draw_posterior(
    model: Network,
    guide: Guide,
    num_draws: int,
    *,
    x: Tensor | None = None,
    y: Tensor | None = None,
    weights: bool = False,
    batch_size: int = 2048,
    seed: int = 0,
) -> PosteriorDraws:
    """Draw from the guide, in as many passes as memory asks for; batch norms use their running statistics.

    :param num_draws: S.
    :param x: predictors ``[N, p]`` to predict at.
    :param y: targets ``[N]`` whose log-likelihood is wanted.
    :param weights: keep the effective weights too.
    :param batch_size: rows of x in one pass.
    :param seed: of the draws; the caller's random state is left untouched.
    """
    like = next(guide.parameters())
    device = like.device
    x = None if x is None else x.to(device, like.dtype)
    if y is not None:
        y = y.to(device, like.dtype) if y.dtype.is_floating_point else y.to(device)
    num_weights = model.description.num_weights
    chunk = max(1, min(num_draws, _CHUNK_ELEMENTS // num_weights))
    parts = []
    with torch.no_grad(), seeded(seed, device), evaluating(model, guide):
        for start in range(0, num_draws, chunk):
            size = min(chunk, num_draws - start)
            parts.append(_draw_chunk(model, guide, size, x, y, weights, batch_size))
    return _concatenated(parts)


class ExactDraws(Messenger):
    """Draw closed nodes' weights from q(u | z = 0), the prior: training's draws there are the open slab's."""

    def _pyro_sample(self, msg: Message) -> None:
        fn = msg["fn"]
        if (
            isinstance(fn, GatedNormal | CoupledNormal)
            and msg["value"] is None
            and not msg["is_observed"]
        ):
            msg["value"], msg["done"] = fn.sample(), True


def trace_draws(guide: Callable[..., Any], num_draws: int) -> Trace:
    """Trace of a vectorised run of the guide, every site's batch shape led by ``[num_draws]``."""
    with pyro.get_param_store().scope(), ExactDraws(), pyro.plate("draws", num_draws, dim=-2):
        return poutine.trace(guide).get_trace()


def site_values(trace: Trace) -> dict[str, Tensor]:
    """Values of a trace's latent sample sites."""
    nodes: dict[str, Any] = {**trace.nodes}
    return {name: nodes[name]["value"] for name in random_sites(trace)}


def _draw_chunk(
    model: Network,
    guide: Guide,
    num_draws: int,
    x: Tensor | None,
    y: Tensor | None,
    weights: bool,
    batch_size: int,
) -> PosteriorDraws:
    guide_trace = trace_draws(guide, num_draws)
    values = site_values(guide_trace)
    anchor = next(guide.parameters()).new_zeros(1, model.description.inputs.size)
    model_trace = _replay(model, guide_trace, num_draws, anchor)
    bulky = {g.weight_site for g in model.description.groups}
    nodes = {g.name for g in (model.description.inputs, *model.description.groups)}
    draws = PosteriorDraws(
        latents={
            k: _draws_first(v, in_plate=k.rpartition(".")[0] in nodes)
            for k, v in values.items()
            if k not in bulky
        },
        log_prior=_log_density(model_trace, values, num_draws),
        log_q=_log_density(guide_trace, values, num_draws),
    )
    if weights:
        draws.weights = {
            k: v.cpu() for k, v in effective_weights(model.description, values).items()
        }
    if x is not None:
        batches = [
            _predict_batch(
                model,
                _replay(model, guide_trace, num_draws, x[at : at + batch_size]),
                None if y is None else y[at : at + batch_size],
            )
            for at in range(0, len(x), batch_size)
        ]
        means, samples, scores = zip(*batches, strict=True)
        draws.mean, draws.predictive = torch.cat(means, 1), torch.cat(samples, 1)
        draws.log_likelihood = None if y is None else torch.cat(scores, 1)
    return draws


def _replay(model: Network, guide_trace: Trace, num_draws: int, x: Tensor) -> Trace:
    with pyro.plate("draws", num_draws, dim=-2):
        return poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(x)


def _predict_batch(
    model: Network, trace: Trace, y: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mean, sample and log-likelihood of one batch of rows, each ``[S, rows, ...]``."""
    nodes: dict[str, Any] = {**trace.nodes}
    f, obs = nodes["_RETURN"]["value"], nodes["obs"]
    score = None if y is None else obs["fn"].log_prob(y).cpu()
    return model.likelihood.mean(f).cpu(), obs["value"].cpu(), score


def _log_density(trace: Trace, values: Mapping[str, Tensor], num_draws: int) -> Tensor:
    """Sum of the latent sites' log-densities, ``[S]``."""
    total = torch.zeros(
        num_draws, dtype=torch.float64
    )  # sums over every weight lose digits in single
    nodes: dict[str, Any] = {**trace.nodes}
    for name in values:
        score = nodes[name]["fn"].log_prob(nodes[name]["value"])
        total = total + score.reshape(num_draws, -1).double().sum(-1).cpu()
    return total


def _draws_first(value: Tensor, in_plate: bool) -> Tensor:
    """Draws ``[S, ...]``, without the node dimension of 1 that sites outside every node plate carry."""
    return (value if in_plate else value.squeeze(1)).cpu()


@contextmanager
def evaluating(model: Network, guide: Guide) -> Iterator[None]:
    """Hard gates and running statistics for the while."""
    hard, guide.hard = guide.hard, True
    training = model.training
    model.train(False)
    try:
        yield
    finally:
        guide.hard = hard
        model.train(training)


def _concatenated(parts: list[PosteriorDraws]) -> PosteriorDraws:
    def joined(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        return None if tensors[0] is None else torch.cat(tensors)

    def joined_dict(name: str) -> dict[str, Tensor]:
        return {k: torch.cat([getattr(p, name)[k] for p in parts]) for k in getattr(parts[0], name)}

    return PosteriorDraws(
        joined_dict("latents"),
        torch.cat([p.log_prior for p in parts]),
        torch.cat([p.log_q for p in parts]),
        joined_dict("weights"),
        joined("log_likelihood"),
        joined("predictive"),
        joined("mean"),
    )
