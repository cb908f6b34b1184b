"""Predictions averaged over draws, of the whole posterior or of a pruned network, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor, nn

from pyro_ssbnn.checks import (
    check_at_least_one,
    check_draws,
    check_rows,
    check_seed,
    check_tensors,
    check_that,
    tensor_of,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.models import CompactNetwork
from pyro_ssbnn.posterior.ensemble import compact_ensemble, posterior_ensemble
from pyro_ssbnn.posterior.networks import MEMORY
from pyro_ssbnn.posterior.summary import PredictiveSummary
from pyro_ssbnn.rows.sources import source_of
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network

__all__ = ["predict", "predict_blocks", "predict_compact"]


def predict(
    model: Network,
    guide: Guide | MixtureGuide,
    x: Tensor | ArrayLike,
    y: Tensor | ArrayLike | None = None,
    *,
    quantiles: Sequence[float] = (),
    num_draws: int = 100,
    seed: int = 0,
    memory: int = MEMORY,
) -> PredictiveSummary:
    """Predict with draws from the whole posterior, gates drawn too.

    A row's prediction depends on the draws alone: it is the same beside other rows, in any order and in any memory, but
    for rounding. The draws are those of :func:`~pyro_ssbnn.draw_posterior` with the same number and seed.

    :param guide: of the network; of the draws from a :class:`~pyro_ssbnn.MixtureGuide` each member has its share.
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
    check_draws("predict", num_draws)
    check_seed(seed)
    check_at_least_one("predict", memory=memory)
    x = tensor_of("predict", "x", x, model.description.inputs.column_names)
    y = None if y is None else tensor_of("predict", "y", y)
    check_rows("predict", x, y, model.description.inputs.column_names)
    ensemble = posterior_ensemble(model, guide, num_draws, seed=seed, rows=len(x), memory=memory)
    return ensemble.summary(x, y, quantiles)


def predict_blocks(
    model: Network,
    guide: Guide | MixtureGuide,
    rows: Any,
    *,
    scored: bool = True,
    quantiles: Sequence[float] = (),
    num_draws: int = 100,
    seed: int = 0,
    memory: int = MEMORY,
) -> Iterator[PredictiveSummary]:
    """Predict rows that are read in pieces, as :func:`predict` does, and give what is said of each piece.

    Neither x nor the answer is ever in memory as a whole.

    :param rows: a source, or a data set or loader of torch; see :mod:`pyro_ssbnn.rows`. A source without targets will
        do.
    :param scored: whether targets, where the rows bring them, are scored.
    :returns: Summaries of some rows each, in the order of the source.
    :raises ConfigurationError: as :func:`predict`, and for rows that are no source.
    :raises DataError: as :func:`predict`, when it comes to the rows in question.
    """
    require_match("predict_blocks", model, guide)
    check_draws("predict_blocks", num_draws)
    check_seed(seed)
    check_at_least_one("predict_blocks", memory=memory)
    source = source_of("predict_blocks", rows)
    expected = (
        "a data set or loader of torch, or a source of pyro_ssbnn.rows; predict takes tensors"
    )
    check_that("predict_blocks", "rows", rows, source is not None, expected)
    names = model.description.inputs.column_names
    ensemble = None
    for x, y in source.blocks():  # type: ignore[union-attr]
        check_rows("predict_blocks", x, y, names)
        if ensemble is None:
            ensemble = posterior_ensemble(
                model, guide, num_draws, seed=seed, rows=len(x), memory=memory
            )
        yield ensemble.summary(x, y if scored else None, quantiles)


def predict_compact(
    network: nn.Module,
    likelihood: Likelihood,
    x: Tensor | ArrayLike,
    y: Tensor | ArrayLike | None = None,
    *,
    quantiles: Sequence[float] = (),
    latents: Mapping[str, Tensor] | None = None,
    memory: int = MEMORY,
) -> PredictiveSummary:
    """Predict with a pruned network, of posterior mean weights or of draws.

    :param network: maps ``[N, p]`` to f, ``[N, K]`` or ``[S, N, K]``, as :func:`~pyro_ssbnn.prune` returns it.
    :param likelihood: of the model it was cut from.
    :param x: predictors ``[N, p]``.
    :param y: targets to score, ``[N]`` (``[N, K]`` for several).
    :param quantiles: probabilities of quantiles of y to compute; see :func:`predict`.
    :param latents: draws of the likelihood's own latents, such as an unknown noise, by site name, ``[S, ...]``:
        ``draw_posterior(model, guide, S).latents``; others among them are ignored.
    :param memory: bytes to work in, beside x, y and the answer.
    :raises ConfigurationError: for a latent of the likelihood that is not given, draws in another number than the
        network's, and a likelihood of another number of outputs.
    :raises DataError: for x or y of the wrong shape, or with missing or infinite values.
    """
    x = tensor_of("predict_compact", "x", x)
    y = None if y is None else tensor_of("predict_compact", "y", y)
    check_tensors("predict_compact", x=x, y=y)
    size = network.num_inputs if isinstance(network, CompactNetwork) else None
    names = [f"x{i + 1}" for i in range(x.shape[-1] if size is None else size)]
    check_rows("predict_compact", x, y, names)
    own = _latents(likelihood, latents or {})
    ensemble = compact_ensemble(network, likelihood, own, x[:1], rows=len(x), memory=memory)
    return ensemble.summary(x, y, quantiles)


def _latents(likelihood: Likelihood, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The likelihood's own latents among draws by site name, ``[S, 1, ...]``: draws, rows, and what is one value."""
    found = {}
    for name in likelihood.latent_names:
        sites = [site for site in latents if site == name or site.endswith(f".{name}")]
        if len(sites) != 1:
            raise ConfigurationError(
                f"predict_compact: {type(likelihood).__name__} has the latent {name!r}, which a pruned network does not"
                f" carry; give its draws, latents=draw_posterior(model, guide, 100).latents. Got {sorted(latents)}."
            )
        found[name] = latents[sites[0]].unsqueeze(1)
    return found
