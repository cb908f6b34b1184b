r"""What the right likelihood gains: simulated targets of five kinds, scored on rows that nobody fitted.

    python benchmarks/likelihoods.py --json benchmarks/results/likelihoods.json
    python benchmarks/likelihoods.py --quick

=================== ============================================================ =====================================
problem             targets, n = 1,500 (counts) or 600 rows to fit               rivals
=================== ============================================================ =====================================
counts, log-linear  negative binomial, five of 20 predictors, dispersion 1.5     Poisson; negative binomial GLM
counts, curved      the same, log mean with a sine, a square and a product       Poisson; negative binomial GLM
heavy tails         Friedman's function of x1..x5 of 10, t errors of 3 degrees   Gaussian
varying spread      Friedman's function, log sd linear in x4 and x6              Gaussian
grades              five grades of a curved latent                               categorical
censored times      Weibull times, a third of them censored                      censored times taken for events
=================== ============================================================ =====================================

Scores are mean log predictive densities in nats a row, beside the truth's own. Coverage is the share of the probability
integral transform within (0.05, 0.95), ties split at random: 0.9 for a calibrated forecast, also of counts, whose
intervals cannot be cut to 0.9 exactly. Predictors are standard Normal (uniform for Friedman's function), with gates of
prior inclusion 0.2. Fits are of 16 nodes, at the package's defaults.
The GLM is statsmodels' NB2 with all predictors and its own dispersion.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyro.distributions as dist
import torch
from resume import run_missing
from torch import Tensor

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CollapseWarning

ROWS_TO_SCORE = 4_000
DRAWS = 500


@dataclass(frozen=True)
class Problem:
    """Simulated data.

    :param make: from predictors to the distribution of the targets given the truth.
    :param rows: to fit.
    :param predictors: p; the first five (of ``varying spread`` six) matter.
    :param real: those that matter.
    :param candidates: likelihoods by name, made from the training targets; the right one first.
    :param uniform: predictors uniform on (0, 1), standardised for the fit, in place of standard Normal.
    """

    make: Callable[[Tensor], dist.TorchDistribution]
    rows: int
    predictors: int
    real: tuple[int, ...]
    candidates: dict[str, Callable[[Tensor], ss.Likelihood]]
    uniform: bool = False


def counts(log_mean: Tensor, dispersion: float = 1.5) -> dist.TorchDistribution:
    """Negative binomial of this log mean."""
    shape = torch.tensor(1 / dispersion, dtype=log_mean.dtype)
    return dist.NegativeBinomial(shape, logits=log_mean - shape.log())


def log_linear(x: Tensor) -> dist.TorchDistribution:
    """Counts with a mean of 2.2 at the centre."""
    weights = x.new_tensor([0.5, -0.4, 0.3, 0.3, -0.3])
    return counts(0.8 + x[:, :5] @ weights)


def curved(x: Tensor) -> dist.TorchDistribution:
    """Counts whose log mean no linear one comes near."""
    a, b, c, d, e = x[:, :5].unbind(1)
    return counts(0.8 + 0.7 * torch.sin(2 * a) + 0.5 * b * c + 0.4 * (d.square() - 1) - 0.5 * e)


def friedman(x: Tensor) -> Tensor:
    """Friedman's (1991) function of five uniform predictors; its standard deviation is 4.9."""
    a, b, c, d, e = x[:, :5].unbind(1)
    return 10 * torch.sin(torch.pi * a * b) + 20 * (c - 0.5).square() + 10 * d + 5 * e


def grades(x: Tensor) -> dist.TorchDistribution:
    """Five grades of a latent with logistic noise."""
    f = 1.5 * torch.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + x[:, 3]
    cuts = x.new_tensor([-2.0, -0.7, 0.7, 2.0])
    below = torch.sigmoid(cuts - f.unsqueeze(1))
    ends = below.new_zeros(len(x), 1)
    return dist.Categorical(torch.cat([ends, below, ends + 1], 1).diff(dim=1))


def times(x: Tensor) -> dist.TorchDistribution:
    """Weibull times of shape 1.5."""
    return dist.Weibull(
        torch.exp(torch.sin(2 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2]), x.new_tensor(1.5)
    )


def in_counts(kind: type[ss.Likelihood]) -> Callable[[Tensor], ss.Likelihood]:
    """A likelihood of counts with the unit and the bound that are suggested."""
    return lambda y: kind(unit=float(y.mean()), largest=10 * float(y.max()))  # type: ignore[call-arg]


COUNTS = {
    "negative binomial": in_counts(ss.NegativeBinomialLikelihood),
    "Poisson": in_counts(ss.PoissonLikelihood),
}
GAUSSIAN = {"Gaussian": lambda _: ss.GaussianLikelihood()}
PROBLEMS = {
    "counts, log-linear": Problem(log_linear, 1_500, 20, (0, 1, 2, 3, 4), COUNTS),
    "counts, curved": Problem(curved, 1_500, 20, (0, 1, 2, 3, 4), COUNTS),
    "heavy tails": Problem(
        lambda x: dist.StudentT(x.new_tensor(3.0), friedman(x), x.new_tensor(1.0)),
        600,
        10,
        (0, 1, 2, 3, 4),
        {"Student-t": lambda _: ss.StudentTLikelihood(), **GAUSSIAN},
        uniform=True,
    ),
    "varying spread": Problem(
        lambda x: dist.Normal(friedman(x), torch.exp(2 * (x[:, 3] - 0.5) + 2 * (x[:, 5] - 0.5))),
        600,
        10,
        (0, 1, 2, 3, 4, 5),
        {"heteroscedastic": lambda _: ss.HeteroscedasticLikelihood(), **GAUSSIAN},
        uniform=True,
    ),
    "grades": Problem(
        grades,
        600,
        10,
        (0, 1, 2, 3),
        {
            "ordinal": lambda _: ss.OrdinalLikelihood(5),
            "categorical": lambda _: ss.CategoricalLikelihood(5),
        },
    ),
    "censored times": Problem(
        times,
        600,
        10,
        (0, 1, 2),
        {
            "Weibull": lambda _: ss.WeibullLikelihood(),
            "censored as events": lambda _: ss.WeibullLikelihood(),
        },
    ),
}


def run(name: str, seed: int, options: ss.TrainingOptions) -> dict[str, dict[str, float]]:
    """Fit all candidates to one data set; scores by candidate."""
    problem = PROBLEMS[name]
    torch.manual_seed(1_000 * seed + list(PROBLEMS).index(name))
    draw = torch.rand if problem.uniform else torch.randn
    raw = draw(problem.rows + ROWS_TO_SCORE, problem.predictors)
    truth = problem.make(raw.double())
    y = truth.sample()
    y = y if name == "grades" else y.float()
    x = (raw - 0.5) * 12**0.5 if problem.uniform else raw
    fitted, scored = slice(problem.rows), slice(problem.rows, None)
    found = {"truth": {"log density": float(truth.log_prob(y)[scored].mean())}}
    target, scale = y, 1.0
    if problem.uniform:
        scale = float(y[fitted].std())
        target = (y - y[fitted].mean()) / scale
    for candidate, make in problem.candidates.items():
        train = target[fitted]
        if name == "censored times":
            end = 3.5 * torch.rand(problem.rows)
            event = (train <= end) | torch.tensor(candidate == "censored as events")
            train = torch.stack([torch.minimum(train, end), event.float()], 1)
        result = network(make(train), x[fitted], train, options)
        score = ss.predict(result.model, result.guide, x[scored], target[scored], num_draws=DRAWS)
        density = float(score.log_density.mean()) - math.log(scale)
        inclusion = result.guide.inclusion()["input"]
        idle = [i for i in range(problem.predictors) if i not in problem.real]
        found[candidate] = {
            "log density": density,
            "coverage": coverage(result, x[scored], target[scored]),
            "least real": float(inclusion[list(problem.real)].min()),
            "most idle": float(inclusion[idle].max()),
        }
    if name.startswith("counts"):
        found["GLM"] = glm(raw.double().numpy(), y.double().numpy(), problem.rows)
    return found


def network(likelihood: ss.Likelihood, x: Tensor, y: Tensor, options: ss.TrainingOptions) -> ss.Fit:
    """Fit a network with one hidden layer and predictor gates."""
    net = ss.MLP(
        x.shape[1],
        [16],
        prior=ss.SSGHS(),
        likelihood=likelihood,
        activation="tanh",
        input_inclusion=0.2,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return ss.fit(net, x, y, options, progress=False)


def coverage(result: ss.Fit, x: Tensor, y: Tensor) -> float:
    """Share of the rows whose transform lies within (0.05, 0.95), at a thousand rows; classes have none."""
    if result.model.likelihood.predicts_classes:
        return float("nan")
    x, y = x[:1_000], y[:1_000]
    drawn = ss.draw_posterior(result.model, result.guide, 2_000, x=x).predictive
    if drawn is None:
        raise ValueError("draws at rows x have predictions.")
    u = (drawn < y).double().mean(0) + torch.rand(len(y)) * (drawn == y).double().mean(0)
    return float(((u - 0.5).abs() < 0.45).double().mean())


def glm(x: np.ndarray, y: np.ndarray, rows: int) -> dict[str, float]:
    """NB2 regression on all predictors by maximum likelihood."""
    from scipy.stats import nbinom
    from statsmodels.discrete.discrete_model import NegativeBinomial

    x = np.column_stack([np.ones(len(x)), x])
    fitted = NegativeBinomial(y[:rows], x[:rows]).fit(disp=False, maxiter=200)
    weights, shape = fitted.params[:-1], 1 / fitted.params[-1]
    law = nbinom(shape, shape / (shape + np.exp(x[rows:] @ weights)))
    return {"log density": float(law.logpmf(y[rows:]).mean())}


def main() -> None:
    """Run all problems, print a table of means over seeds, and write every figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--json", type=Path, help="file of all figures; what it holds is not run again"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="problems whose name begins so")
    parser.add_argument("--quick", action="store_true", help="one seed, a twentieth of the steps")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    options = ss.TrainingOptions(epochs=60) if chosen.quick else ss.TrainingOptions()
    names = [name for name in PROBLEMS if name.startswith(chosen.only or "")]
    seeds = range(1 if chosen.quick else chosen.seeds)
    keys = [f"{name}, seed {seed}" for name in names for seed in seeds]

    def record(key: str) -> dict:
        name, _, seed = key.rpartition(", seed ")
        start = time.process_time()
        return {
            "scores": run(name, int(seed), options),
            "cpu seconds": time.process_time() - start,
        }

    report(run_missing(keys, record, chosen.json, shown="cpu seconds"))


def report(held: dict) -> None:
    """Print means over the seeds."""
    for name in PROBLEMS:
        runs = [v["scores"] for k, v in held.items() if k.startswith(f"{name}, seed")]
        for candidate in runs[0] if runs else ():
            rows = [r[candidate] for r in runs]
            cells = [
                f"{key} {np.mean([r[key] for r in rows]):.3f}"
                for key in rows[0]
                if rows[0][key] == rows[0][key]
            ]
            worst = (
                [f"worst idle {max(r['most idle'] for r in rows):.2f}"]
                if "most idle" in rows[0]
                else []
            )
            print(f"{name:20} {candidate:20} {'; '.join(cells + worst)}")


if __name__ == "__main__":
    main()
