"""Plain torch networks that pruning returns: no Pyro, no gates, only the kept nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from pyro_ssbnn.errors import DataError
from pyro_ssbnn.models.activations import ACTIVATIONS

__all__ = ["CompactLinear", "CompactMLP", "CompactNetwork"]


class CompactLinear(nn.Module):
    """Affine map with fixed weights: one set, or S posterior draws evaluated in one batched product.

    :param weight: ``[out, in]`` or ``[S, out, in]``.
    :param bias: ``[out]`` or ``[S, out]``.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, in]`` (or ``[S, N, in]``) to ``[N, out]``, or ``[S, N, out]`` for draws."""
        if self.weight.ndim == 2:
            return linear(x, self.weight, self.bias)
        if x.ndim == 2:  # one product for all draws: the input is shared
            draws, size, fan_in = self.weight.shape
            flat = linear(x, self.weight.reshape(draws * size, fan_in), self.bias.reshape(-1))
            # Not len(x): an exporter would take it for a constant.
            return flat.reshape(x.shape[0], draws, size).transpose(0, 1)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)


class CompactNetwork(nn.Module):
    """What pruned networks share: an activation and the original indices of the kept nodes.

    :param activation: name of the activation of the hidden layers.
    :param kept: original indices of each hidden layer's kept nodes.
    :param num_inputs: p, number of original predictors; None for a file that does not say it.
    :param input_index: original indices of the kept predictors, or None when all are kept.
    """

    input_index: Tensor | None

    def __init__(
        self,
        activation: str,
        kept: Mapping[str, Tensor],
        num_inputs: int | None,
        input_index: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.num_inputs = num_inputs
        self.register_buffer("input_index", input_index)
        self.activation = activation
        self.phi = ACTIVATIONS[activation]()
        self.kept_names = tuple(kept)
        for name, indices in kept.items():
            self.register_buffer(f"kept_{name}", indices)

    @property
    def kept(self) -> dict[str, Tensor]:
        """Original index of every kept node, ``{layer: [kept]}``."""
        return {name: getattr(self, f"kept_{name}") for name in self.kept_names}

    def check_width(self, x: Tensor) -> None:
        """Raise :class:`DataError` unless x, ``[N, p]``, has all the original predictors."""
        if self.num_inputs is not None and x.shape[-1] != self.num_inputs:
            raise DataError(
                f"{type(self).__name__}: x must be [N, {self.num_inputs}], the predictors of the network before it was"
                f" pruned; got {list(x.shape)}."
            )

    def to_config(self) -> dict[str, Any]:
        """Plain record that, with the ``state_dict``, makes the network again; subclasses add ``network``."""
        return {
            "activation": self.activation,
            "kept": list(self.kept_names),
            "num_inputs": self.num_inputs,
        }


class CompactMLP(CompactNetwork):
    """A pruned perceptron: ``forward`` takes the *original* predictors and returns f.

    :param layers: the affine maps in forward order.
    :param activation: name of the activation between them.
    :param input_index: original indices of the kept predictors, or None when all are kept.
    :param kept: original indices of each hidden layer's kept nodes.
    :param num_inputs: p, number of original predictors; by default known where all are kept.
    """

    def __init__(
        self,
        layers: Sequence[CompactLinear],
        activation: str,
        input_index: Tensor | None,
        kept: dict[str, Tensor],
        num_inputs: int | None = None,
    ) -> None:
        if num_inputs is None and input_index is None:
            num_inputs = layers[0].weight.shape[-1]
        super().__init__(activation, kept, num_inputs, input_index)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Output f, ``[N, num_outputs]``, or ``[S, N, num_outputs]`` for draws, at predictors x, ``[N, p]``.

        :raises DataError: for another number of columns than there were predictors before pruning.
        """
        self.check_width(x)
        h = x if self.input_index is None else x.index_select(-1, self.input_index)
        for layer in self.layers[:-1]:
            h = self.phi(layer(h))
        return self.layers[-1](h)

    def to_config(self) -> dict[str, Any]:
        """Plain record that, with the ``state_dict``, makes the network again."""
        return {"network": "mlp", **super().to_config()}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> CompactMLP:
        """Make a network from its record and its tensors.

        :raises KeyError: when an entry or a tensor is missing.
        """
        names = config["kept"]
        layers = [
            CompactLinear(state[f"layers.{i}.weight"], state[f"layers.{i}.bias"])
            for i in range(len(names) + 1)
        ]
        kept = {name: state[f"kept_{name}"] for name in names}
        index, size = state.get("input_index"), config.get("num_inputs")
        return cls(layers, config["activation"], index, kept, size)
