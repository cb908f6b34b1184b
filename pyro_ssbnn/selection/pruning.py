r"""Pruning: from a guide and a selection to a physically smaller plain torch network that predicts the same.

Cutting node j of a layer removes its row there and its column in the layer it feeds. A closed node does not vanish from
the sum when the activation of 0 is not 0 (sigmoid, softplus): it then passes on the constant :math:`\phi(0)`, which is
folded into the consumer's bias:

.. math:: b' = b + \phi(0) \sum_{j\ \mathrm{closed}} w_{\cdot j}

so the compact network equals the masked one (gates set to the selection) to rounding, for every activation. A closed
predictor passes on 0. A closed filter passes on the same constant at every pixel, through max-pooling too; only a
convolution that pads its maps with zeros reads something else at the border, and is refused unless
:math:`\phi(0) = 0`, and so is a layer that reads a sum.

Batch norms are folded into the convolutions before them, with their running statistics. Where groups are added up (a
residual stream), a channel stays as long as one of them writes to it; the layers of a branch that adds nothing any more
leave altogether, and a branch whose first layer is closed is left as a constant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pandas as pd
import torch
from pyro import poutine
from torch import Tensor

from pyro_ssbnn.checks import check_draws
from pyro_ssbnn.display import as_html
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.models import CompactNetwork
from pyro_ssbnn.posterior.draws import site_values, trace_draws
from pyro_ssbnn.posterior.parts import parts_of
from pyro_ssbnn.posterior.weights import cut_weights, folded_weights, mean_weights
from pyro_ssbnn.selection.rules import Selection, require_nodes, require_selection, select
from pyro_ssbnn.structure.cut import CutLayer
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network

__all__ = ["Pruning", "draw_open_weights", "prune"]

_COUNTED = ("nodes", "weights", "multiply_adds")
_CHUNK_ELEMENTS = 2**24


@dataclass(frozen=True)
class Pruning:
    """A compact network and what it cost and saved.

    :param network: plain ``torch.nn.Module``; maps the original predictors to f (``[N, K]``, or ``[S, N, K]`` for
        draws).
    :param selection: what was kept.
    :param report: one row a layer (and ``input``, the predictors, where they have gates) and a total: nodes, weights
        and multiply-adds (per input), before, after. Biases
        count, but neither scales and shifts of batch norms nor the biases they are folded into
        (:meth:`~pyro_ssbnn.structure.groups.NodeGroup.count_weights`); :attr:`num_elements` counts every number.
    """

    network: CompactNetwork
    selection: Selection
    report: pd.DataFrame

    def __repr__(self) -> str:
        total = self.report.loc["total"]
        work = f"multiply-adds {total['multiply_adds']:,} -> {total['multiply_adds_kept']:,}"
        return (
            f"Pruning: weights {total['weights']:,} -> {total['weights_kept']:,}, {work}\n"
            f"  {self.selection}"
        )

    def _repr_html_(self) -> str:
        headers = ("layer", "nodes", "weights", "multiply-adds")
        rows = [
            (str(name), *(f"{row[k]:,} → {row[f'{k}_kept']:,}" for k in _COUNTED))
            for name, row in self.report.iterrows()
        ]
        return as_html("Pruning, before → after", rows, headers)

    @property
    def num_elements(self) -> int:
        """Numbers that the compact network computes with: all its weights and biases, of all draws."""
        state = self.network.state_dict().values()
        return sum(v.numel() for v in state if v.is_floating_point())


def prune(
    model: Network,
    guide: Guide | MixtureGuide,
    selection: Selection | None = None,
    *,
    num_draws: int | None = None,
    seed: int = 0,
) -> Pruning:
    """Cut a fitted network down to its selected nodes.

    Of a mixture each draw keeps what its own fit selects, and the network has room for the union: an average of the
    pruned fits. One set of weights is that of one fit: prune ``mixture.best``.

    :param selection: see :func:`~pyro_ssbnn.selection.rules.select`; the median probability model by default.
    :param num_draws: None for the posterior mean weights, or S posterior draws, evaluated together in one batched pass.
    :param seed: of the draws.
    :raises ConfigurationError: for a guide of another network; for a mixture without draws, or with a selection.
    :raises SelectionError: for a selection of another network, and when a layer that no sum bypasses, or the set of
        predictors, would keep no member.
    """
    require_match("prune", model, guide)
    if isinstance(guide, MixtureGuide):
        return _pruned_mixture(model, guide, selection, num_draws, seed)
    selection = select(guide.inclusion()) if selection is None else selection
    require_selection("prune", selection, model.description)
    require_nodes(selection, model.description)
    if num_draws is not None:
        check_draws("prune", num_draws)
    description = model.description
    if num_draws is None:
        open = {name: selection.mask(name) for name in selection.kept}
        weights = mean_weights(model, guide, open)
        layers = cut_weights(description, weights, selection.kept, model.passed_on())
    else:
        layers = _joined(_cut_draws(model, guide, selection, selection, num_draws, seed))
    return _assembled(model, selection, layers)


def _pruned_mixture(
    model: Network,
    guide: MixtureGuide,
    selection: Selection | None,
    num_draws: int | None,
    seed: int,
) -> Pruning:
    """Draws of every fit of a mixture, each with the nodes of its own selection, in one network."""
    if selection is not None or num_draws is None:
        raise ConfigurationError(
            "prune: nodes of different fits do not correspond, so a mixture is cut to draws, each with what its own"
            " fit selects: prune(mixture.model, mixture.guide, num_draws=100). For one selection or one set of weights"
            " prune one fit: prune(mixture.best.model, mixture.best.guide)."
        )
    check_draws("prune", num_draws)
    parts = parts_of(model, guide, num_draws, seed)
    own = [select(part.guide.inclusion()) for part in parts]
    for one in own:
        require_nodes(one, model.description)
    union = _union(own)
    cut = [
        layers
        for part, one in zip(parts, own, strict=True)
        for layers in _cut_draws(part.model, part.guide, one, union, part.num_draws, part.seed)
    ]
    return _assembled(model, union, _joined(cut))


def _union(selections: Sequence[Selection]) -> Selection:
    """What any of some selections keeps."""
    sizes = selections[0].sizes
    kept = {
        name: torch.stack([one.mask(name) for one in selections]).any(0).nonzero().flatten()
        for name in sizes
    }
    return Selection(kept, sizes, f"union of {len(selections)} fits' {selections[0].rule}")


def _assembled(model: Network, selection: Selection, layers: Mapping[str, CutLayer]) -> Pruning:
    network = cast(CompactNetwork, model.assemble(layers))
    return Pruning(network, selection, _report(model.description, layers, selection))


def draw_open_weights(
    model: Network, guide: Guide, selection: Selection, num_draws: int
) -> dict[str, Tensor]:
    """Draw scales and weights given that the selected gates are open, ``{group: [S, size, fan_in + 1]}``.

    They are those of plain layers, running statistics folded in. Closed nodes come out as zero. Uses the caller's
    random state.
    """
    groups = [model.description[name] for name in selection.kept]
    gates = {group.gate_site: selection.mask(group.name) for group in groups}
    like = next(guide.parameters())
    gates = {site: mask.to(like).expand(num_draws, -1) for site, mask in gates.items()}
    values = site_values(trace_draws(poutine.condition(guide, data=gates), num_draws))
    return folded_weights(model, values)


def _cut_draws(
    model: Network,
    guide: Guide,
    selection: Selection,
    kept: Selection,
    num_draws: int,
    seed: int,
) -> list[dict[str, CutLayer]]:
    """Draw and cut a few draws at a time, so that the uncut weights of all draws are never held at once.

    :param selection: what is open.
    :param kept: what has room in the network, the selection or more.
    """
    description = model.description
    chunk = max(1, min(num_draws, _CHUNK_ELEMENTS // description.num_weights))
    parts = []
    with isolated(seed, next(guide.parameters())):
        for start in range(0, num_draws, chunk):
            weights = draw_open_weights(model, guide, selection, min(chunk, num_draws - start))
            parts.append(cut_weights(description, weights, kept.kept, model.passed_on()))
    return parts


def _joined(parts: Sequence[Mapping[str, CutLayer]]) -> dict[str, CutLayer]:
    """Layers of draws that were cut a few at a time."""
    return {
        name: CutLayer(
            torch.cat([part[name].weight for part in parts]),
            torch.cat([part[name].bias for part in parts]),
            first.rows,
            first.columns,
        )
        for name, first in parts[0].items()
    }


def _report(
    description: NetworkDescription, layers: Mapping[str, CutLayer], selection: Selection
) -> pd.DataFrame:
    inputs, linear = description.inputs, description.linear
    rows: list[tuple[str, int, int, int, int, int, int]] = []
    if inputs.gated:  # what a predictor's weights cost stands with those of the layers that read it
        kept = selection.mask(inputs.name)
        if linear is not None:
            kept = kept | selection.mask(linear.name)
        rows.append((inputs.name, inputs.size, int(kept.sum()), 0, 0, 0, 0))
    for group in description.groups:
        cut = layers[group.name]
        after = group.count_weights(len(cut.rows), len(cut.columns))
        works = (group.multiply_adds, group.positions * after)
        rows.append((group.name, group.size, len(cut.rows), group.num_weights, after, *works))
    columns = [
        "layer",
        "nodes",
        "nodes_kept",
        "weights",
        "weights_kept",
        "multiply_adds",
        "multiply_adds_kept",
    ]
    report = pd.DataFrame(rows, columns=columns).set_index("layer")
    report.loc["total"] = report.sum()
    return report
