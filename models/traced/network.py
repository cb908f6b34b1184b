"""A network made of operations that were read from a torch module: a Pyro model with a description like any other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from typing_extensions import Self

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.models.base import GatedNetwork
from pyro_ssbnn.models.compact import CompactNetwork
from pyro_ssbnn.models.traced.fixed import Fixed, take_statistics
from pyro_ssbnn.models.traced.following import INPUT, Signal
from pyro_ssbnn.models.traced.layers import Layer
from pyro_ssbnn.models.traced.program import Program
from pyro_ssbnn.models.wiring import Wiring
from pyro_ssbnn.priors import BetaInclusion, Prior, TheoryInclusion
from pyro_ssbnn.registry import register
from pyro_ssbnn.structure.axes import Axis
from pyro_ssbnn.structure.channels import ChannelGroup
from pyro_ssbnn.structure.cut import CutLayer
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.gates import GateInclusion
from pyro_ssbnn.structure.groups import InputGroup, NodeGroup
from pyro_ssbnn.structure.heads import HeadGroup

__all__ = ["TracedNetwork"]


@register("traced")
class TracedNetwork(GatedNetwork):
    """The network of an ordinary torch module, as :func:`pyro_ssbnn.from_module` makes it.

    Dense layers and convolutions are node groups, with the batch norm that follows them; what stands between them is
    kept as it was, and says what must be cut together. Data are rows ``[N, p]``, each the flattened input of the
    module.

    :param input_shape: of the module's input, a row.
    :param steps: records of its operations in forward order.
    :param prior: prior of the nodes.
    :param likelihood: distribution of the targets.
    :param output_prior: ungated prior of the layers that give the output, by default Normal(0, 1) weights.
    :param ungated: names of layers that are to carry no gates.
    :param notes: what was done to other parts of the module, ``[module, what]``.
    :param prefix: what all site names begin with, see :class:`GatedNetwork`.
    :raises ConfigurationError: for operations that make no network, and the theory's prior inclusion, which is known
        for perceptrons only.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        steps: Sequence[Mapping[str, Any]],
        *,
        prior: Prior,
        likelihood: Likelihood,
        output_prior: Prior | None = None,
        activation: str = "identity",
        ungated: Sequence[str] = (),
        notes: Sequence[Sequence[str]] = (),
        prefix: str | None = None,
    ) -> None:
        super().__init__(prior, likelihood, output_prior, activation, prefix)
        if activation != "identity":
            raise ConfigurationError("TracedNetwork: activations are among its operations.")
        self.input_shape = tuple(input_shape)
        self.image_shape = self.input_shape if len(self.input_shape) > 1 else ()
        self.program, self.ungated = Program(steps), list(ungated)
        self.notes = [list(note) for note in notes]
        self.seen, output = self.program.follow(self.input_shape, self.ungated)
        description = self._described(output)
        if description.num_outputs != likelihood.num_outputs:
            raise ConfigurationError(
                f"from_module: {type(likelihood).__name__} takes {likelihood.num_outputs} outputs; the module gives"
                f" {description.num_outputs}."
            )
        self._build(description)

    def _described(self, output: Signal) -> NetworkDescription:
        """The layers as node groups, with the sums and what follows what."""
        seen, outputs = self.seen, self.seen.behind(output.source)
        gated = seen.gated()
        inclusion = _inclusion(self.prior, gated)
        groups = []
        for fields in seen.layers.values():
            fields = dict(fields)
            kind: type[NodeGroup] = ChannelGroup if fields.pop("groups", 1) > 1 else NodeGroup
            kind = HeadGroup if "rows_per_node" in fields else kind
            last = fields["name"] in outputs
            group = kind(
                inclusion=inclusion.get(fields["name"]),
                prior=self.output_prior if last else self.prior,
                scope=self.prior.output_scope if last else "global",
                **fields,
            )
            groups.append(group)
        if not groups:
            raise ConfigurationError(
                "from_module: the module has no dense layer and no convolution."
            )
        size = math.prod(self.input_shape)
        inputs = InputGroup(INPUT, size, None, tuple(f"x{i + 1}" for i in range(size)))
        sums, follows = tuple(seen.sums.values()), tuple(seen.follows.items())
        return NetworkDescription(inputs, tuple(groups), sums, follows, output.source)

    def _build(self, description: NetworkDescription) -> None:
        super()._build(description)
        sizes = {group.name: group.size for group in description.groups}
        sizes |= {total.name: total.size for total in description.sums}
        for step in self.program.steps:
            what = step.operation
            if isinstance(what, Layer) and what.norm is not None:
                statistics: Any = self.get_submodule(f"{step.name}.statistics")
                statistics.momentum, statistics.eps = what.momentum, what.eps
            elif isinstance(what, Fixed):
                source, size = self.seen.norms.get(step.name, (None, 0))
                size = size if source is None else sizes[source]
                self.add_module(step.name, what.made(size))

    @staticmethod
    def wire(net: Wiring, x: Tensor) -> Tensor:
        """Run the operations, one after another."""
        program: Program = net.shape["steps"]
        last, read = program.run(net, net.inputs(x))
        return last.operation(net, last.name, *read)

    def passed_on(self) -> dict[str, Tensor]:
        """What closed nodes pass on to those layers where it is not 0, ``{layer: [fan_in]}``."""
        constants = {}
        for name, signal in self.seen.passed.items():
            group = self.description.layer(name)
            value = next(self.buffers(), torch.zeros(())).new_zeros((), dtype=torch.float64)
            for step, what in signal.chain:
                value = what.of_constant(self, step, value)
            sources = group.incoming.size
            width = group.fan_in // sources
            constants[name] = value.expand(sources).repeat_interleave(width)
        return constants

    def passes_nothing(self, name: str) -> bool:
        """Whether the closed nodes of a group pass on 0 to everyone."""
        passing = (self.seen.behind(signal.source) for signal in self.seen.passed.values())
        return not any(name in sources for sources in passing)

    def statistics_axes(self) -> dict[str, tuple[Axis, ...]]:
        """Axes of running statistics, and of parts without weights in the posterior."""
        axes: dict[str, tuple[Axis, ...]] = {}
        parts = self._fixed()
        for key in self.state_dict():
            name = key.partition(".")[0]
            source, _ = self.seen.norms.get(name, (None, 0))
            if source is not None:
                size = len(self.get_submodule(name).get_buffer("scale"))
                axes[key] = (Axis(source, size),)
            else:
                axes[key] = () if name in parts else (self.description.layer(name).rows,)
        return axes

    def _fixed(self) -> dict[str, Fixed]:
        """Operations with parts, by name."""
        steps = self.program.steps
        return {s.name: s.operation for s in steps if isinstance(s.operation, Fixed)}

    def _plain_parts(self, kept: Mapping[str, Tensor]) -> dict[str, nn.Module]:
        parts: dict[str, Any] = {name: self.get_submodule(name) for name in self._fixed()}
        sources = {name: source for name, (source, _) in self.seen.norms.items()}
        return {name: part.plain(kept.get(sources.get(name) or "")) for name, part in parts.items()}

    def weights_of(self, module: nn.Module) -> dict[str, Tensor]:
        """Weights of the module's layers, as ``StructuredGuide.start_from`` takes them.

        :param module: the module this network was read from, or one of the same layers.
        :returns: ``{group: [rows, group_size]}``, biases last (0 where a layer has none), or scales and shifts.
        """
        return {name: layer.weights_of(module) for name, layer in self.program.layers()}

    @torch.no_grad()
    def take_statistics(self, module: nn.Module) -> Self:
        """Take the running statistics of the module's batch norms, and what has no weights in the posterior."""
        for step in self.program.steps:
            what = step.operation
            if isinstance(what, Fixed):
                what.take(self.get_submodule(step.name), module)
            elif isinstance(what, Layer) and what.norm is not None:
                statistics: Any = self.get_submodule(f"{step.name}.statistics")
                take_statistics(statistics, module.get_submodule(what.norm))
                layer: Any = module.get_submodule(what.module)
                if layer.bias is not None:  # which the norm takes out again
                    statistics.running_mean.sub_(layer.bias)
        return self

    def report(self) -> pd.DataFrame:
        """What became of each layer: one row each.

        Columns: ``module``, its path in the module it came from; ``nodes``; ``weights``; ``treatment``: gated, or
        ungated, or cut with the layer that reads it; ``reason``. Other parts of the module that were changed or stay
        fixed come last.
        """
        rows = []
        for name, layer in self.program.layers():
            group = self.description.layer(name)
            treatment, reason = "gated", ""
            if name in self.seen.blocked:
                treatment, reason = "ungated", self.seen.blocked[name]
            elif name in self.seen.follows:
                treatment, reason = "cut with", self.seen.follows[name]
            elif not group.gated:
                treatment, reason = "ungated", "its prior has no gates"
            rows.append((name, layer.module, group.size, group.num_weights, treatment, reason))
        for name, what in self._fixed().items():
            rows.append((name, what.module, 0, 0, "fixed", f"{what.kind}, as it came"))
        rows += [(name, name, 0, 0, what, why) for name, what, why in self.notes]
        columns = ["layer", "module", "nodes", "weights", "treatment", "reason"]
        return pd.DataFrame(rows, columns=columns).set_index("layer")

    @classmethod
    def compact_from_state(
        cls, config: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> CompactNetwork:
        """Make the pruned form from its record and its tensors."""
        shape = {**config["shape"], "steps": Program(config["shape"]["steps"])}
        network = super().compact_from_state({**config, "shape": shape}, state)
        _require_fit(network)
        return network

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make a network from its record, whose operations must fit each other."""
        network = super().from_config(config)
        layers = {}
        for group in network.description.groups:
            weight = torch.empty(group.num_rows, group.fan_in + 1, device="meta")
            rows, columns = torch.arange(group.size), torch.arange(group.fan_in)
            layers[group.name] = CutLayer(weight[:, :-1], weight[:, -1], rows, columns)
        _require_fit(network.assemble(layers))
        return network

    def _shape_config(self) -> dict[str, Any]:
        return {
            "input_shape": list(self.input_shape),
            "steps": self.program,
            "ungated": self.ungated,
            "notes": self.notes,
        }

    def _wire_config(self) -> dict[str, Any]:
        image = {"image_shape": list(self.image_shape)} if self.image_shape else {}
        return {**image, "steps": self.program, "axes": self.seen.axes}


def _require_fit(network: CompactNetwork) -> None:
    """Raise :class:`ConfigurationError` unless operations and tensors fit each other; nothing is computed."""
    bias = next(iter(network.layers.values())).get_buffer("bias")
    tensors = {name: value.to("meta") for name, value in network.named_buffers()}
    try:
        x = torch.empty(1, network.num_inputs or 0, dtype=bias.dtype, device="meta")
        f = torch.func.functional_call(network, tensors, (x,))
    except Exception as error:  # whatever torch makes of a record that anyone may have written
        raise ConfigurationError(
            f"traced network: its operations do not fit each other ({error!r})."
        ) from error
    if f.shape[:-1] != (*bias.shape[:-1], 1):
        raise ConfigurationError(f"traced network: it gives {list(f.shape)} for a row.")


def _inclusion(prior: Prior, gated: list[str]) -> dict[str, GateInclusion]:
    """Prior inclusion probability of each gated layer."""
    given = prior.inclusion
    if given is None:
        return {}
    if isinstance(given, TheoryInclusion):
        raise ConfigurationError(
            "from_module: the theory's prior inclusion is known for perceptrons only; give a number, or one per gated"
            " layer."
        )
    if isinstance(given, int | float | BetaInclusion):
        return dict.fromkeys(gated, given)
    if len(given) != len(gated):
        raise ConfigurationError(
            f"from_module: inclusion gives {len(given)} probabilities for {len(gated)} gated layers; give one number"
            f" for all, or one for each of {gated}."
        )
    return dict(zip(gated, given, strict=True))
