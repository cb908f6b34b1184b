"""Multilayer perceptron of gated nodes, of any depth, width and activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyro
from torch import Tensor

from pyro_ssbnn.checks import check_probability
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.layers import sample_gate
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.models.base import GatedNetwork
from pyro_ssbnn.models.compact import CompactLinear, CompactMLP
from pyro_ssbnn.priors import Prior
from pyro_ssbnn.registry import register
from pyro_ssbnn.structure.cut import CutLayer
from pyro_ssbnn.structure.description import (
    InputGroup,
    NetworkDescription,
    NodeGroup,
    layer_inclusion,
)

__all__ = ["MLP"]


@register("mlp")
class MLP(GatedNetwork):
    r"""A perceptron whose hidden nodes, and on request predictors, carry spike-and-slab priors.

    .. math:: h_l = \phi(z_l t_l (u_l h_{l-1} + b_l)),\qquad f = t_{L+1}(u_{L+1} h_L + b_{L+1}),\qquad y \sim p(y | f)

    An ordinary Pyro model: ``net(x)`` samples from the prior, ``net(x, y)`` conditions on the targets, and
    ``net(x, y, num_data=n)`` scales a minibatch's likelihood to n observations.

    :param num_inputs: p, number of predictors.
    :param hidden: widths of the hidden layers; empty for a linear model.
    :param prior: prior of the hidden layers' nodes.
    :param likelihood: distribution of the targets; it also sets the number of outputs.
    :param output_prior: ungated prior of the output layer, by default Normal(0, 1) weights.
    :param activation: one of :data:`~pyro_ssbnn.models.ACTIVATIONS`.
    :param input_inclusion: prior inclusion probability of each predictor; None (default) leaves predictors ungated.
        A gate closes all outgoing first-layer weights of its predictor.
    :param input_names: a name for each predictor, ``x1``, ``x2``, ... by default.
    :param prefix: what all site names begin with, see :class:`GatedNetwork`.
    :raises ConfigurationError: for widths, names or probabilities outside their domain.
    """

    def __init__(
        self,
        num_inputs: int,
        hidden: Sequence[int],
        *,
        prior: Prior,
        likelihood: Likelihood,
        output_prior: Prior | None = None,
        activation: str = "silu",
        input_inclusion: float | None = None,
        input_names: Sequence[str] | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prior, likelihood, output_prior, activation, prefix)
        self._check(num_inputs, hidden, input_inclusion, input_names)
        names = tuple(input_names or (f"x{i + 1}" for i in range(num_inputs)))
        self._build(
            NetworkDescription(
                InputGroup("input", num_inputs, input_inclusion, names),
                self._groups(num_inputs, list(hidden), input_inclusion is not None),
            )
        )

    @staticmethod
    def _check(
        num_inputs: int,
        hidden: Sequence[int],
        input_inclusion: float | None,
        input_names: Sequence[str] | None,
    ) -> None:
        if num_inputs < 1 or any(width < 1 for width in hidden):
            raise ConfigurationError(
                f"MLP: every width must be at least 1; got num_inputs={num_inputs}, hidden={list(hidden)}."
            )
        if input_inclusion is not None:
            check_probability("MLP input_inclusion", input_inclusion)
        if input_names is not None and len(set(input_names)) != num_inputs:
            raise ConfigurationError(
                f"MLP: input_names must be {num_inputs} different names, one per predictor;"
                f" got {len(input_names)} names, {len(set(input_names))} of them different."
            )

    def _groups(self, inputs: int, hidden: list[int], gated_inputs: bool) -> tuple[NodeGroup, ...]:
        widths = [inputs, *hidden, self.likelihood.num_outputs]
        inclusion = [*layer_inclusion(self.prior, widths), None]
        groups: list[NodeGroup] = []
        for layer, (size, probability) in enumerate(zip(widths[1:], inclusion, strict=True)):
            last = layer == len(hidden)
            groups.append(
                NodeGroup(
                    name="output" if last else f"hidden{layer + 1}",
                    size=size,
                    inclusion=probability,
                    fan_in=widths[layer],
                    prior=self.output_prior if last else self.prior,
                    source=groups[-1].name if groups else "input",
                    scope="output.global" if last else "global",
                    column_gate="input" if gated_inputs and not groups else None,
                )
            )
        return tuple(groups)

    def network(self, x: Tensor) -> Tensor:
        """Sample the weights and map x, ``[N, p]``, to f, without the likelihood."""
        description = self.description
        shared = self.sample_shared(x)
        h = x
        if description.inputs.gated:
            with pyro.plate(description.inputs.path, description.inputs.size, dim=-1):
                gate = sample_gate(description.inputs, x)
            h = h * gate.unsqueeze(-2)  # type: ignore[union-attr]
        for group in description.groups:
            h = self.layer(group.name)(h, shared[group.scope])
            if group is not description.groups[-1]:
                h = self.phi(h)
        return h

    def assemble(self, layers: Mapping[str, CutLayer]) -> CompactMLP:
        """Put cut layers together to a plain torch perceptron."""
        columns = layers[self.description.groups[0].name].columns
        return CompactMLP(
            [CompactLinear(cut.weight, cut.bias) for cut in layers.values()],
            self.activation,
            columns if self.description.inputs.gated else None,
            {g.name: layers[g.name].rows for g in self.description.groups[:-1]},
            self.description.inputs.size,
        )

    @classmethod
    def compact_from_state(
        cls, config: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> CompactMLP:
        """Make a pruned perceptron from its record and its tensors."""
        return CompactMLP.from_state(config, state)

    def _shape_config(self) -> dict[str, Any]:
        inputs = self.description.inputs
        return {
            "num_inputs": inputs.size,
            "hidden": [g.size for g in self.description.groups[:-1]],
            "input_inclusion": inputs.inclusion,
            "input_names": list(inputs.names),
        }
