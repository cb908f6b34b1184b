"""The search for a selection that reaches a target, by what its networks cost or lose."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pyro_ssbnn.analysis import measure_latency
from pyro_ssbnn.compression.allocation import allocated, joined_layers
from pyro_ssbnn.compression.scoring import CutLikelihood
from pyro_ssbnn.compression.targets import largest_within, ranked, smallest_that, work_of
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.selection import Selection, prune

__all__ = ["Search"]

_ROWS = 256  # of a pass


class Search:
    """The selection that reaches a target.

    :param module: the original.
    :param fitted: its fit.
    :param validation: rows and labels to measure accuracy on.
    :param rows: of a call whose time is measured.
    :param training: rows of the fit and their targets, which say what a cut loses.
    """

    def __init__(
        self,
        module: nn.Module,
        fitted: Fit,
        validation: tuple[Tensor, Tensor] | None,
        rows: int,
        training: tuple[Tensor, Tensor],
    ) -> None:
        self.module, self.fitted, self.validation, self.rows = module, fitted, validation, rows
        self.description = fitted.model.description
        self.best, self.number = ranked(fitted.guide, self.description)
        self.training = training

    def reach(self, target: str, limit: float) -> Selection:
        """The selection.

        :raises ConfigurationError: for a limit out of reach.
        """
        rule = f"{target} {limit:g}"
        if target == "accuracy_lost":
            original = self._accuracy_of_module()
            k = smallest_that(lambda k: self._accuracy(k) >= original - limit, self.number)
            lost = original - self._accuracy(k)
            if lost > limit:
                raise ConfigurationError(
                    f"compress: {rule} cannot be reached: with all its nodes the fitted network loses {lost:.3g},"
                    " before it is trained on. Fit it longer, or take the likelihood to a higher power."
                )
        elif target == "multiply_adds":
            return self._allocated(limit, rule)
        else:
            cost = {"nodes": self._nodes, "latency": self._latency}
            k = largest_within(cost[target], limit, self.number, target)
        return self.best(k, rule)

    def _nodes(self, k: int) -> float:
        return sum(self.best(k, "").counts.values())

    def _allocated(self, limit: float, rule: str) -> Selection:
        """Each layer's best nodes within so many multiply-adds."""
        most = limit * self.description.multiply_adds if limit <= 1 else limit
        sizes = {group.name: group.size for group in self.description.gated_layers}
        logits = {name: self.fitted.guide.inclusion_logits(name).cpu() for name in sizes}
        streams = {names[0]: names for names in joined_layers(self.description)}
        order = {
            first: torch.stack([logits[name] for name in names])
            .sum(0)
            .argsort(descending=True, stable=True)
            for first, names in streams.items()
        }

        def selection(counts: Mapping[str, int]) -> Selection:
            best = {first: order[first][:n].sort().values for first, n in counts.items()}
            kept = {name: best[first] for first in counts for name in streams[first]}
            return Selection({name: kept[name] for name in sizes}, sizes, rule)

        def cost(counts: Mapping[str, int]) -> float:
            return work_of(self.description, selection(counts))

        likelihood = CutLikelihood(self.fitted, *self.training)

        def score(counts: Mapping[str, int]) -> float:
            return likelihood(selection(counts))

        together = {first: sizes[first] for first in streams}
        return selection(allocated(cost, score, together, most, "multiply_adds"))

    def _pruned(self, k: int) -> nn.Module:
        return prune(self.fitted.model, self.fitted.guide, self.best(k, "")).network

    def _latency(self, k: int) -> float:
        size = self.description.inputs.num_columns
        table = measure_latency(
            {"pruned": self._pruned(k)}, size, batch_sizes=[self.rows], device="cpu"
        )
        return float(table["median_ms"].iloc[0])

    def _accuracy(self, k: int) -> float:
        x, y = self._validation()
        network = self._pruned(k)
        like = next(b for b in network.buffers() if b.is_floating_point())
        return _accuracy(network, x.flatten(1).to(like), y)

    def _accuracy_of_module(self) -> float:
        x, y = self._validation()
        mode = {m: m.training for m in self.module.modules()}
        try:
            return _accuracy(self.module.eval(), x, y)
        finally:
            for m, training in mode.items():
                m.training = training

    def _validation(self) -> tuple[Tensor, Tensor]:
        if self.validation is None:
            raise ConfigurationError("compress: accuracy_lost needs validation=(x, y).")
        return self.validation


@torch.no_grad()
def _accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of rows whose largest output is their class."""
    right = [
        (network(part).argmax(-1).cpu() == labels.cpu()).sum()
        for part, labels in zip(x.split(_ROWS), y.split(_ROWS), strict=True)
    ]
    return float(torch.stack(right).sum()) / len(x)
