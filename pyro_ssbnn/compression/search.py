"""The search for a selection that reaches a target, by what its networks cost or lose."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_ssbnn.analysis import measure_latency
from pyro_ssbnn.compression.evidence import Evidence, GateSlopes
from pyro_ssbnn.compression.removal import (
    Masks,
    joined_layers,
    removal_order,
    smallest_that,
    without,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.selection import Selection, prune
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.flow import without_unread

__all__ = ["Search", "work_of"]

_ROWS = 256  # of a pass


class Search:
    """The selection that reaches a target.

    :param module: the original.
    :param fitted: the posterior of its network.
    :param validation: rows and labels to measure accuracy on.
    :param rows: of a call whose time is measured.
    :param training: rows of the fit and their targets, which say what a cut loses.
    :raises ConfigurationError: for a network without gated nodes.
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
        self.joined = {names[0]: names for names in joined_layers(self.description)}
        if not self.joined:
            raise ConfigurationError("compress: no layer of the network carries gates.")
        sizes = {group.name: group.size for group in self.description.gated_layers}
        self.sizes = sizes
        self.whole = {first: torch.ones(sizes[first], dtype=torch.bool) for first in self.joined}
        self.slopes = GateSlopes(fitted, *training)

    def reach(self, target: str, limit: float) -> Selection:
        """The selection.

        :raises ConfigurationError: for a limit out of reach.
        """
        if target in ("nodes", "multiply_adds"):
            cost, most = (self._nodes, limit) if target == "nodes" else (self._work, limit)
            if target == "multiply_adds" and limit <= 1:
                most = limit * self.description.multiply_adds
            order = removal_order(self._evidence, cost, self._weights, self.whole, most, target)
            return self._selection(without(self.whole, order), f"{target} {limit:g}")
        # What is measured follows the multiply-adds.
        order = removal_order(self._evidence, self._work, self._weights, self.whole)

        def cut(k: int) -> Selection:
            return self._selection(without(self.whole, order[:k]), f"{target} {limit:g}")

        if target == "latency":
            k = smallest_that(lambda k: self._latency(cut(k)) <= limit, len(order))
            if k == len(order) and (least := self._latency(cut(k))) > limit:
                raise ConfigurationError(
                    f"compress: latency of {limit:g} cannot be reached: with one node a layer it is {least:.3g} still."
                )
            return cut(k)
        least = self._accuracy_of_module() - limit
        return cut(smallest_that(lambda k: self._accuracy(cut(k + 1)) < least, len(order)))

    def _evidence(self, masks: Masks) -> Evidence:
        """Evidence for the gates, of which layers share one that are added up."""
        slopes, weight = self.slopes(self._mask_of_each(masks))
        prior = {name: self.description[name].prior_logit for name in slopes}
        joined = [
            torch.cat(
                [
                    torch.stack([of[name] for name in names]).sum(0)
                    for names in self.joined.values()
                ],
                -1,
            )
            for of in (slopes, prior)
        ]
        return Evidence(joined[0], weight, joined[1])

    def _mask_of_each(self, masks: Masks) -> dict[str, Tensor]:
        shared = {name: masks[first] for first, names in self.joined.items() for name in names}
        return {name: shared[name] for name in self.sizes}

    def _selection(self, masks: Masks, rule: str = "") -> Selection:
        of_each = self._mask_of_each(masks)
        kept = {name: mask.nonzero().flatten() for name, mask in of_each.items()}
        return Selection(kept, self.sizes, rule)

    def _nodes(self, masks: Masks) -> float:
        return sum(self._selection(masks).counts.values())

    def _work(self, masks: Masks) -> float:
        return work_of(self.description, self._selection(masks))

    def _weights(self, masks: Masks) -> float:
        return _narrowed(self.description, self._selection(masks)).num_weights

    def _latency(self, selection: Selection) -> float:
        size = self.description.inputs.num_columns
        table = measure_latency(
            {"pruned": self._pruned(selection)}, size, batch_sizes=[self.rows], device="cpu"
        )
        return float(table["median_ms"].iloc[0])

    def _accuracy(self, selection: Selection) -> float:
        x, y = self._validation()
        network = self._pruned(selection)
        like = next(b for b in network.buffers() if b.is_floating_point())
        return _accuracy(network, x.flatten(1).to(like), y)

    def _pruned(self, selection: Selection) -> nn.Module:
        return prune(self.fitted.model, self.fitted.guide, selection).network

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


def work_of(description: NetworkDescription, selection: Selection) -> int:
    """Multiply-adds of the pruned network for one row."""
    return _narrowed(description, selection).multiply_adds


def _narrowed(description: NetworkDescription, selection: Selection) -> NetworkDescription:
    return description.narrowed(without_unread(description, selection.kept))
