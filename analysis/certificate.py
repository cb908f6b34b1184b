r"""The exact answer beside the variational one, for a fit that leaves few gates undecided.

The network is cut down to what the fit leaves open, and the posterior of what is left is sampled: gates enumerated,
weights by tempered Hamiltonian moves (:mod:`pyro_ssbnn.exact`). Half of the chains begin at draws of the guide, the
others far apart, so that R-hat also says whether the fit is where the posterior is.

What is decided, and what a structure of the cut network stands for, is in :mod:`pyro_ssbnn.analysis.undecided`. What
the guide gives to everything left out is reported; the exact posterior of it is not known.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_ssbnn.analysis.exact_data import exact_summary
from pyro_ssbnn.analysis.undecided import Undecided
from pyro_ssbnn.checks import check_positive, check_that
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.exact import (
    MAX_GATES,
    EnumeratedDensity,
    ExactPosterior,
    SamplerOptions,
    r_hat,
    standard_error,
)
from pyro_ssbnn.exact.sampler import batched_score, sampled
from pyro_ssbnn.exact.tempering import Score
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.inference.guards import check_data
from pyro_ssbnn.inference.training_rows import require_in_memory
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.posterior.draws import evaluating, site_values, trace_draws
from pyro_ssbnn.structure.network import Network

__all__ = ["Certificate", "certify"]

_DECIDED = 0.005
_CORRELATED = 0.7
_CHAINS, _RUNGS, _LEAPFROG = 4, 8, 12
_LEAST = 200  # kept draws of a chain, and as many to warm up
_MOST = 2_000
_SHARE = 0.8  # of the budget that is planned for
_STARTS = 64
_R_HAT, _ERROR, _EDGE = 1.05, 0.03, 0.05
_EXACT = ("exact", "error", "r_hat")


@dataclass(frozen=True)
class Certificate:
    """Exact beside variational.

    :param certified: whether the exact column can be quoted.
    :param finding: what came out, or why it could not be had, in plain sentences.
    :param table: one row for each undecided predictor or linear term, by name, and ``{group}.size`` for the number of
        open gates of each group, in both columns without the predictors that are taken for closed; columns
        ``variational`` (of members removed in training their last inclusion), ``exact``, ``error`` (Monte-Carlo
        standard error) and ``r_hat``. Exact columns are NaN where nothing was sampled.
    :param open: names of members taken for open, by group.
    :param closed: numbers of members taken for closed, by group.
    :param left_out: probability under the guide of everything that was left out.
    :param r_hat: the largest of the table's and of the log-joint's; NaN where nothing was sampled.
    :param seconds: wall-clock time of the sampling.
    :param posterior: the draws; None where nothing was sampled.
    """

    certified: bool
    finding: str
    table: pd.DataFrame
    open: Mapping[str, list[str]]
    closed: Mapping[str, int]
    left_out: float
    r_hat: float = math.nan
    seconds: float = 0.0
    posterior: ExactPosterior | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.finding}\n{self.table.round(3).to_string()}"


def certify(
    fit: Fit,
    x: Tensor,
    y: Tensor,
    *,
    budget: float = 60.0,
    decided: float = _DECIDED,
    correlated: float = _CORRELATED,
    seed: int = 0,
    progress: bool = False,
) -> Certificate:
    """Sample the exact posterior of what a fit leaves undecided; see the module.

    For networks of dense layers with at most twelve undecided gates: each doubles the cost. Whether it can be had is
    said by the answer, not by an exception.

    :param x: predictors ``[N, columns]`` that were fitted to, scaled as they were.
    :param y: their targets, ``[N]`` (``[N, K]`` for several).
    :param budget: wall-clock seconds for the sampling; a run too short for it is not begun.
    :param decided: distance from 0 or 1 within which an inclusion probability counts as decided, in (0, 0.5).
    :param correlated: absolute correlation, in (0, 1], from which a predictor is undecided beside one that is in; 1
        takes the fit's word.
    :param seed: of the run; the caller's random state is left untouched.
    :param progress: show a progress bar.
    :raises ConfigurationError: for options outside their domain, a network without gates, or one whose layers gates
        cannot be broadcast through (convolutions).
    :raises DataError: for data that do not fit the network.
    """
    check_that("certify", "fit", fit, isinstance(fit, Fit), "what fit returned")
    fit.require_match("certify")
    check_positive("certify", budget=budget)
    check_that("certify", "decided", decided, 0 < decided < 0.5, "within (0, 0.5)")
    check_that("certify", "correlated", correlated, 0 < correlated <= 1, "within (0, 1]")
    require_in_memory("certify", x)
    check_data("certify", fit.model, x, y)
    if not fit.model.description.gate_groups:
        raise ConfigurationError("certify: this network has no gates to be certain of.")
    cut = Undecided(fit, x, decided, correlated)
    if cut.number > MAX_GATES:
        counts = ", ".join(f"{int(f.sum())} of {name}" for name, f in cut.free.items())
        return _certificate(
            cut,
            f"Not certified: {cut.number} gates are undecided ({counts}), more than the {MAX_GATES} that can be"
            " enumerated. Train longer, ask for less certainty (decided), or quote credible sets.",
        )
    with isolated(seed, next(fit.guide.parameters()).double(), grad=True):
        return _sample(cut, x, y, budget, progress)


def _certificate(cut: Undecided, finding: str, **found: Any) -> Certificate:
    """An answer with what is known without sampling; ``found`` is what is known beside."""
    closed = {name: ~cut.free[name] & ~is_open for name, is_open in cut.is_open.items()}
    if cut.screened:
        finding += f" Not in that: predictors screened out before training ({cut.screened:,})."
    return Certificate(
        finding=finding,
        open=cut.names(cut.is_open),
        closed={name: int(mask.sum()) for name, mask in closed.items()},
        left_out=cut.left_out,
        **{"certified": False, "table": _table(cut, None), **found},
    )


def _table(cut: Undecided, posterior: ExactPosterior | None) -> pd.DataFrame:
    """Exact beside variational."""
    rows, kept = {}, cut.kept
    for name, free in cut.free.items():
        gates = None if posterior is None else posterior.gate_probability(name)
        if name not in cut.layers:
            names, places = cut.whole.member_names(name), kept[name].tolist()
            for j in free.nonzero().flatten().tolist():
                drawn = None if gates is None else gates[..., places.index(j)]
                rows[names[j]] = _row(cut.inclusion[name][j], drawn)
        number = None if gates is None else gates.sum(-1)
        rows[f"{name}.size"] = _row(cut.expected_size(name), number)
    return pd.DataFrame.from_dict(rows, orient="index")


def _row(variational: Tensor, drawn: Tensor | None) -> dict[str, float]:
    if drawn is None:
        return {"variational": float(variational), **dict.fromkeys(_EXACT, math.nan)}
    exact = (float(drawn.double().mean()), float(standard_error(drawn)), float(r_hat(drawn)))
    return {"variational": float(variational), **dict(zip(_EXACT, exact, strict=True))}


def _sample(cut: Undecided, x: Tensor, y: Tensor, budget: float, progress: bool) -> Certificate:
    """Sample as long as the budget lasts; the random state is the caller's."""
    began = time.perf_counter()
    kept = cut.kept
    model = cut.fit.model.narrowed(kept)
    columns = cut.whole.inputs.columns.indices(kept)
    x, y = x.detach().cpu().double()[:, columns], y.detach().cpu()
    targets = (y.double() if y.dtype.is_floating_point else y).unsqueeze(0)
    density = EnumeratedDensity(model, x, targets[0], cut.structures(model))
    sizes = {"chains": _CHAINS, "temperatures": _RUNGS, "leapfrog_steps": _LEAPFROG}
    score = batched_score(density, targets, SamplerOptions(**sizes))
    each = _seconds(score, density.dim) * (1 + _LEAPFROG / 2)
    left = _SHARE * budget - (time.perf_counter() - began)
    iterations = min(int(left / each), 2 * _MOST)
    if iterations < 2 * _LEAST:
        needed = (2 * _LEAST * each + time.perf_counter() - began) / _SHARE
        return _certificate(
            cut,
            f"Not certified: the budget of {budget:g} s is too short. {2**cut.number:,} structures and"
            f" {len(x):,} rows take {needed:,.0f} s at least on this machine.",
        )
    options = SamplerOptions(num_draws=iterations // 2, warmup=iterations // 2, **sizes)
    start = _starts(cut, model, density)
    (posterior,) = sampled(density, score, targets, options, progress=progress, start=start)
    return _judged(cut, posterior, time.perf_counter() - began)


def _seconds(score: Score, dim: int) -> float:
    """Time that one gradient of all replicas takes."""
    points = torch.zeros(_RUNGS, 1, _CHAINS, dim, dtype=torch.float64)
    beta = points.new_ones(points.shape[:-1])
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        score(points, beta)
        taken.append(time.perf_counter() - began)
    return sum(taken[1:]) / 3  # the first one warms up


def _starts(cut: Undecided, model: Network, density: EnumeratedDensity) -> Tensor:
    """Draws of the fit's own guide, ``[S, dim]``."""
    twin: Any = deepcopy(cut.fit.guide)  # a settled guide would be released
    guide: Any = twin.narrowed(model, cut.kept).double()
    with torch.no_grad(), evaluating(model, guide):
        values = site_values(trace_draws(guide, _STARTS))
    return density.unconstrained(values)


def _judged(cut: Undecided, posterior: ExactPosterior, seconds: float) -> Certificate:
    """Whether the sample can be quoted, in words."""
    table = _table(cut, posterior)
    largest = float(np.nanmax(exact_summary(posterior)["r_hat"]))
    found = {"table": table, "r_hat": largest, "seconds": seconds, "posterior": posterior}
    error, edge = float(table["error"].max()), _edge(cut, posterior)
    reasons = []
    if largest > _R_HAT:
        reasons.append(f"R-hat is {largest:.2f}, above {_R_HAT}: the chains do not agree")
    if error > _ERROR:
        reasons.append(f"the Monte-Carlo error is {error:.3f}, above {_ERROR}")
    reasons += [f"{p:.2f} of the posterior is {what}" for what, p in edge.items() if p > _EDGE]
    if reasons:
        return _certificate(
            cut,
            f"Not certified: {'; '.join(reasons)}. Give a larger budget, or a smaller ``decided``.",
            **found,
        )
    apart = (table["exact"] - table["variational"]).abs()
    finding = (
        f"Certified: the fit is {apart.max():.2f} from the exact answer at most ({apart.idxmax()}); R-hat is at most"
        f" {largest:.3f}. Left out is what the fit gives {cut.left_out:.2g} at most."
    )
    return _certificate(cut, finding, **{**found, "certified": True})


def _edge(cut: Undecided, posterior: ExactPosterior) -> dict[str, float]:
    """Exact probability of the smallest and the largest number of nodes there is among the structures.

    What lies beyond is not known, and rarely larger.
    """
    found = {}
    for name in cut.layers:
        mass = posterior.model_size(name).mean
        least = int(cut.is_open[name].sum())
        most = least + int(cut.free[name].sum())
        if least > 0:
            found[f"at {least} nodes of {name}, the fewest that were looked at"] = float(
                mass[least]
            )
        if most < cut.whole[name].size:
            found[f"at {most} nodes of {name}, the most that were looked at"] = float(mass[most])
    return found
