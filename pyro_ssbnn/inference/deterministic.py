r"""The deterministic network of the same shape, by penalised maximum likelihood: what a guide may start from.

All gates are open, the weights :math:`w` are plain parameters, and the scales stay where a new guide puts them, so that
the model's own forward pass computes with :math:`u = w / t` exactly the network of weights w:

.. math:: \min_w\ -\frac1N \sum_i \log p(y_i \mid x_i, w) + \frac{\delta}{2} |w|^2
          + \kappa \sum_j \Big(\sum_k w_{kj}^2\Big)^{1/2}

The last sum, a group lasso, runs over the predictors j and takes the weights that read them (k: nodes of the layers
that do, and the predictor's columns where it has several). Where predictors are many and few matter it keeps the
others' weights near 0 from the first steps on, so that interactions are found before gates decide; a linear model's is
the lasso.

A Gaussian likelihood's unknown noise stays at its guide's initial median too, as it would otherwise only rescale the
penalty.
"""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import pyro
import torch
from numpy.typing import ArrayLike
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import LogNormal
from tqdm.auto import tqdm

from pyro_ssbnn.distributions import Gate
from pyro_ssbnn.errors import ConfigurationError, NonFiniteLossError
from pyro_ssbnn.guides import StructuredGuide
from pyro_ssbnn.guides.initial import standardized
from pyro_ssbnn.inference.minibatches import minibatches_of
from pyro_ssbnn.inference.optimizer import means_optimizer
from pyro_ssbnn.inference.options import TrainingOptions, chosen_options
from pyro_ssbnn.inference.preparation import (
    Augmentation,
    forget_statistics,
    products_of,
)
from pyro_ssbnn.inference.schedule import Schedule, rate_groups, set_rates
from pyro_ssbnn.inference.training_rows import Rows, training_rows
from pyro_ssbnn.isolation import bf16, isolated
from pyro_ssbnn.posterior.weights import amplitudes
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.linear import LinearGroup
from pyro_ssbnn.structure.network import Network
from pyro_ssbnn.traces import random_sites

__all__ = ["fit_deterministic"]


def fit_deterministic(
    model: Network,
    x: Tensor | ArrayLike | Rows,
    y: Tensor | ArrayLike | None = None,
    options: TrainingOptions | None = None,
    *,
    weight_decay: float = 1e-4,
    predictor_penalty: float = 0.0,
    augment: Augmentation | None = None,
    progress: bool = True,
) -> dict[str, Tensor]:
    """Train the deterministic counterpart of a network; ``StructuredGuide.start_from`` takes the result.

    :param model: the network.
    :param x: predictors ``[N, p]``, or rows that are read in pieces, as in :func:`~pyro_ssbnn.fit`.
    :param y: targets, ``[N]`` (``[N, K]`` for several); None with rows that bring their own.
    :param options: epochs, batch size, the optimizer of the means with its rate, momentum and schedule, ``clip_norm``,
        seed, device and dtype are used; what concerns gates, scales and the KL has nothing to act on here.
    :param weight_decay: delta, the factor of the penalty, not negative.
    :param predictor_penalty: kappa, the factor of the group lasso on each predictor's outgoing weights, not negative.
    :param augment: as in :func:`~pyro_ssbnn.fit`.
    :param progress: show a progress bar.
    :returns: weights of every layer, bias last, ``{group: [size, group_size]}``. Running statistics of batch norms
        are the model's own: they start anew, and are those of these weights afterwards; nothing else of the model
        changes, not its mode, device or dtype.
    :raises ConfigurationError: for a negative penalty, or a predictor's penalty where the predictors are pixels.
    :raises DataError: for data that do not fit the model.
    :raises NonFiniteLossError: when the loss is no longer a finite number.
    """
    options = chosen_options("fit_deterministic", options)
    _check_penalties(model, weight_decay, predictor_penalty)
    rows = training_rows("fit_deterministic", model, x, y).placed(model, options)
    x, number = rows.x, rows.num_data
    with isolated(options.seed, x, grad=True), products_of(options):
        trained = deepcopy(model).to(x).train()
        forget_statistics(trained)  # they belonged to other weights
        rounded = options.precision == "bf16"
        network = _DeterministicNetwork(trained, StructuredGuide(model).to(x), rounded)
        optimizer = means_optimizer(network.rates(options, number), options, x.device, weight_decay)
        schedule = Schedule(options, number)
        minibatches = minibatches_of(rows, model.likelihood, options, augment)
        bar = tqdm(range(schedule.epochs), disable=not progress, unit="epoch")
        for epoch in bar:
            first, last = (k * schedule.epoch_steps for k in (epoch, epoch + 1))
            total = x.new_zeros(())
            for step, (inputs, targets) in enumerate(minibatches.of_steps(first, last), first):
                set_rates(optimizer.param_groups, schedule.rate_factor(step))
                loss = -network.log_likelihood(inputs, targets).mean()
                if predictor_penalty:
                    loss = loss + predictor_penalty * network.predictor_norms().sum()
                optimizer.zero_grad()
                loss.backward()
                if options.clip_norm is not None:
                    torch.nn.utils.clip_grad_norm_(network.parameters(), options.clip_norm)
                optimizer.step()
                total = total + loss.detach()
            mean = float(total) / schedule.epoch_steps  # the epoch's one synchronisation
            _require_finite(mean, epoch)
            bar.set_postfix_str(f"loss {mean:.4g}", refresh=False)
        weights = {name: weight.detach().clone() for name, weight in network.weights.items()}
    model.load_state_dict(trained.state_dict())
    return weights


class _DeterministicNetwork(nn.Module):
    """A network's forward pass with plain weights.

    :param guide: a new guide of it, in the dtype and on the device of the run: its means and medians are the start.
    :param rounded: whether products are of bfloat16.
    """

    def __init__(self, model: Network, guide: Guide, rounded: bool = False) -> None:
        super().__init__()
        self.model, self.guide, self.rounded = model, guide, rounded
        trace = poutine.trace(guide).get_trace()
        nodes: dict[str, Any] = {**trace.nodes}
        groups = model.description.groups
        bulky = {group.weight_site for group in groups}
        sites = [name for name in random_sites(trace) if name not in bulky]
        self.fixed = {name: _centre(nodes[name]["fn"]).detach() for name in sites}
        self.noise = model.likelihood.latents_of(self.fixed, model.description.prefix)
        self.scales = {group.name: amplitudes(group, self.fixed) for group in groups}
        self.weights = nn.ParameterDict()
        for group in groups:
            start = guide.mean_standardized(group.name).clone()
            scale = self.scales[group.name]
            inverse = None if scale is None else 1 / scale
            self.weights[group.name] = nn.Parameter(standardized(group, start, inverse))

    def rates(self, options: TrainingOptions, num_data: int) -> list[dict[str, Any]]:
        """Parameter groups of the weights, with the rates of the guide's means."""
        groups = {g["kind"]: g for g in rate_groups(self.guide, options, num_data)}
        return [{**groups[f"means.{k}"], "params": [w]} for k, w in self.weights.items()]

    def log_likelihood(self, x: Tensor, y: Tensor) -> Tensor:
        """Log p(y | x, w) of each observation, ``[N]``."""
        values = dict(self.fixed)
        for group in self.model.description.groups:
            weight, scale = self.weights[group.name], self.scales[group.name]
            values[group.weight_site] = standardized(group, weight, scale)
        with bf16(x.device) if self.rounded else nullcontext():
            f = poutine.condition(self.model.network, data=values)(x).to(x.dtype)
        f, target, weight = self.model.likelihood.unpacked(f, y)
        score = self.model.likelihood.distribution(f, self.noise).log_prob(target)
        return score if weight is None else weight * score

    def predictor_norms(self) -> Tensor:
        """Norm of the weights that read each predictor, ``[p]``."""
        columns = [
            self.weights[group.name].mT
            if isinstance(group, LinearGroup)
            else self.weights[group.name][:, : group.fan_in]
            for group in _readers(self.model)
        ]
        norms = torch.linalg.vector_norm(torch.cat(columns), dim=0)
        inputs = self.model.description.inputs
        if not inputs.widths:
            return norms
        of_each = norms.split(list(inputs.widths))
        return torch.stack([torch.linalg.vector_norm(part) for part in of_each])


def _readers(model: Network) -> list[NodeGroup]:
    """Layers that read the predictors."""
    inputs = model.description.inputs.name
    return [group for group in model.description.groups if group.source == inputs]


def _check_penalties(model: Network, weight_decay: float, predictor_penalty: float) -> None:
    for name, value in (("weight_decay", weight_decay), ("predictor_penalty", predictor_penalty)):
        if not value >= 0:
            raise ConfigurationError(
                f"fit_deterministic: {name} must not be negative; got {value}."
            )
    if predictor_penalty and any(group.geometry is not None for group in _readers(model)):
        raise ConfigurationError(
            "fit_deterministic: predictor_penalty is for layers with a weight for each predictor; this network's first"
            " layer convolves. Leave it at 0."
        )


def _centre(fn: Any) -> Tensor:
    """Gates open, positive latents at their median."""
    base = fn.base_dist if isinstance(fn, pyro.distributions.Independent) else fn
    if isinstance(base, Gate):
        return torch.ones_like(base.logits)
    return base.loc.exp() if isinstance(base, LogNormal) else base.mean


def _require_finite(loss: float, epoch: int) -> None:
    if loss != loss or abs(loss) == float("inf"):
        raise NonFiniteLossError(
            f"fit_deterministic: the loss is not finite in epoch {epoch + 1}. Scale the data (standardised predictors"
            " and targets), lower mean_rate, or set clip_norm (try 1.0)."
        )
