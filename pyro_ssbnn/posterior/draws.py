"""Draws from the guide: latents with their log-densities, effective weights, predictions.

Gates are always drawn hard here, so that every draw is a network of the model, whatever relaxation trained the guide.
Draws come in blocks whose size and random numbers follow from the network, the number of draws and the seed: neither
the rows to predict at nor the memory to do it in change them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyro
import torch
from numpy.typing import ArrayLike
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from pyro_ssbnn.checks import check_draws, check_rows, tensor_of
from pyro_ssbnn.distributions import CoupledNormal, GatedNormal
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.isolation import isolated, without_parameters
from pyro_ssbnn.posterior.networks import MEMORY, outputs, predictions
from pyro_ssbnn.posterior.parts import parts_of
from pyro_ssbnn.posterior.weights import effective_weights
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network
from pyro_ssbnn.traces import random_sites

__all__ = [
    "PosteriorDraws",
    "draw_latents",
    "draw_posterior",
]

_BLOCK_WEIGHTS = 2**22  # weights drawn at a time; 16 MB in float32
MOST_BYTES = 2**31
"""Bytes that draws take together at most, unless the caller allows more."""


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
    :param member: of a mixture that each draw is of, ``[S]``, ascending; None for the draws of one guide.
    """

    latents: dict[str, Tensor]
    log_prior: Tensor
    log_q: Tensor
    weights: dict[str, Tensor] = field(default_factory=dict)
    log_likelihood: Tensor | None = None
    predictive: Tensor | None = None
    mean: Tensor | None = None
    member: Tensor | None = None


def draw_posterior(
    model: Network,
    guide: Guide | MixtureGuide,
    num_draws: int,
    *,
    x: Tensor | ArrayLike | None = None,
    y: Tensor | ArrayLike | None = None,
    weights: bool = False,
    seed: int = 0,
    memory: int = MEMORY,
    most_bytes: int = MOST_BYTES,
) -> PosteriorDraws:
    """Draw from the guide, and predict by every draw; batch norms use their running statistics.

    The answer holds arrays of draws times rows. :func:`~pyro_ssbnn.predict` has means, densities and quantiles of the
    same draws in memory that grows with neither.

    :param guide: of the network; of the draws from a :class:`~pyro_ssbnn.MixtureGuide` each member has its share.
    :param num_draws: S.
    :param x: predictors ``[N, p]`` to predict at.
    :param y: targets ``[N]`` (``[N, K]`` for several) whose log-likelihood is wanted.
    :param weights: keep the effective weights too.
    :param seed: of the draws; the caller's random state is left untouched. A row's ``predictive`` draws depend on its
        place, everything else on the row alone.
    :param memory: bytes to work in, beside the answer.
    :param most_bytes: bytes that the answer may take.
    :raises ConfigurationError: for a guide of another network, fewer than one draw, and an answer larger than
        ``most_bytes``.
    :raises DataError: for x or y of the wrong shape, or with missing or infinite values.
    """
    require_match("draw_posterior", model, guide)
    check_draws("draw_posterior", num_draws)
    names = model.description.inputs.column_names
    x = None if x is None else tensor_of("draw_posterior", "x", x, names)
    y = None if y is None else tensor_of("draw_posterior", "y", y)
    rows = 0 if x is None else len(x)
    if x is not None:
        check_rows("draw_posterior", x, y, names)
    like = next(guide.parameters())
    _check_size(model, num_draws * like.element_size(), rows, y, weights, most_bytes)
    held: dict[str, Any] = {}
    done = 0
    with torch.no_grad():
        for part in parts_of(model, guide, num_draws, seed):
            start = 0
            for drawn, replayed in draw_traces(part.model, part.guide, part.num_draws, part.seed):
                values = site_values(drawn)
                found = _latents(part.model, values)
                found["log_prior"] = _log_density(replayed, values)
                found["log_q"] = _log_q(guide, drawn, values)
                if weights:
                    found["weights"] = effective_weights(model.description, values)
                if x is not None:
                    f = outputs(part.model, values, x, memory)
                    with isolated(_block_seed(part.seed, start, 1), f):
                        found |= predictions(model, values, f, y)
                if isinstance(guide, MixtureGuide):
                    found["member"] = torch.full((len(found["log_q"]),), part.member)
                _put(held, found, done, num_draws)
                start += len(found["log_q"])
                done += len(found["log_q"])
    return PosteriorDraws(**held)


def draw_traces(
    model: Network, guide: Guide, num_draws: int, seed: int
) -> Iterator[tuple[Trace, Trace]]:
    """Traces of vectorised runs of the guide, and of the model given what it drew, block by block.

    The draws are those of :func:`draw_posterior`; the model's trace is at one row of zeros.
    """
    like = next(guide.parameters())
    anchor = like.new_zeros(1, model.description.inputs.num_columns)
    for start, size in _blocks(model, num_draws):
        with isolated(_block_seed(seed, start), like), evaluating(model, guide):
            drawn = trace_draws(guide, size)
            with pyro.plate("draws", size, dim=-2):
                replayed = poutine.trace(poutine.replay(model, trace=drawn)).get_trace(anchor)
        yield drawn, replayed


def draw_latents(
    model: Network,
    guide: Guide | MixtureGuide,
    num_draws: int,
    seed: int,
    *,
    program: Callable[..., Any] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Values of all latent sites, ``[d, ...]``, block by block: the draws that :func:`draw_posterior` makes.

    Sites outside every node plate have a dimension of 1 after that of the draws.

    :param program: samples the sites in the guide's place, such as the model itself.
    """
    like = next(guide.parameters())
    for part in parts_of(model, guide, num_draws, seed):
        run = part.guide if program is None else program
        for start, size in _blocks(model, part.num_draws):
            block_seed = _block_seed(part.seed, start)
            with isolated(block_seed, like), evaluating(part.model, part.guide):
                values = site_values(trace_draws(run, size))
            yield values


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
    with without_parameters(), ExactDraws(), pyro.plate("draws", num_draws, dim=-2):
        return poutine.trace(guide).get_trace()


def site_values(trace: Trace) -> dict[str, Tensor]:
    """Values of a trace's latent sample sites."""
    nodes: dict[str, Any] = {**trace.nodes}
    return {name: nodes[name]["value"] for name in random_sites(trace)}


@contextmanager
def evaluating(model: Network, guide: Guide) -> Iterator[None]:
    """Hard gates and running statistics for the while."""
    hard, modes = guide.hard, [(module, module.training) for module in model.modules()]
    try:
        guide.hard = True
        model.train(False)
        yield
    finally:
        guide.hard = hard
        for module, training in modes:  # parts may have been set apart by the caller
            module.training = training


def _blocks(model: Network, num_draws: int) -> Iterator[tuple[int, int]]:
    """First draw and number of draws of each block."""
    size = max(1, _BLOCK_WEIGHTS // model.description.num_weights)
    for start in range(0, num_draws, size):
        yield start, min(size, num_draws - start)


def _block_seed(seed: int, start: int, stream: int = 0) -> int:
    """Seed of a block: blocks can be made alone, in any order, and again."""
    words = np.random.SeedSequence((seed % 2**64, start, stream)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def _latents(model: Network, values: Mapping[str, Tensor]) -> dict[str, Any]:
    """Latents ``[d, ...]`` beside the standardised weights, without the dimension of 1 of sites outside node plates."""
    description = model.description
    bulky = {g.weight_site for g in description.groups}
    nodes = description.paths
    kept = {k: v for k, v in values.items() if k not in bulky}
    return {
        "latents": {
            k: v if k.rpartition(".")[0] in nodes else v.squeeze(1) for k, v in kept.items()
        }
    }


def _log_density(trace: Trace, values: Mapping[str, Tensor]) -> Tensor:
    """Sum of the latent sites' log-densities, ``[d]``, float64: sums over every weight lose digits in single."""
    nodes: dict[str, Any] = {**trace.nodes}
    scores = [nodes[name]["fn"].log_prob(value) for name, value in values.items()]
    return torch.stack([score.flatten(1).double().sum(-1) for score in scores]).sum(0)


def _log_q(guide: Guide | MixtureGuide, drawn: Trace, values: Mapping[str, Tensor]) -> Tensor:
    """Log q of draws, ``[d]``; under a mixture every member's density counts, not only that of the one drawn from."""
    if not isinstance(guide, MixtureGuide):
        return _log_density(drawn, values)
    scores = []
    for network, member, weight in guide.members:
        if weight:
            like = next(member.parameters())
            with isolated(0, like), evaluating(network, member):
                size = len(next(iter(values.values())))
                again = trace_draws(poutine.replay(member, trace=drawn), size)
                scores.append(math.log(weight) + _log_density(again, values))
    return torch.stack(scores).logsumexp(0)


def _put(held: dict[str, Any], part: Mapping[str, Any], start: int, num_draws: int) -> None:
    """Put a block of draws into the arrays of all of them, on the CPU."""
    for name, value in part.items():
        if not isinstance(value, Tensor):
            _put(held.setdefault(name, {}), value, start, num_draws)
            continue
        if name not in held:
            shape = (num_draws, *value.shape[1:])
            held[name] = torch.empty(shape, dtype=value.dtype)
        held[name][start : start + len(value)] = value


def _check_size(
    model: Network,
    row_bytes: int,
    rows: int,
    y: Tensor | None,
    weights: bool,
    most_bytes: int,
) -> None:
    """Refuse an answer that is too large.

    :param row_bytes: one number of every draw.
    """
    means = model.likelihood.mean_columns
    columns = means + (1 if model.likelihood.predicts_classes else means) + (y is not None)
    numbers = rows * columns + (model.description.num_weights if weights else 0)
    if numbers * row_bytes > most_bytes:
        raise ConfigurationError(
            f"draw_posterior: the draws would take {numbers * row_bytes / 1e9:,.1f} GB, {numbers:,} numbers each (of"
            f" {rows:,} rows{', and the weights' if weights else ''}), more than most_bytes={most_bytes / 1e9:,.1f} GB."
            " Give fewer rows or draws, or allow more; pyro_ssbnn.predict has means, densities and quantiles of as many"
            " as you like."
        )
