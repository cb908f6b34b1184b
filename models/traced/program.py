"""The operations of a network in forward order: as plain records, and read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.models.traced.following import INPUT, Following, Shape, Signal
from pyro_ssbnn.models.traced.layers import Layer
from pyro_ssbnn.models.traced.operations import Operation, operation
from pyro_ssbnn.models.wiring import Wiring

__all__ = ["Program", "Step"]


class Step(NamedTuple):
    """One operation at its place in a network.

    :param of: names of the steps, or of the input, that it reads.
    :param shape: of its result, a row.
    :param last: names of what no later step reads.
    """

    name: str
    operation: Operation
    of: tuple[str, ...]
    shape: tuple[int, ...]
    last: tuple[str, ...]


class Program(list[dict[str, Any]]):
    """The steps of a network as plain records, ``{name, of, shape, does: {op, ...}}``, and read once.

    :raises ConfigurationError: for records that are no steps.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(dict(record) for record in records)
        self.steps: list[Step] = []
        last = {name: record["name"] for record in self for name in record["of"]}
        for record in self:
            what = operation(record["does"])
            name, of, shape = record["name"], tuple(record["of"]), tuple(record["shape"])
            gone = tuple(dict.fromkeys(n for n in of if last[n] == name))
            self.steps.append(Step(name, what, of, shape, gone))
        if not self.steps:
            raise ConfigurationError("traced network: there are no operations.")

    def layers(self) -> Iterator[tuple[str, Layer]]:
        """Name and operation of every layer with weights in the posterior, in forward order."""
        for step in self.steps:
            if isinstance(step.operation, Layer):
                yield step.name, step.operation

    def run(self, net: Wiring, x: Tensor) -> tuple[Step, list[Tensor]]:
        """Run the operations but the last: that one, and what it reads."""
        values = {INPUT: x}
        *steps, last = self.steps
        for step in steps:
            read = [values[name] for name in step.of]
            for name in step.last:
                del values[name]
            values[step.name] = step.operation(net, step.name, *read)
        return last, [values[name] for name in last.of]

    def follow(self, shape: Shape, ungated: Sequence[str]) -> tuple[Following, Signal]:
        """Follow the members of all layers to the output.

        :param shape: of the input, a row.
        :raises ConfigurationError: for names of no layer.
        """
        seen = Following()
        signals = {INPUT: Signal(shape, INPUT)}
        for step in self.steps:
            read = (signals[name] for name in step.of)
            signals[step.name] = step.operation.follow(seen, step.name, step.shape, *read)
        output = signals[self.steps[-1].name]
        if len(output.shape) != 1:
            raise ConfigurationError(
                f"traced network: the output must be [N, K]; {self.steps[-1].name} gives [N, "
                f"{', '.join(map(str, output.shape))}]. Flatten it in the module."
            )
        if output.width != 1 or seen.stays(output):
            name = f"{self.steps[-1].name}_whole"
            output = seen.mixed(
                name, output.shape, [output], "it is the network's output", output.shape[0]
            )
        unknown = [name for name in ungated if name not in seen.layers]
        if unknown:
            raise ConfigurationError(
                f"from_module: ungated names {unknown[0]!r}, which is no layer; the layers are {list(seen.layers)}."
            )
        seen.finish(output, ungated)
        return seen, output
