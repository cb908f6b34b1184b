"""The problems of benchmarks/calibration.py: linear networks drawn from their own prior, and exact answers."""

from __future__ import annotations

import math

import torch
from pyro import poutine
from torch import Tensor

import pyro_ssbnn as ss
from pyro_ssbnn.isolation import isolated

ROWS, INCLUSION, SLAB, NOISE = 64, 0.3, 0.5, 1.0
SMALL, LARGE = (8, 12), (15, 18)  # fewest and most predictors of a problem with an exact answer
FEW = 0.15  # prior inclusion of the large ones
SIZE, ACTING = 10, 5  # of a block, and predictors that are expected to act
BLOCKS = {"blocks": (5, 150), "wide": (50, 300), "ss-gl": (5, 150), "ss-ghs": (5, 150)}  # and rows
CONCENTRATION, RATE = 5.0, 4.0  # of the noise variance
_PART = 16_384


def correlated(rows: int, blocks: int, size: int, correlation: float, options: dict) -> Tensor:
    """Predictors of which any two of a block correlate so, ``[rows, blocks x size]``."""
    common = torch.randn(rows, blocks, **options).repeat_interleave(size, 1)
    own = torch.randn(rows, blocks * size, **options)
    return correlation**0.5 * common + (1 - correlation) ** 0.5 * own


def draw_problem(
    correlation: float, seed: int, sizes: tuple[int, int] = SMALL, inclusion: float = INCLUSION
) -> tuple[Tensor, Tensor, Tensor]:
    """Predictors ``[n, p]``, targets ``[n]`` and true gates ``[p]`` of one problem, float64."""
    generator = torch.Generator().manual_seed(seed)
    p = sizes[0] + int(torch.randint(sizes[1] - sizes[0] + 1, (), generator=generator))
    options = {"generator": generator, "dtype": torch.float64}
    x = correlated(ROWS, 1, p, correlation, options)
    gates = (torch.rand(p, **options) < inclusion).double()
    weights = SLAB * torch.randn(p + 1, **options)
    noise = NOISE * torch.randn(ROWS, **options)
    return x, x @ (gates * weights[:p]) + weights[p] + noise, gates


def make_network(p: int, inclusion: float = INCLUSION) -> ss.MLP:
    """The linear network whose prior the problems are drawn from."""
    return ss.MLP(
        p,
        [],
        prior=ss.Gaussian(),
        output_prior=ss.Gaussian(scale=SLAB),
        likelihood=ss.GaussianLikelihood(scale=NOISE),
        input_inclusion=inclusion,
    )


def all_sets(x: Tensor, y: Tensor, inclusion: float) -> tuple[Tensor, Tensor]:
    """Gates of all sets of predictors ``[2^p, p]``, and their posterior probabilities."""
    n, p = x.shape
    design = torch.cat([x, torch.ones(n, 1, dtype=x.dtype)], 1) / NOISE
    gram, dots = design.T @ design, design.T @ y / NOISE
    table = ((torch.arange(2**p).unsqueeze(-1) >> torch.arange(p)) & 1).to(x.dtype)
    found = []
    for part in table.split(_PART):
        open = torch.cat([part, torch.ones_like(part[:, :1])], 1)
        ridge = torch.diag_embed(open / SLAB**2 + (1 - open))
        root = torch.linalg.cholesky(open.unsqueeze(-1) * gram * open.unsqueeze(-2) + ridge)
        right = (open * dots).unsqueeze(-1)
        explained = torch.linalg.solve_triangular(root, right, upper=False).square().sum((-1, -2))
        log_det = root.diagonal(dim1=-1, dim2=-2).log().sum(-1)
        size = part.sum(-1)
        prior = size * (math.log(inclusion / (1 - inclusion)) - math.log(SLAB))
        found.append(0.5 * explained - log_det + prior)
    return table, torch.cat(found).softmax(0)


def draw_blocks(case: str, correlation: float, seed: int) -> tuple[ss.MLP, Tensor, Tensor, Tensor]:
    """Network, predictors, targets and true gates of one problem with blocks."""
    blocks, rows = BLOCKS[case]
    options = {"generator": torch.Generator().manual_seed(1_000_000 + seed), "dtype": torch.float64}
    p = blocks * SIZE
    priors = {"ss-gl": ss.GroupLasso(), "ss-ghs": ss.GroupHorseshoe()}  # the slabs of these
    net = ss.MLP(
        p,
        [],
        prior=ss.Gaussian(),
        output_prior=priors.get(case, ss.Gaussian(scale=SLAB)),
        likelihood=ss.GaussianLikelihood(concentration=CONCENTRATION, rate=RATE),
        input_inclusion=ACTING / p,
    ).double()
    x = correlated(rows, blocks, SIZE, correlation, options)
    if case in priors:
        with isolated(seed, x):
            nodes = poutine.trace(net).get_trace(x).nodes
        return net, x, nodes["obs"]["value"], nodes["input.gate"]["value"]
    gates = (torch.rand(p, **options) < ACTING / p).double()
    weights = SLAB * torch.randn(p + 1, **options)
    chi_squared = torch.randn(int(2 * CONCENTRATION), **options).square().sum()
    noise = (2 * RATE / chi_squared).sqrt()  # InverseGamma(5, 4)
    y = x @ (gates * weights[:p]) + weights[p] + noise * torch.randn(rows, **options)
    return net, x, y, gates
