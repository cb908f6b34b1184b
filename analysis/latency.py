"""How long the forward pass takes: networks side by side in one run, among them a fit's dense and pruned ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pyro_ssbnn.checks import resolve_device
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.isolation import limited_to
from pyro_ssbnn.selection.pruning import prune
from pyro_ssbnn.selection.rules import Selection, select
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["dense_and_pruned", "measure_latency", "pruning_latency"]

BATCH_SIZES = (1, 32, 1024)


@dataclass
class _Case:
    """One network at one batch size, and how many calls make a sample."""

    name: str
    network: nn.Module
    x: Tensor
    calls: int = 1

    def sample(self) -> float:
        """Mean seconds of a call."""
        self.network(self.x)  # untimed: the caches still hold the network before
        _synchronise(self.x.device)
        start = perf_counter()
        for _ in range(self.calls):
            self.network(self.x)
        _synchronise(self.x.device)
        return (perf_counter() - start) / self.calls


def measure_latency(
    networks: Mapping[str, nn.Module],
    inputs: int | Tensor,
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    reference: str | Mapping[str, str] | None = None,
    repeats: int = 50,
    warmup: int = 5,
    min_seconds: float = 1e-3,
    threads: int | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Time the forward pass of several networks, in evaluation and inference mode.

    The networks take turns within every round, so that whatever else the machine does hits all of them alike. A sample
    is the mean of as many calls as last ``min_seconds`` together: tiny networks are timed well above the clock's
    resolution. Copies are timed; the networks given stay as they are.

    :param networks: by name, in the order of the table.
    :param inputs: p, for standard normal predictors; or rows ``[M, p]`` to make the batches of (over and over).
    :param batch_sizes: rows of a call.
    :param reference: what ``speedup`` compares with: one network's name for all, or ``{network: its reference}``
        (networks not named are their own). The first network by default.
    :param repeats: samples of each network at each batch size.
    :param warmup: untimed rounds before, which also find how many calls a sample needs.
    :param min_seconds: how long a sample lasts at least.
    :param threads: of torch on the CPU during the run, afterwards as before; None keeps torch's own number.
    :param device: where to time; None: where each network is.
    :param dtype: in which precision; None: each network's own.
    :param seed: of the standard normal predictors; the caller's random state is left untouched.
    :returns: a row a network and batch size: ``network``, ``batch_size``, ``median_ms`` of a call with its 10 and 90 %
        quantiles ``q10_ms`` and ``q90_ms`` over the samples, ``rows_per_second`` (at the median), ``reference``,
        ``speedup`` (the reference's median over this one: 2 is twice as fast), ``calls`` a sample, ``threads``,
        ``device``, ``dtype``.
    :raises ConfigurationError: for options outside their domain or an unknown reference.
    :raises DataError: for inputs that are no rows, or that a network cannot take.
    """
    _check(networks, batch_sizes, repeats, warmup, min_seconds, threads)
    references = _references(list(networks), reference)
    rows = _rows(inputs, max(batch_sizes), seed)
    ready = {name: _ready(network, device, dtype) for name, network in networks.items()}
    with limited_to(threads) as used, torch.inference_mode():
        cases = [
            _Case(name, network, _batch(rows, size, network))
            for size in batch_sizes
            for name, network in ready.items()
        ]
        for case in cases:
            _try(case)
        usual = np.median(_rounds(cases, warmup), axis=0)
        for case, seconds in zip(cases, usual, strict=True):
            case.calls = max(1, math.ceil(min_seconds / max(seconds, 1e-9)))
        seconds = _rounds(cases, repeats)
    return _table(cases, seconds, references, used)


def dense_and_pruned(
    model: Network,
    guide: Guide,
    selection: Selection | None = None,
    *,
    num_draws: int = 10,
    seed: int = 0,
) -> dict[str, nn.Module]:
    """The plain torch networks a fit can be deployed as: with every node and pruned, posterior mean and S draws.

    :param selection: what the pruned ones keep; the median probability model by default.
    :param num_draws: S.
    :param seed: of the draws.
    :returns: "dense mean", "pruned mean", "dense S draws", "pruned S draws"; each maps ``[N, p]`` to ``[N, K]``, or
        to ``[S, N, K]``.
    :raises SelectionError: when a layer, or the set of predictors, would keep no member.
    """
    if num_draws < 1:
        raise ConfigurationError(
            f"dense_and_pruned: num_draws must be at least 1; got {num_draws}."
        )
    inclusion = guide.inclusion()
    everything = select(inclusion, nodes={name: len(p) for name, p in inclusion.items()})
    networks: dict[str, nn.Module] = {}
    for words, draws in (("mean", None), (f"{num_draws} draws", num_draws)):
        dense = prune(model, guide, everything, num_draws=draws, seed=seed).network
        dense.input_index = (
            None  # gathering all predictors would be work that no dense network does
        )
        networks[f"dense {words}"] = dense
        networks[f"pruned {words}"] = prune(
            model, guide, selection, num_draws=draws, seed=seed
        ).network
    return networks


def pruning_latency(
    model: Network,
    guide: Guide,
    selection: Selection | None = None,
    *,
    num_draws: int = 10,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Time a fit's dense and pruned networks, posterior mean and S draws; speed-ups compare like with like.

    :param selection: what the pruned networks keep; the median probability model by default.
    :param num_draws: S.
    :param seed: of the draws and the predictors.
    :param options: of :func:`measure_latency`.
    :returns: :func:`measure_latency`'s table of the networks of :func:`dense_and_pruned`.
    """
    networks = dense_and_pruned(model, guide, selection, num_draws=num_draws, seed=seed)
    names = list(networks)
    pairs = dict(zip(names[1::2], names[::2], strict=True))  # pruned: dense
    size = model.description.inputs.num_columns
    return measure_latency(networks, size, **{"reference": pairs, "seed": seed, **options})


def _rounds(cases: Sequence[_Case], number: int) -> NDArray[np.float64]:
    """Seconds of a call, ``[number, cases]``; the cases take turns."""
    return np.array([[case.sample() for case in cases] for _ in range(number)])


def _table(
    cases: Sequence[_Case],
    seconds: NDArray[np.float64],
    references: Mapping[str, str],
    threads: int,
) -> pd.DataFrame:
    lows, middles, highs = np.quantile(seconds, [0.1, 0.5, 0.9], axis=0)
    medians = {(c.name, len(c.x)): middle for c, middle in zip(cases, middles, strict=True)}
    rows = []
    for case, low, median, high in zip(cases, lows, middles, highs, strict=True):
        size = len(case.x)
        rows.append(
            {
                "network": case.name,
                "batch_size": size,
                "median_ms": 1e3 * median,
                "q10_ms": 1e3 * low,
                "q90_ms": 1e3 * high,
                "rows_per_second": size / median,
                "reference": references[case.name],
                "speedup": medians[references[case.name], size] / median,
                "calls": case.calls,
                "threads": threads,
                "device": str(case.x.device),
                "dtype": str(case.x.dtype).removeprefix("torch."),
            }
        )
    return pd.DataFrame(rows)


def _synchronise(device: torch.device) -> None:
    """Wait for what the device was asked to do; the CPU has done it already."""
    if device.type == "cpu":
        return
    if hasattr(torch, "accelerator"):  # torch >= 2.6
        torch.accelerator.synchronize(device)
    else:
        getattr(torch, device.type).synchronize()


def _ready(
    network: nn.Module, device: str | torch.device | None, dtype: torch.dtype | None
) -> nn.Module:
    where = None if device is None else resolve_device(device)
    return copy.deepcopy(network).to(device=where, dtype=dtype).eval()


def _batch(rows: Tensor, size: int, network: nn.Module) -> Tensor:
    """So many rows, on the network's device and in its precision."""
    state = chain(network.parameters(), network.buffers())
    like = next((t for t in state if t.is_floating_point()), rows)
    batch = rows.repeat(-(-size // len(rows)), 1)[:size]
    return batch.to(device=like.device, dtype=like.dtype)


def _try(case: _Case) -> None:
    try:
        case.network(case.x)
    except (RuntimeError, IndexError, TypeError, DataError) as error:
        raise DataError(
            f"measure_latency: network {case.name!r} cannot take inputs {list(case.x.shape)}: {error} Give the"
            " number of predictors it was made for, or rows of them."
        ) from error


def _rows(inputs: int | Tensor, number: int, seed: int) -> Tensor:
    if isinstance(inputs, Tensor):
        if inputs.ndim != 2 or not inputs.numel() or not inputs.is_floating_point():
            raise DataError(
                "measure_latency: inputs must be p, or rows [M, p] of floating point numbers; got"
                f" {list(inputs.shape)} of {inputs.dtype}."
            )
        return inputs.detach()
    if int(inputs) < 1:
        raise DataError(f"measure_latency: inputs must be at least one predictor; got {inputs}.")
    return torch.randn(number, int(inputs), generator=torch.Generator().manual_seed(seed))


def _references(names: Sequence[str], reference: str | Mapping[str, str] | None) -> dict[str, str]:
    if isinstance(reference, Mapping):
        found = {**{name: name for name in names}, **reference}
    else:
        found = dict.fromkeys(names, names[0] if reference is None else reference)
    for name in chain(found, found.values()):
        if name not in names:
            raise ConfigurationError(
                f"measure_latency: reference names {name!r}, which is not among the networks: {names}."
            )
    return found


def _check(
    networks: Mapping[str, nn.Module],
    batch_sizes: Sequence[int],
    repeats: int,
    warmup: int,
    min_seconds: float,
    threads: int | None,
) -> None:
    if not networks:
        raise ConfigurationError("measure_latency: expected at least one network; got none.")
    if not batch_sizes or min(batch_sizes) < 1 or len(set(batch_sizes)) < len(batch_sizes):
        raise ConfigurationError(
            f"measure_latency: batch_sizes must be different numbers of at least 1; got {list(batch_sizes)}."
        )
    for name, value in (("repeats", repeats), ("warmup", warmup), ("threads", threads)):
        if value is not None and value < 1:
            raise ConfigurationError(f"measure_latency: {name} must be at least 1; got {value}.")
    if not min_seconds >= 0:
        raise ConfigurationError(
            f"measure_latency: min_seconds must not be negative; got {min_seconds}."
        )
