"""A pruned traced network as an ordinary torch module of the same interface as the one it came from."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.models.compact import CompactNetwork
from pyro_ssbnn.models.traced.layers import Convolution, Layer
from pyro_ssbnn.models.traced.network import TracedNetwork
from pyro_ssbnn.models.traced.program import Program
from pyro_ssbnn.structure.geometry import ConvolutionGeometry

__all__ = ["PlainModule", "plain_module"]


class PlainModule(nn.Module):
    """An ordinary module: ``nn.Linear`` and ``nn.Conv2d`` under the names they had, with trainable parameters.

    It takes what the original took, ``[N, ...]``, and returns what that returned. Batch norms that followed a layer are
    folded into it; those that follow none are scales and shifts. :func:`plain_module` makes it.

    :param network: the pruned network, of one set of weights.
    """

    def __init__(self, network: CompactNetwork) -> None:
        super().__init__()
        self._shape = dict(network.shape)
        self._input_shape = tuple(network.shape.get("image_shape") or (network.num_inputs,))
        self._paths: dict[str, str] = {}
        program: Program = network.shape["steps"]
        self._returns: list[Any] | None = program[-1].get("returns")
        for name, layer in program.layers():
            self._put(name, layer.path, _module_of(layer, network.layers[name]))
        for step in program.steps:
            if step.name in network.parts:
                path = getattr(step.operation, "module", step.name)
                self._put(step.name, path, network.parts[step.name])
        for part in network.parts.values():
            _trainable(part)
        self._sums = network.sums

    def forward(self, x: Tensor) -> Any:
        """What the original returned, of x ``[N, ...]``.

        :raises DataError: for rows of another shape.
        """
        if x.shape[1:] != self._input_shape:
            rows = ", ".join(map(str, self._input_shape))
            raise DataError(f"PlainModule: x must be [N, {rows}]; got {list(x.shape)}.")
        wiring = _PlainWiring(self)
        last, read = self._shape["steps"].run(wiring, x)
        if self._returns is None:
            return last.operation(wiring, last.name, *read)
        if any(isinstance(key, str) for key in self._returns):
            return dict(zip(self._returns, read, strict=True))
        return tuple(read)

    def _put(self, name: str, path: str, module: nn.Module) -> None:
        """Put a module at the dotted path that it had."""
        self._paths[name] = path
        *places, last = path.split(".")
        owner: nn.Module = self
        for place in places:
            if place not in owner._modules:
                owner.add_module(place, nn.Module())
            owner = owner.get_submodule(place)
        owner.add_module(last, module)


class _PlainWiring:
    """What the operations ask of a network, of a plain module: methods of its own would be names it cannot use."""

    def __init__(self, module: PlainModule) -> None:
        self.module, self.shape = module, module._shape

    def inputs(self, x: Tensor) -> Tensor:
        """The input as it is."""
        return x

    def layer(self, name: str, h: Tensor) -> Tensor:
        """Pre-activations of a layer."""
        module: Any = self.module.get_submodule(self.module._paths[name])
        result: Tensor
        if (
            isinstance(module, nn.Linear) and h.ndim == 4
        ):  # one with a batch norm: maps of one pixel
            result = module(h.flatten(1)).unflatten(-1, (-1, 1, 1))
        elif isinstance(module, nn.Conv1d):
            result = module(h.squeeze(-2)).unsqueeze(-2)
        else:
            result = module(h)
        return result

    def phi(self, h: Tensor) -> Tensor:
        """The identity."""
        return h

    def add(self, name: str, *terms: Tensor, dim: int = -3) -> Tensor:
        """The sum of that name."""
        result: Tensor = self.module._sums[name](*terms, dim=dim)
        return result

    def part(self, name: str, *h: Tensor) -> Tensor:
        """A part that carried no gates."""
        result: Tensor = self.module.get_submodule(self.module._paths[name])(*h)
        return result


def plain_module(network: CompactNetwork) -> PlainModule:
    """Make an ordinary torch module of a pruned traced network.

    :param network: what :func:`pyro_ssbnn.prune` made of the network of :func:`pyro_ssbnn.from_module`, with posterior
        mean weights.
    :raises ConfigurationError: for another network, or one of several draws.
    """
    if network.network is not TracedNetwork:
        raise ConfigurationError(
            "plain_module: expected the pruned network of a torch module (from_module); got one of"
            f" {network.network.__name__}."
        )
    if any(layer.bias.ndim == 2 for layer in network.layers.values()):
        raise ConfigurationError(
            "plain_module: prune to posterior mean weights, without num_draws."
        )
    return PlainModule(deepcopy(network))


def _module_of(layer: Layer, cut: nn.Module) -> nn.Module:
    """A cut layer as torch's own; one without nodes or inputs, which torch's cannot be, as it is."""
    weight, bias = cut.get_buffer("weight"), cut.get_buffer("bias")
    made: nn.Module
    if not weight.numel():
        _trainable(cut)
        return cut
    with torch.device("meta"):
        if isinstance(layer, Convolution):
            made = _convolution_of(layer, weight)
        else:
            made = nn.Linear(weight.shape[1], len(weight))
    shape = made.get_parameter("weight").shape
    made.weight, made.bias = nn.Parameter(weight.reshape(shape).clone()), nn.Parameter(bias.clone())
    return made


def _convolution_of(layer: Convolution, weight: Tensor) -> nn.Module:
    geometry = ConvolutionGeometry(**layer.geometry or {})
    pairs: Mapping[str, Any] = {
        name: value if isinstance(value, tuple) else (value, value)
        for name in ("kernel_size", "stride", "padding", "dilation")
        for value in [getattr(geometry, name)]
    }
    groups = layer.groups
    if groups == layer.size and weight.shape[1] == 1:  # depthwise: as many as are left
        groups = len(weight)
    kind: type[nn.Conv1d] | type[nn.Conv2d] = nn.Conv2d
    if layer.dims == 1:
        kind, pairs = nn.Conv1d, {name: value[1] for name, value in pairs.items()}
    return kind(groups * weight.shape[1], len(weight), groups=groups, **pairs)


def _trainable(module: nn.Module) -> None:
    """Make floating-point buffers parameters."""
    for name, value in list(module.named_buffers(recurse=False)):
        if value.is_floating_point():
            del module._buffers[name]
            module.register_parameter(name, nn.Parameter(value.clone()))
