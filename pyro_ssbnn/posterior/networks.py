r"""Networks of drawn weights, evaluated in blocks of draws and rows that fit a memory budget.

S draws of the latents become plain torch networks: amplitudes, input gates and running statistics are multiplied into
the weights, and nodes closed in all draws of a block are cut. That is the masked network up to rounding.

**Memory.** With d draws and r rows in one pass, and A numbers in the largest layer of a row (nodes times positions), a
pass holds about :math:`6\,d\,r\,A` numbers: a layer's input, output and activation, and what is made on the way. Blocks
are chosen so that this fits a quarter of the budget, whatever S and N. Another quarter goes to the weights of the draws
(made anew where they do not fit), another to the rows on the device, the last to the outputs f that quantiles are found
from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.isolation import full_precision
from pyro_ssbnn.posterior.summary import check_targets
from pyro_ssbnn.posterior.weights import cut_weights, folded_weights
from pyro_ssbnn.structure.network import Network

__all__ = [
    "MEMORY",
    "Block",
    "DrawnNetworks",
    "drawn_networks",
    "log_likelihood",
    "outputs",
    "predictions",
    "roomy",
]

MEMORY = 2**28
"""Bytes that predictions use beside what they are given and what they return."""

_LIVE = 6  # copies of the largest layer held in a pass
# Numbers of a layer that pass together on the CPU: more leave its cache, and cost up to three times.
_CACHE = 2**19
_PREDICTED = 2**20  # outputs turned into predictions at a time
_ROWS = 1024  # rows of a pass on the CPU, at most, before draws are put beside each other
_GPU_ROWS = 2**16  # the same on a GPU, where a pass of few is all waiting


@dataclass(frozen=True)
class Block:
    """Draws and rows of one pass."""

    draws: int
    rows: int

    @classmethod
    def of(cls, widest: int, num_draws: int, num_rows: int, like: Tensor, memory: int) -> Block:
        """The block for S draws and N rows.

        :param widest: numbers in the largest layer of one row.
        :param like: a tensor on the device and of the dtype of the pass.
        :param memory: budget in bytes.
        :raises ConfigurationError: for a budget that holds no row.
        """
        fits = memory // 4 // (_LIVE * widest * like.element_size())
        if fits < 1:
            least = 4 * _LIVE * widest * like.element_size()
            raise ConfigurationError(
                f"memory: one row of this network takes {least:,} bytes; got {memory:,}."
            )
        most = _GPU_ROWS
        if like.device.type == "cpu":
            fits, most = max(1, min(fits, _CACHE // widest)), _ROWS
        rows = max(1, min(fits, num_rows, most))
        return cls(max(1, min(fits // rows, num_draws)), rows)


@dataclass(frozen=True)
class DrawnNetworks:
    """Networks of d draws that pass rows together, and what the likelihood needs beside their outputs.

    :param network: maps ``[N, p]`` to f, ``[d, N, K]``; without the first dimension for one set of weights, which may
        go with any number of draws of the latents.
    :param latents: the likelihood's latents, ``[d, 1, ...]``.
    :param num_draws: d.
    """

    network: nn.Module
    latents: Mapping[str, Tensor]
    num_draws: int

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs f, ``[d, N, K]`` (``[1, N, K]`` for one set of weights), on the CPU in the precision of x."""
        with full_precision(x.device):
            f: Tensor = self.network(x)
        return (f if f.ndim == 3 else f.unsqueeze(0)).cpu()


def drawn_networks(
    model: Network, values: Mapping[str, Tensor], draws: int
) -> Iterator[DrawnNetworks]:
    """Turn draws of all latents into plain networks, a few draws at a time.

    :param values: by site, ``[S, ...]``, as a vectorised run of guide or model gives them.
    :param draws: d, draws of a network.
    """
    description = model.description
    weights = folded_weights(model, values)
    gates = {g.name: values[g.gate_site].bool() for g in description.gate_groups}
    if not _foldable(model):
        gates = {}
    latents = model.likelihood.latents_of(values, description.prefix)
    num_draws = len(next(iter(weights.values())))
    for at in range(0, num_draws, draws):
        part = slice(at, at + draws)
        of_part = {k: w[part] for k, w in weights.items()}
        size = len(next(iter(of_part.values())))
        if size == 1:
            of_part = {k: w[0] for k, w in of_part.items()}
        open = {name: gate[part].any(0).nonzero().flatten() for name, gate in gates.items()}
        layers = cut_weights(description, of_part, open, model.passed_on())
        yield DrawnNetworks(model.assemble(layers), {k: v[part] for k, v in latents.items()}, size)


def roomy(device: torch.device) -> int:
    """Bytes that evaluations may use where nobody has said how many: on a GPU large blocks keep it busy."""
    if device.type != "cuda":
        return MEMORY
    return max(MEMORY, torch.cuda.get_device_properties(device).total_memory // 8)


def outputs(
    model: Network, values: Mapping[str, Tensor], x: Tensor, memory: int | None = None
) -> Tensor:
    """Outputs f of S draws at N rows, ``[S, N, K]``, on the CPU; batch norms use their running statistics.

    :param values: draws of all latents by site, ``[S, ...]``.
    :param x: predictors ``[N, p]``, on any device.
    :param memory: budget in bytes, beside the outputs; None takes what is :func:`roomy`.
    """
    description = model.description
    like = values[description.groups[0].weight_site]
    memory = roomy(like.device) if memory is None else memory
    num_draws, size = len(like), description.num_outputs
    block = Block.of(description.widest, num_draws, len(x), like, memory)
    f = torch.empty(num_draws, len(x), size, dtype=like.dtype)
    at = 0
    for networks in drawn_networks(model, values, block.draws):
        for row, rows in zip(range(0, len(x), block.rows), x.split(block.rows), strict=True):
            f[at : at + networks.num_draws, row : row + len(rows)] = networks(rows.to(like))
        at += networks.num_draws
    return f


def predictions(
    model: Network, values: Mapping[str, Tensor], f: Tensor, y: Tensor | None
) -> dict[str, Any]:
    """Means, draws of y and log-likelihoods of some draws at all rows, in the precision of f, ``[d, N, K]``."""
    likelihood = model.likelihood
    own = likelihood.latents_of(values, model.description.prefix)
    latents = {k: v.cpu().double() for k, v in own.items()}
    parts = []
    # The size of the pieces follows from the draws alone: a row is given the same random numbers in any memory.
    rows = max(1, _PREDICTED // (f.shape[0] * f.shape[2]))
    for at in range(0, f.shape[1], rows):
        piece, target = f[:, at : at + rows].double(), None
        if y is not None:
            target = likelihood.as_target(y[at : at + rows], piece)
            piece, target, _ = likelihood.unpacked(piece, target)
        distribution = likelihood.distribution(piece, latents)
        found = {
            "mean": likelihood.mean(piece, latents),
            "predictive": distribution.sample(),
        }
        if target is not None:
            check_targets(target, distribution)
            found["log_likelihood"] = distribution.log_prob(target)
        parts.append({k: v.to(f.dtype) if v.is_floating_point() else v for k, v in found.items()})
    return {k: torch.cat([part[k] for part in parts], 1) for k in parts[0]}


def log_likelihood(model: Network, values: Mapping[str, Tensor], f: Tensor, y: Tensor) -> Tensor:
    """Log p(y | f), the rows together, ``[..., S]``, float64 on the CPU.

    :param f: outputs ``[..., S, N, K]``.
    """
    likelihood = model.likelihood
    own = likelihood.latents_of(values, model.description.prefix)
    f = f.double()
    latents = {name: value.to(f) for name, value in own.items()}
    f, target, weight = likelihood.unpacked(f, likelihood.as_target(y.to(f.device), f))
    score = likelihood.distribution(f, latents).log_prob(target)
    score = score if weight is None else weight * score
    return score.flatten(f.ndim - 2).sum(-1).cpu()


def _foldable(model: Network) -> bool:
    """Whether closed nodes can be cut: what they pass on must be 0 where it is read beside zeros or in a sum."""
    sums = {total.name for total in model.description.sums}
    return model.closed_activation == 0 or not any(
        group.zero_padded or group.source in sums for group in model.description.groups
    )
