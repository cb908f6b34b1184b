"""Compression: a posterior begins at a module's own weights, nodes are selected, what is left is trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from pyro_ssbnn.checks import check_positive, check_that, is_number, is_whole
from pyro_ssbnn.compression.search import Search
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.guides import StructuredGuide
from pyro_ssbnn.inference import Fit, TrainingOptions, fine_tune, fit
from pyro_ssbnn.inference.history import History
from pyro_ssbnn.inference.options import chosen_options
from pyro_ssbnn.inference.preparation import Augmentation
from pyro_ssbnn.inference.training_rows import training_rows
from pyro_ssbnn.isolation import seeded
from pyro_ssbnn.likelihoods import CategoricalLikelihood, Likelihood
from pyro_ssbnn.models.traced.front import from_module
from pyro_ssbnn.models.traced.network import TracedNetwork
from pyro_ssbnn.models.traced.plain import PlainModule, plain_module
from pyro_ssbnn.priors import SSIG, Prior
from pyro_ssbnn.selection import Pruning, prune, select

__all__ = ["Compression", "compress"]

_FINE_TUNED = 3  # one epoch of fine-tuning for so many of the run
_POWER = 50.0  # of the likelihood, where the prior decides on the size
_POWER_WITHIN = 1000.0  # the same under a target, which does
_NOISE, _NOISE_WITHIN = 0.1, 0.001  # of the weights at the start, times sqrt(fan-in)


@dataclass(frozen=True)
class Compression:
    """What :func:`compress` gives.

    :param module: the smaller module, ordinary torch, of the same interface as the one given.
    :param pruning: the same network as the package's own, with the selection and the report of sizes.
    :param fit: the posterior it was cut from: after fine-tuning, where there was any.
    :param layers: what became of each layer of the module, one row each (:meth:`TracedNetwork.report`), with the
        number of nodes that are left, ``nodes_kept``.
    """

    module: PlainModule
    pruning: Pruning
    fit: Fit
    layers: pd.DataFrame

    def __repr__(self) -> str:
        return f"Compression: {self.pruning!r}"


def compress(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    likelihood: Likelihood,
    prior: Prior | None = None,
    options: TrainingOptions | None = None,
    power: float | None = None,
    nodes: int | None = None,
    multiply_adds: float | None = None,
    latency: float | None = None,
    accuracy_lost: float | None = None,
    validation: tuple[Tensor, Tensor] | None = None,
    latency_rows: int = 1,
    fine_tune_epochs: int | None = None,
    ungated: Sequence[str] = (),
    augment: Augmentation | None = None,
    progress: bool = True,
) -> Compression:
    """Make a trained torch module smaller.

    Its weights are where the posterior starts (:meth:`StructuredGuide.start_from`). Without a target gates, scales and
    weights are fitted to the data, and nodes are kept by the median probability model. A target says how many nodes go,
    so that no gate has to learn it: the evidence of training rows for each gate
    (:mod:`pyro_ssbnn.compression.evidence`) ranks nodes by what is lost for what is saved
    (:mod:`pyro_ssbnn.compression.removal`), and of the nested selections the largest within the target is taken. What
    is kept is trained on with its gates open, and becomes an ordinary module.

    The bound's own optimum is a poor network where weights are many and rows few: the KL of thousands of weights
    outweighs what a thousand rows say. Here the likelihood is therefore taken to a power (a *tempered* posterior, the
    KL weighed by its reciprocal): its inclusion probabilities rank nodes, and say no longer what the data alone say.

    :param module: stays as it is; see :func:`from_module` for what it may hold.
    :param x: its input, ``[N, ...]``, floating-point.
    :param y: targets, ``[N]`` (``[N, K]`` for several).
    :param likelihood: distribution of the targets given the module's output.
    :param prior: of the nodes, by default :class:`SSIG` with prior inclusion 0.5.
    :param options: of the fit and of the training of what is kept. By default those of :func:`fit`, with a tenth of its
        rate for the means: the weights have been trained before. With ``optimizer="sgd"`` ``mean_rate`` is a step per
        unit of gradient of the loss *before* its power: the rate at which the module itself would be trained on.
    :param power: of the likelihood in the bound that is fitted, as if each row had been seen so many times; 1 for the
        bound itself. See above. None: 50, where the prior decides on the size; 1,000 under a target, which does.
    :param nodes: target: so many nodes in all gated layers at most, one of each among them.
    :param multiply_adds: target: multiply-adds a row at most; up to 1 it is a share of the module's.
    :param latency: target: median milliseconds of a call on this machine's CPU, with ``latency_rows`` rows and torch's
        own number of threads.
    :param accuracy_lost: target: the smallest selection whose accuracy on ``validation`` is, before it is trained on,
        at most so much (0.01: one point) below the module's.
    :param validation: rows and targets that the fit does not see, in the shapes of x and y. Not those that the
        result is to be judged by.
    :param fine_tune_epochs: epochs for what is kept; 0 for none. None: those of ``options`` under a target, where they
        are all there is to train; otherwise a third of the fit's.
    :param ungated: names of layers that are to keep all their nodes.
    :param augment: as in :func:`fit`: of flattened rows ``[rows, p]``.
    :param progress: show progress bars.
    :raises ConfigurationError: for a module that cannot be read, for several targets, and for one out of reach.
    :raises DataError: for data that do not fit the module.
    """
    target = _target(nodes, multiply_adds, latency, accuracy_lost)
    tensors = isinstance(x, Tensor) and x.ndim > 1 and x.is_floating_point() and len(x) > 0
    if not tensors:
        raise DataError("compress: x must be a floating-point tensor [N, ...], the module's input.")
    if target == "accuracy_lost":
        _check_validation(likelihood, x, validation)
    known = fine_tune_epochs is None or (is_whole(fine_tune_epochs) and fine_tune_epochs >= 0)
    check_that("compress", "fine_tune_epochs", fine_tune_epochs, known, "a whole number from 0")
    prior = SSIG(inclusion=0.5) if prior is None else prior
    options = TrainingOptions(mean_rate=0.012) if options is None else options
    options = chosen_options("compress", options)
    if power is None:
        power = _POWER if target is None else _POWER_WITHIN
    likelihood, y = _tempered(likelihood, y, power)
    if options.optimizer == "sgd":  # Adam's steps do not change with the power
        options = replace(options, mean_rate=options.mean_step / power)
    network = from_module(
        module, prior=prior, likelihood=likelihood, example=x[:1], ungated=ungated
    )
    with seeded(options.seed, torch.device("cpu")):
        noise = _NOISE if target is None else _NOISE_WITHIN
        guide = _warm_guide(network, module, options, noise)
    rows = x.flatten(1)
    epochs = options.num_epochs(len(x))
    if target is None:
        fitted = fit(network, rows, y, options, guide=guide, augment=augment, progress=progress)
        selection = select(fitted.guide.inclusion())
        epochs = math.ceil(epochs / _FINE_TUNED)
    else:
        fitted = _started(network, guide, rows, y, options)
        limit = {"nodes": nodes, "multiply_adds": multiply_adds, "latency": latency}
        limit["accuracy_lost"] = accuracy_lost
        search = Search(module, fitted, validation, latency_rows, (rows, y))
        selection = search.reach(target, limit[target] or 0)
        fitted.guide.fix_gates({name: selection.mask(name) for name in selection.kept})
    epochs = epochs if fine_tune_epochs is None else fine_tune_epochs
    if epochs:
        shorter = replace(fitted.options, epochs=epochs)
        fitted = fine_tune(
            fitted, rows, y, shorter, selection=selection, augment=augment, progress=progress
        )
    pruning = prune(fitted.model, fitted.guide, selection)
    return Compression(plain_module(pruning.network), pruning, fitted, _layers(network, pruning))


def _target(*limits: float | None) -> str | None:
    names = ("nodes", "multiply_adds", "latency", "accuracy_lost")
    given = [name for name, limit in zip(names, limits, strict=True) if limit is not None]
    if len(given) > 1:
        raise ConfigurationError(f"compress: give one target; got {' and '.join(given)}.")
    for name, limit in zip(names, limits, strict=True):
        positive = limit is None or (is_number(limit) and limit >= 0)
        check_that("compress", name, limit, positive, "a number from 0, or None")
    return given[0] if given else None


def _check_validation(
    likelihood: Likelihood, x: Tensor, validation: tuple[Tensor, Tensor] | None
) -> None:
    if not isinstance(likelihood, CategoricalLikelihood):
        raise ConfigurationError(
            f"compress: accuracy_lost is for classes; the likelihood is {type(likelihood).__name__}."
        )
    pair = isinstance(validation, tuple | list) and len(validation) == 2
    tensors = list(validation) if pair and validation is not None else []
    given = len(tensors) == 2 and all(isinstance(part, Tensor) for part in tensors)
    if not given or tensors[0].shape[1:] != x.shape[1:] or not len(tensors[0]):
        raise ConfigurationError(
            "compress: accuracy_lost needs validation=(x, y): rows of the module's input that the fit does not see."
        )
    if tensors[1].shape != tensors[0].shape[:1]:
        raise DataError(
            f"compress: validation must have a label a row, [{len(tensors[0])}]; got {list(tensors[1].shape)}."
        )


def _tempered(likelihood: Likelihood, y: Tensor, power: float) -> tuple[Likelihood, Tensor]:
    """The likelihood to a power: weights of the rows."""
    check_positive("compress", power=power)
    if power == 1:
        return likelihood, y
    fields = getattr(likelihood, "__dataclass_fields__", {})
    if "weighted" not in fields:
        raise ConfigurationError(
            f"compress: {type(likelihood).__name__} takes no weights of rows, which a power of the likelihood needs;"
            " give power=1."
        )
    values = torch.as_tensor(y)
    values = values if values.is_floating_point() else values.to(torch.get_default_dtype())
    if likelihood.weighted:
        return likelihood, torch.cat([values[:, :-1], power * values[:, -1:]], -1)
    columns = values.unsqueeze(-1) if values.ndim == 1 else values
    weights = columns.new_full((len(columns), 1), power)
    return replace(likelihood, weighted=True), torch.cat([columns, weights], -1)


def _warm_guide(
    network: TracedNetwork, module: nn.Module, options: TrainingOptions, noise: float
) -> StructuredGuide:
    start = 0.95 if options.initial_inclusion is None else options.initial_inclusion
    guide = StructuredGuide(
        network,
        hard=options.hard_gates,
        temperature=options.temperature[0],
        initial_inclusion=start,
        initial_scale=noise,
    )
    guide.start_from(network.weights_of(module))
    return guide


def _started(
    network: TracedNetwork, guide: StructuredGuide, x: Tensor, y: Tensor, options: TrainingOptions
) -> Fit:
    """The posterior as it starts, on the device and in the dtype of the run."""
    rows = training_rows("compress", network, x, y).placed(network, options)
    history = History(parts=options.parts(rows.num_data))
    return Fit(network.to(rows.x), guide.to(rows.x), options, history, rows.num_data)


def _layers(network: TracedNetwork, pruning: Pruning) -> pd.DataFrame:
    report = network.report()
    kept = pruning.report["nodes_kept"].drop("total")
    report.insert(2, "nodes_kept", kept.reindex(report.index).fillna(0).astype(int))
    return report
