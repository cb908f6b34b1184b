"""The front door of traced networks: any torch module as a Pyro network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_ssbnn.checks import check_that
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.models.traced.graph import graph_of
from pyro_ssbnn.models.traced.network import TracedNetwork
from pyro_ssbnn.models.traced.translation import translate
from pyro_ssbnn.priors import Prior
from pyro_ssbnn.structure.cut import CutLayer

__all__ = ["from_module"]


def from_module(
    module: nn.Module,
    *,
    prior: Prior,
    likelihood: Likelihood,
    example: Tensor,
    output_prior: Prior | None = None,
    ungated: Sequence[str] = (),
    prefix: str | None = None,
) -> TracedNetwork:
    """Make a Pyro network of an ordinary torch module.

    Dense layers and convolutions become groups of nodes, gated where their members can be cut, each with its bias, or
    with the scale and shift of the batch norm that follows it. What must be cut together, along residual sums,
    concatenations and depthwise convolutions, is found from the module's graph (``torch.fx``). ``.report()`` says what
    became of each layer, and why. Data are rows ``[N, p]``: each the module's input, flattened.

    The network has the module's shape and its running statistics, not its weights, which are the posterior's to find;
    ``StructuredGuide(net).start_from(net.weights_of(module))`` starts there.

    :param module: stays as it is. It takes one tensor, ``[N, ...]``, and returns f, ``[N, K]``, or several tensors,
        whose columns are put beside each other.
    :param prior: prior of the nodes.
    :param likelihood: distribution of the targets given f.
    :param example: a row or more of its input, ``[n, ...]``.
    :param output_prior: ungated prior of the layers that give f, by default Normal(0, 1) weights.
    :param ungated: names of layers (see the report) that are to carry no gates.
    :param prefix: what all site names begin with, see :class:`GatedNetwork`.
    :raises ConfigurationError: for a module that cannot be traced, or holds what has no translation; the message names
        the place. Also when the network of the module's weights does not compute what the module does.
    """
    check_that("from_module", "module", module, isinstance(module, nn.Module), "a torch module")
    known = isinstance(example, Tensor) and example.ndim > 1 and math.prod(example.shape) > 0
    check_that("from_module", "example", example, known, "a tensor of rows, [n, ...]")
    devices = [example.device] if example.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        graph = graph_of(module, example)
        translate(graph)
    network = TracedNetwork(
        example.shape[1:],
        graph.steps,
        prior=prior,
        likelihood=likelihood,
        output_prior=output_prior,
        ungated=ungated,
        notes=graph.notes,
        prefix=prefix,
    )
    like = next((p for p in module.parameters() if p.is_floating_point()), example)
    network = network.to(like.device, like.dtype).take_statistics(module)
    for name, value in graph.tensors.items():
        network.get_submodule(name).get_buffer("value").copy_(value)
    _require_equal(network, graph.module, example)
    return network


@torch.no_grad()
def _require_equal(network: TracedNetwork, module: nn.Module, example: Tensor) -> None:
    """Raise :class:`ConfigurationError` unless the network of the module's weights is the module.

    At rows of the example, and at noise where they are no whole numbers: code may do what its graph does not show, such
    as change a tensor in place that others read.
    """
    like = next((b for b in network.buffers() if b.is_floating_point()), example)
    like = next((p for p in module.parameters() if p.is_floating_point()), like)
    x = example[:2].to(like.device)
    if x.is_floating_point():
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(x.shape, generator=generator).to(like)
        x = torch.cat([x.to(like.dtype), noise])
    layers = {}
    for name, weight in network.weights_of(module).items():
        plain = network.fold(name, weight, None)
        rows = torch.arange(network.description.layer(name).size, device=like.device)
        columns = torch.arange(plain.shape[1] - 1, device=like.device)
        layers[name] = CutLayer(plain[:, :-1], plain[:, -1], rows, columns)
    f, expected = network.assemble(layers)(x.flatten(1).to(like.dtype)), module(x)
    if isinstance(expected, dict | tuple | list):
        parts = expected.values() if isinstance(expected, dict) else expected
        expected = torch.cat(list(parts), -1)
    most = torch.finfo(f.dtype).eps ** 0.5 * float(expected.abs().max())
    difference = float((f - expected).abs().max())
    if not difference <= most:  # not: NaN is refused, too
        raise ConfigurationError(
            f"from_module: the network differs from the module by {difference:.3g}, where rounding explains {most:.3g}."
            " The module's code does what its graph does not show; look for tensors that are changed in place and read"
            " by others, or leave that part out."
        )
