"""Variational answers against exact ones on small networks, on what the posterior identifies.

    python benchmarks/trust.py --json trust.json                     # everything; pieces in the file are not run again
    python benchmarks/trust.py --json trust.json --only weak ss-gl   # one piece
    python benchmarks/trust.py --json trust.json --only --plots docs # tables and plots of what the file holds

Problems (fixed; every data set has the same predictors and fresh noise): four linear networks with six gated predictors
and n = 50, noise 1, unknown to the model -- ``strong`` (1.5, -1), ``weak`` (0.35, -0.3, 0.25), ``correlated`` (x1, x2
correlate at 0.95, only x1 acts; x3 and x4 at 0.8, both act), ``null`` -- and ``network``: four gated predictors, two of
which act, three gated tanh nodes, n = 50, noise 0.5. Slabs SS-IG, SS-GL, SS-GHS; prior inclusion 0.3 (nodes 0.5).

Answers: ``exact`` (gates enumerated, Hamiltonian Monte Carlo); ``default``, StructuredGuide with the gates' temperature
at its default of 0.5; ``cooled``, the same guide, temperature from 0.5 to 0.1; ``coupled``, CoupledGuide, after 1,000
further steps in which its gates are held at 1/2 (linear networks), or with a KL warm-up (``network``); ``matched``, the
default with the particles and the steps of ``coupled``. Nothing is removed during training, so that all four speak of
all gates.

Piece ``closed-form``: the exact sampler against closed-form probabilities of all 64 models, noise known; those above
0.001 in units of their Monte-Carlo error. Piece ``cost``: milliseconds a step of the guides, side by side.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pyro
import torch
from torch import Tensor
from trust_problems import CASES, EFFECTS, GUIDES, PRIORS, ROWS, make_network, simulate
from trust_report import print_report, save_plots

import pyro_ssbnn as ss
from pyro_ssbnn.exact import (
    ExactPosterior,
    SamplerOptions,
    linear_evidence,
    r_hat,
    sample_exact_each,
)
from pyro_ssbnn.files.atomic import write_text
from pyro_ssbnn.guides import CoupledGuide
from pyro_ssbnn.inference.guards import CollapseWarning


def sampler_options(case: str, quick: bool) -> SamplerOptions:
    """Size of the exact run."""
    network = case == "network"
    return SamplerOptions(
        num_draws=60 if quick else 500,
        thin=1 if quick else 5 if network else 2,
        warmup=100 if quick else 2000 if network else 600,
        chains=4,
        temperatures=5 if network else 1,
        leapfrog_steps=10 if network else 12,
    )


def training_options(name: str, quick: bool, seed: int = 0) -> ss.TrainingOptions:
    """Options of a guide's fit: full batches, 3,000 steps; ``held`` comes before ``coupled`` on linear networks."""
    own = {
        "default": {"num_particles": 4},
        "cooled": {"num_particles": 4, "temperature": (0.5, 0.1)},
        "matched": {"num_particles": 16},
        "matched network": {"num_particles": 16},
        "held": {"num_particles": 16, "kl_warmup": 0.0, "gate_rate": 1e-9, "decay_after": 1.0},
        "coupled": {"num_particles": 16, "kl_warmup": 0.0, "gate_rate": 0.05},
        "coupled network": {"num_particles": 16, "kl_warmup": 0.3, "gate_rate": 0.02},
    }[name]
    steps = {"held": 1000, "matched": 4000}.get(name, 3000)
    return ss.TrainingOptions(
        epochs=100 if quick else steps, batch_size=ROWS, remove_below=None, dtype="float64",
        gate_hold=(0.0, 0.0), compile=not quick, seed=seed, **own,
    )  # fmt: skip


def summary(
    gates: dict[str, Tensor], mean: Tensor, predictive: Tensor, noise: Tensor, y: Tensor
) -> dict:
    """What is compared, from S draws of gates ``[S, size]``, means and targets ``[S, T]``, noise variances ``[S]``."""
    sizes = {
        name: torch.bincount(z.sum(-1).long(), minlength=z.shape[-1] + 1).double() / len(z)
        for name, z in gates.items()
    }
    low, high = np.quantile(predictive.double().numpy(), [0.025, 0.975], axis=0)
    covered = (y.numpy() >= low) & (y.numpy() <= high)
    epistemic = mean.double().var(0)
    return {
        "sizes": {name: p.tolist() for name, p in sizes.items()},
        "mean": _kept(mean.double().mean(0)),
        "epistemic_sd": _kept(epistemic.sqrt()),
        "predictive_sd": _kept((epistemic + noise.double().mean()).sqrt()),
        "coverage": float(covered.mean()),
    }


def _kept(values: Tensor) -> list[float]:
    """What the file keeps: the first 100 fresh rows, four decimals."""
    return [round(value, 4) for value in values[:100].tolist()]


def exact_answer(posterior: ExactPosterior, x: Tensor, y: Tensor) -> dict:
    """Summary of an exact posterior with its Monte-Carlo errors and R-hat."""
    predictions = posterior.predict(x)
    gates = {site.rpartition(".")[0]: z.flatten(0, 1) for site, z in posterior.gates.items()}
    flat = (predictions.mean[..., 0] if predictions.mean.ndim == 4 else predictions.mean).flatten(
        0, 1
    )
    noise = posterior.latents["noise.variance"].flatten()
    found = summary(gates, flat, predictions.predictive.flatten(0, 1), noise, y)
    found["inclusion"] = posterior.inclusion()["input"].tolist()
    found["inclusion_error"] = posterior.inclusion_error()["input"].tolist()
    found["sizes"] = {name: posterior.model_size(name).mean.tolist() for name in gates}
    watched = {"log_joint": posterior.log_joint, "noise": posterior.latents["noise.variance"]}
    watched |= {f"{name}.size": posterior.gate_probability(name).sum(-1) for name in gates}
    found["r_hat"] = {name: float(r_hat(draws)) for name, draws in watched.items()}
    found["r_hat"]["inclusion"] = float(np.nanmax(r_hat(posterior.gate_probability("input"))))
    found["r_hat"]["predictive mean"] = float(np.nanmax(r_hat(predictions.mean.flatten(2))))
    return found


def fitted_answer(
    model: ss.MLP, name: str, x: Tensor, y: Tensor, fresh: tuple, quick: bool
) -> dict:
    """Fit one guide and summarise it."""
    torch.manual_seed(0)
    guide = CoupledGuide(model) if name == "coupled" else ss.StructuredGuide(model)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)  # no node is the right answer to no signal
        linear = len(model.description.groups) == 1
        if name == "coupled" and linear:
            # Weights learn what every set of gates asks of them; then the gates move.
            ss.fit(model, x, y, training_options("held", quick), guide=guide, progress=False)
        tuned = name in ("coupled", "matched") and not linear
        options = training_options(f"{name} network" if tuned else name, quick)
        fit = ss.fit(model, x, y, options, guide=guide, progress=False)
    seconds = time.perf_counter() - start
    draws = ss.draw_posterior(fit.model, fit.guide, 4000, x=fresh[0], seed=1)
    gates = {k.rpartition(".")[0]: v for k, v in draws.latents.items() if k.endswith(".gate")}
    mean = draws.mean.reshape(4000, -1)
    noise = draws.latents["noise.variance"].flatten()
    found = summary(gates, mean, draws.predictive.reshape(4000, -1), noise, fresh[1])
    found["inclusion"] = fit.guide.inclusion()["input"].tolist()
    bound = ss.AnalyticELBO(500)
    bounds = [-bound.loss(fit.model, fit.guide, x, y) for _ in range(10)]
    found |= {"elbo": float(np.mean(bounds)), "seconds": round(seconds, 1)}
    return found


def run_piece(case: str, prior: str, sets: int, quick: bool) -> list[dict]:
    """All answers for every data set of a case under a prior."""
    x, targets, fresh, fresh_targets = simulate(case, sets)
    model = make_network(case, prior)
    start = time.process_time()
    posteriors = sample_exact_each(model, x, targets, sampler_options(case, quick), seed=0)
    seconds = (time.process_time() - start) / sets
    records = []
    for posterior, y, y_fresh in zip(posteriors, targets, fresh_targets, strict=True):
        record = {"exact": exact_answer(posterior, fresh, y_fresh) | {"seconds": seconds}}
        for name in GUIDES:
            record[name] = fitted_answer(
                make_network(case, prior), name, x, y, (fresh, y_fresh), quick
            )
        records.append(record)
    return records


def fit_again(piece: str, records: list[dict], guide: str, quick: bool) -> None:
    """Fit one guide anew to every data set of a piece, in place; the other answers are kept."""
    case, prior = piece.split()
    x, targets, fresh, fresh_targets = simulate(case, len(records))
    for record, y, y_fresh in zip(records, targets, fresh_targets, strict=True):
        model = make_network(case, prior)
        record[guide] = fitted_answer(model, guide, x, y, (fresh, y_fresh), quick)


def run_closed_form(quick: bool) -> dict:
    """Exact sampler against the closed form, all 64 models of each linear case."""
    results = {}
    for case in EFFECTS:
        x, targets, _, _ = simulate(case, 1)
        likelihood = ss.GaussianLikelihood(scale=1.0)
        net = ss.MLP(6, [], prior=ss.Gaussian(), likelihood=likelihood, input_inclusion=0.3)
        options = sampler_options(case, quick)
        posterior = sample_exact_each(net, x, targets, options, seed=0)[0]
        estimate = posterior.structure_probabilities()
        exact = linear_evidence(x, targets[0], noise_scale=1.0, inclusion=0.3).probability
        # Errors of rarer models rest on a handful of excursions: they mean nothing.
        judged = exact > 1e-3
        scores = ((estimate.mean - exact) / estimate.error)[judged].numpy()
        results[case] = {
            "total variation": float(0.5 * (estimate.mean - exact).abs().sum()),
            "largest difference": float((estimate.mean - exact).abs().max()),
            "largest z": float(np.abs(scores).max()),
            "above 2": int((np.abs(scores) > 2).sum()),
            "models": len(scores),
            "mass": float(exact[judged].sum()),
            "r_hat": float(np.nanmax(r_hat(posterior.structure_probability))),
        }
    return results


def run_cost(quick: bool, steps: int = 300) -> dict:
    """Milliseconds a step, compiled, in turns: medians of five rounds of ``steps`` steps."""
    from pyro_ssbnn.inference.step import CompiledStep, EagerStep

    costs = {}
    for case in ("weak", "network"):
        x, targets, _, _ = simulate(case, 1)
        model = make_network(case, "ss-ghs")
        step_class = EagerStep if quick else CompiledStep
        guides = {
            "default": (ss.StructuredGuide, 4),
            "default, 16 particles": (ss.StructuredGuide, 16),
        }
        guides["coupled, 16 particles"] = (CoupledGuide, 16)
        runs = {}
        for name, (make, particles) in guides.items():
            elbo = ss.AnalyticELBO(particles, local_reparameterization=True)
            runs[name] = step_class(model, make(model).double(), elbo, len(x))
            with pyro.validation_enabled(False):
                runs[name](x, targets[0], x.new_ones(()))
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(5):
            for name, step in runs.items():
                start = time.perf_counter()
                with pyro.validation_enabled(False):
                    for _ in range(10 if quick else steps):
                        step(x, targets[0], x.new_ones(()))
                taken = (time.perf_counter() - start) / (10 if quick else steps)
                times[name].append(1e3 * taken)
        costs[case] = {name: float(np.median(values)) for name, values in times.items()}
    return costs


def main() -> None:
    """Run the pieces that the file does not hold yet, then print what it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="*", action="append", metavar="NAME", help="a piece; may be repeated"
    )
    parser.add_argument("--sets", type=int, default=3, help="data sets of each case")
    parser.add_argument("--quick", action="store_true", help="to see that it runs; means nothing")
    parser.add_argument("--json", type=Path, help="all figures; pieces it holds are kept")
    parser.add_argument("--redo", choices=GUIDES, help="fit this guide again in pieces held")
    parser.add_argument("--plots", type=Path, help="folder for the plots")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = (
        json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
    )
    wanted = [f"{case} {prior}" for case in CASES for prior in PRIORS] + ["closed-form", "cost"]
    if arguments.only:
        chosen = [" ".join(words) for words in arguments.only if words]
        if unknown := set(chosen) - set(wanted):
            parser.error(f"--only: expected pieces out of {wanted}; got {sorted(unknown)}")
        wanted = chosen
    for piece in wanted:
        if piece in results:
            if arguments.redo and isinstance(results[piece], list):
                fit_again(piece, results[piece], arguments.redo, arguments.quick)
        elif piece == "closed-form":
            results[piece] = run_closed_form(arguments.quick)
        elif piece == "cost":
            results[piece] = run_cost(arguments.quick)
        else:
            results[piece] = run_piece(
                *piece.split(), 1 if arguments.quick else arguments.sets, arguments.quick
            )
        if arguments.json:
            write_text(arguments.json, json.dumps(results) + "\n")
    print_report(results)
    if arguments.plots:
        save_plots(results, arguments.plots)


if __name__ == "__main__":
    main()
