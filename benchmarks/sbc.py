"""Simulation-based calibration of the exact sampler: is the posterior it draws from the posterior of its own prior?

    python benchmarks/sbc.py --json sbc.json --plot sbc.png

Weights, gates, scales and data are drawn from the prior predictive of small networks; the sampler is then given the
data alone. If it is right, the rank of each true quantity among L posterior draws is uniform on 0..L (Talts et al.
2018, arXiv 1804.06788). Ranks of discrete quantities break ties at random, which keeps them uniform. Reported for each
quantity: the p-value of a chi-square test with equal bins, and the largest distance of the ranks' distribution from
uniform, in units of its pointwise standard deviation sqrt(z(1 - z)/S), beside the value that one in twenty sets of S
uniform ranks exceeds somewhere (a simultaneous band, as in Säilynoja, Bürkner and Vehtari 2022).

Two cases: ``linear``, four gated predictors and unknown noise; ``network``, two gated predictors, three gated hidden
nodes, one output (the horseshoe slab). Predictors are the same in all simulations of a case, so that all posteriors
are sampled side by side in one batch.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from pyro import poutine
from scipy import stats

import pyro_ssbnn as ss
from pyro_ssbnn.exact import SamplerOptions, r_hat, sample_exact_each
from pyro_ssbnn.files.atomic import write_text

CASES = ("linear", "network")
ROWS = {"linear": 20, "network": 12}
LIKELIHOOD = ss.GaussianLikelihood(concentration=3.0, rate=0.5)  # noise variance of mean 1/4


def make_network(case: str) -> ss.MLP:
    """The network of a case."""
    if case == "linear":
        return ss.MLP(4, [], prior=ss.Gaussian(), likelihood=LIKELIHOOD, input_inclusion=0.4)
    return ss.MLP(
        2,
        [3],
        prior=ss.SSGHS(inclusion=0.5),
        likelihood=LIKELIHOOD,
        activation="tanh",
        input_inclusion=0.6,
    )


def prior_predictive(net: ss.MLP, x: torch.Tensor, count: int) -> list[dict[str, torch.Tensor]]:
    """Draws of all latents, of y and of f, one dictionary each."""
    draws = []
    for _ in range(count):
        trace = poutine.trace(net).get_trace(x)
        values = {name: trace.nodes[name]["value"] for name in trace.stochastic_nodes}
        draws.append({**values, "f": trace.nodes["_RETURN"]["value"]})
    return draws


def quantities(net, latents, f_test, log_likelihood) -> dict[str, np.ndarray]:
    """Identifiable quantities of draws ``[...]``, or of the truth."""
    found = {"noise variance": latents["noise.variance"], "f at a test point": f_test}
    found["log-likelihood"] = log_likelihood
    for group in net.description.gate_groups:
        gate = latents[group.gate_site]
        found[f"{group.name} size"] = gate.sum(-1)
        if group.name == "input":
            found |= {f"z of {n}": gate[..., j] for j, n in enumerate(net.description.inputs.names)}
    return {name: torch.as_tensor(value).double().numpy() for name, value in found.items()}


def run_case(case: str, simulations: int, options: SamplerOptions, seed: int) -> dict:
    """Ranks of every quantity in every simulation, ``[S]`` each, and how well the chains mixed."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    net = make_network(case)
    x = torch.randn(ROWS[case] + 1, net.description.inputs.size, dtype=torch.float64)
    truths = prior_predictive(net, x, simulations)
    targets = torch.stack([truth["obs"][:-1] for truth in truths])
    start = time.process_time()
    posteriors = sample_exact_each(net, x[:-1], targets, options, seed=seed, progress=True)
    ranks: dict[str, list[int]] = {}
    worst = []
    for truth, posterior in zip(truths, posteriors, strict=True):
        conditioned = LIKELIHOOD.distribution(truth["f"][:-1], truth)
        score = conditioned.log_prob(truth["obs"][:-1]).sum()
        true = quantities(net, truth, truth["f"][-1, 0], score)
        f_test = posterior.predict(x[-1:]).mean[..., 0]
        drawn = quantities(
            net, {**posterior.latents, **posterior.gates}, f_test, posterior.log_likelihood
        )
        worst.append(float(r_hat(posterior.log_joint)))
        for name, value in true.items():
            draws = drawn[name].ravel()
            below, ties = int((draws < value).sum()), int((draws == value).sum())
            ranks.setdefault(name, []).append(below + int(generator.integers(ties + 1)))
    return {
        "ranks": ranks,
        "draws": options.chains * options.num_draws,
        "CPU seconds": round(time.process_time() - start, 1),
        "r_hat of log-joint, quantiles 50 90 100 %": np.nanquantile(worst, [0.5, 0.9, 1]).tolist(),
    }


def uniformity(ranks: list[int], draws: int, bins: int) -> tuple[float, float]:
    """P-value of the chi-square test with equal bins, and the largest standardised distance from uniform.

    :param draws: L; ranks are 0..L, and L + 1 must be a multiple of ``bins``.
    """
    counts = np.bincount(np.asarray(ranks) * bins // (draws + 1), minlength=bins)
    return float(stats.chisquare(counts).pvalue), float(
        _distance(np.asarray(ranks)[None], draws)[0]
    )


def _distance(ranks: np.ndarray, draws: int) -> np.ndarray:
    """Largest standardised distance of each row's distribution function from uniform; ranks ``[rows, S]``."""
    grid = np.linspace(0, 1, 51)[1:-1]
    below = ((ranks[..., None] + 1) / (draws + 1) <= grid + 1e-12).mean(1)
    exact = np.floor(grid * (draws + 1) + 1e-9) / (draws + 1)
    return (np.abs(below - exact) / np.sqrt(exact * (1 - exact) / ranks.shape[1])).max(1)


def band(simulations: int, draws: int, seed: int = 0) -> float:
    """Distance that one in twenty sets of uniform ranks exceeds."""
    ranks = np.random.default_rng(seed).integers(0, draws + 1, (4000, simulations))
    return float(np.quantile(_distance(ranks, draws), 0.95))


def plot(results: dict, path: Path, limit: float) -> None:
    """Distribution of the ranks minus the uniform one, with the simultaneous 95 % band."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = max(len(result["ranks"]) for result in results.values())
    figure, axes = plt.subplots(
        len(results), columns, figsize=(2.1 * columns, 2.3 * len(results)), squeeze=False,
        sharex=True, sharey=True,
    )  # fmt: skip
    z = np.linspace(0, 1, 200)
    for row, (case, result) in zip(axes, results.items(), strict=True):
        for axis in row[len(result["ranks"]) :]:
            axis.set_visible(False)
        for axis, (name, ranks) in zip(row, result["ranks"].items(), strict=False):
            half = limit * np.sqrt(z * (1 - z) / len(ranks))
            axis.fill_between(z, -half, half, color="0.88")
            scaled = (np.asarray(ranks) + 0.5) / (result["draws"] + 1)
            axis.plot(z, (scaled[None] <= z[:, None]).mean(1) - z, color="C0", lw=1)
            axis.set_title(name, fontsize=8)
        row[0].set_ylabel(f"{case}\nranks minus uniform", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("relative rank", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Run the cases, print the table, keep ranks and picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--simulations", type=int, default=200, help="data sets of each case")
    parser.add_argument("--quick", action="store_true", help="20 simulations, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="keep ranks and figures here")
    parser.add_argument("--plot", type=Path, help="rank plot, a PNG file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    simulations = 20 if arguments.quick else arguments.simulations
    bins = 4 if arguments.quick else 10
    # 99 draws: 100 possible ranks; thinned, because ranks among dependent draws are not quite uniform.
    options = SamplerOptions(
        num_draws=33, thin=4 if arguments.quick else 8, warmup=200 if arguments.quick else 400,
        chains=3, temperatures=1, leapfrog_steps=12,
    )  # fmt: skip
    tempered = SamplerOptions(**{**vars(options), "temperatures": 4})
    results, limit = {}, band(simulations, 99)
    for case in arguments.cases:
        results[case] = run_case(
            case, simulations, options if case == "linear" else tempered, arguments.seed
        )
    print(f"{simulations} simulations, 99 draws, {bins} bins; 95 % of distances below {limit:.2f}")
    for case, result in results.items():
        result["tests"] = {n: uniformity(r, 99, bins) for n, r in result["ranks"].items()}
        print(
            f"{case}: {result['CPU seconds']} CPU s, R-hat {result['r_hat of log-joint, quantiles 50 90 100 %']}"
        )
        for name, (p_value, distance) in result["tests"].items():
            print(f"  {name:20s} chi-square p = {p_value:.3f}   distance {distance:.2f}")
    if arguments.json:
        record = {"simulations": simulations, "limit": limit, "cases": results}
        write_text(arguments.json, json.dumps(record, indent=1) + "\n")
    if arguments.plot:
        plot(results, arguments.plot, limit)


if __name__ == "__main__":
    main()
