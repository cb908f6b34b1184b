"""Sample the exact posterior of a small network: gates enumerated, continuous latents by tempered Hamiltonian moves."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from pyro_ssbnn.errors import DataError
from pyro_ssbnn.exact.density import EnumeratedDensity
from pyro_ssbnn.exact.posterior import ExactPosterior
from pyro_ssbnn.exact.tempering import SamplerOptions, Score, TemperedDraws, temper
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.structure.network import Network

__all__ = ["sample_exact", "sample_exact_each"]


def sample_exact(
    model: Network,
    x: Tensor,
    y: Tensor,
    options: SamplerOptions | None = None,
    *,
    seed: int = 0,
    progress: bool = False,
) -> ExactPosterior:
    """Sample the exact posterior of a network with at most 12 gates.

    A reference for small networks, not a way to fit: time and memory grow with 2^gates times rows. At 50 rows one
    gradient of one replica takes about 0.4 ms for 6 gates, 8 ms for 10 and 42 ms for 12; the default options ask for
    half a million of them. Posteriors of many modes (more nodes than the data need, much data) need more draws and
    temperatures: look at R-hat (:func:`pyro_ssbnn.analysis.exact_data.exact_summary`) before you trust the answer.

    :param model: any network of dense layers; its priors, likelihood and gates as they are.
    :param x: predictors ``[N, p]``, N at least 1; standardised ones mix best.
    :param y: targets ``[N]`` (``[N, K]`` for several).
    :param options: size and tuning of the run.
    :param seed: of the whole run; the caller's random state is left untouched.
    :param progress: show a progress bar.
    :raises ConfigurationError: for more gates, or a network that structures cannot be broadcast through.
    :raises DataError: for x or y of the wrong shape or outside the likelihood's domain.

    >>> from pyro_ssbnn import MLP, SSIG, GaussianLikelihood
    >>> x = torch.randn(30, 2)
    >>> net = MLP(
    ...     2, [], prior=SSIG(inclusion=0.5), likelihood=GaussianLikelihood(scale=0.5), input_inclusion=0.3
    ... )
    >>> small = SamplerOptions(num_draws=20, warmup=20, chains=2, temperatures=2)  # for a first look
    >>> posterior = sample_exact(net, x, 2 * x[:, 0], small)
    >>> bool(posterior.inclusion()["input"][0] > 0.9)
    True
    """
    _check_rows(model, x, y)
    model.likelihood.check_data(y)
    return sample_exact_each(model, x, y.unsqueeze(0), options, seed=seed, progress=progress)[0]


def sample_exact_each(
    model: Network,
    x: Tensor,
    targets: Tensor,
    options: SamplerOptions | None = None,
    *,
    seed: int = 0,
    progress: bool = False,
) -> list[ExactPosterior]:
    """Sample the posterior given each of several target vectors at the same predictors, side by side in one batch.

    :param targets: ``[G, N]`` (``[G, N, K]`` for several targets); the other parameters as for :func:`sample_exact`.
    :returns: one posterior for each of the G data sets.
    :raises DataError: for shapes that do not match, or values that are missing; else as :func:`sample_exact`.
    """
    options = SamplerOptions() if options is None else options
    if targets.ndim < 2 or len(targets) == 0 or not targets.isfinite().all():
        raise DataError(
            f"sample_exact_each: targets must be [G, N], G at least 1, without missing values; got shape"
            f" {list(targets.shape)}."
        )
    _check_rows(model, x, targets[0])
    x = x.detach().cpu().double()
    y = targets.detach().cpu()
    y = y.double() if y.dtype.is_floating_point else y
    with isolated(seed, x, grad=True):
        density = EnumeratedDensity(model, x, y[0])
        score = batched_score(density, y, options)
        return sampled(density, score, y, options, progress=progress)


def _check_rows(model: Network, x: Tensor, y: Tensor) -> None:
    width = model.description.inputs.num_columns
    if x.ndim != 2 or x.shape[1] != width or len(x) == 0 or y.ndim == 0 or len(x) != len(y):
        raise DataError(
            f"sample_exact: x must be [N, {width}] and y have N entries, N at least 1; got shapes {list(x.shape)}"
            f" and {list(y.shape)}."
        )
    if not x.isfinite().all():
        raise DataError("sample_exact: x has missing or infinite values; remove those rows.")


def batched_score(density: EnumeratedDensity, y: Tensor, options: SamplerOptions) -> Score:
    """The density at all temperatures, data sets and chains at once, as :func:`temper` takes it.

    :param y: targets of each data set, ``[G, N]`` (``[G, N, K]``).
    """
    shape = (options.temperatures, len(y), options.chains)
    count = shape[0] * shape[1] * shape[2]
    replicated = y[None, :, None].expand(*shape, *y.shape[1:]).reshape(count, *y.shape[1:])
    graph = density.traced_score(count, replicated)

    def score(points: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gradient, prior, likelihood = graph(
            points.reshape(count, -1), beta.reshape(count), replicated
        )
        return gradient.reshape(points.shape), prior.reshape(shape), likelihood.reshape(shape)

    return score


def sampled(
    density: EnumeratedDensity,
    score: Score,
    y: Tensor,
    options: SamplerOptions,
    *,
    progress: bool,
    start: Tensor | None = None,
) -> list[ExactPosterior]:
    """Run the sampler, from the random state as it is, and gather what it gives of each data set.

    :param score: what :func:`batched_score` gives.
    :param start: see :func:`temper`.
    """
    total = options.warmup + options.num_draws * options.thin
    with tqdm(total=total, disable=not progress, desc="exact posterior") as bar:
        runs = temper(score, len(y), density.dim, options, bar.update, start)
    return [_posterior(density, runs, index, y[index]) for index in range(len(y))]


def _posterior(
    density: EnumeratedDensity, runs: TemperedDraws, index: int, y: Tensor
) -> ExactPosterior:
    points = runs.points[index]
    flat = points.flatten(0, 1)
    prior, weights = density.log_weights(flat, y.expand(len(flat), *y.shape))
    probability = weights.softmax(-1)
    structure = torch.multinomial(probability, 1).squeeze(-1)
    chosen = weights.gather(-1, structure.unsqueeze(-1)).squeeze(-1)
    shape = points.shape[:2]
    return ExactPosterior(
        model=density.model,
        x=density.x,
        y=y,
        structures=density.structures,
        latents=density.constrained(points)[0],
        structure_probability=probability.float().unflatten(0, shape),
        structure=structure.unflatten(0, shape),
        log_joint=(prior + weights.logsumexp(-1)).unflatten(0, shape),
        log_likelihood=(chosen - density.structures.log_prior()[structure]).unflatten(0, shape),
        log_evidence=runs.log_evidence()[index],
        acceptance=float(runs.acceptance[-1, index]),
        ladder=runs.ladder,
        swap_acceptance=runs.swap_acceptance[:, index],
    )
