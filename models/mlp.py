"""Multilayer perceptron of gated nodes, of any depth, width and activation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pyro_ssbnn.checks import check_that
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.models.base import GatedNetwork
from pyro_ssbnn.models.compact import CompactNetwork
from pyro_ssbnn.models.layout import Layout
from pyro_ssbnn.models.wiring import Wiring
from pyro_ssbnn.priors import BetaInclusion, Prior, inclusion_to_config
from pyro_ssbnn.registry import register

__all__ = ["MLP", "widths_for_rows"]


def widths_for_rows(num_data: int) -> list[int]:
    """Widths that a table's network begins with: [32] below 2,000 rows, [64, 32] from there.

    On few rows a second layer costs more of the bound than it brings (``docs/results.md``, small tables).
    """
    return [32] if num_data < 2_000 else [64, 32]


@register("mlp")
class MLP(GatedNetwork):
    r"""A perceptron whose hidden nodes, and on request predictors, carry spike-and-slab priors.

    .. math:: h_l = \phi(z_l t_l (u_l h_{l-1} + b_l)),\qquad f = t_{L+1}(u_{L+1} h_L + b_{L+1}),\qquad y \sim p(y | f)

    With ``linear`` each predictor may also act linearly, beside the hidden layers, under a gate of its own:
    :math:`f + \sum_j z_j t_j u_j x_j`. It then acts linearly, nonlinearly, both, or not at all, and is in the network
    when either of its gates is open.

    An ordinary Pyro model: ``net(x)`` samples from the prior, ``net(x, y)`` conditions on the targets, and
    ``net(x, y, num_data=n)`` scales a minibatch's likelihood to n observations.

    :param num_inputs: p, number of predictors.
    :param hidden: widths of the hidden layers; empty for a linear model.
    :param prior: prior of the hidden layers' nodes.
    :param likelihood: distribution of the targets; it also sets the number of outputs.
    :param output_prior: ungated prior of the output layer, by default Normal(0, 1) weights.
    :param activation: one of :data:`~pyro_ssbnn.models.ACTIVATIONS`.
    :param input_inclusion: prior inclusion probability of each predictor: one number, one for each predictor, or a
        :class:`~pyro_ssbnn.priors.BetaInclusion` where the data are to say how many matter; None (default) leaves
        predictors ungated. A gate closes all outgoing first-layer weights of its predictor.
    :param input_names: a name for each predictor, ``x1``, ``x2``, ... by default.
    :param input_widths: columns of x of each predictor, neighbours of each other, which one gate closes together: the
        levels of a factor, for example. One each by default.
    :param linear: add the predictors' linear terms, the group ``linear``: a gate and a slab scale for each predictor
        under ``prior``, one weight for each output. Data too few for a network then choose a sparse linear model.
    :param linear_inclusion: prior inclusion probability of each linear term, as ``input_inclusion``, which it is by
        default; without either the terms are ungated. A Beta prior is then one of the terms' own.
    :param prefix: what all site names begin with, see :class:`GatedNetwork`.
    :raises ConfigurationError: for widths, names or probabilities outside their domain, and for linear terms beside no
        hidden layer.
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
        input_inclusion: float | Sequence[float] | BetaInclusion | None = None,
        input_names: Sequence[str] | None = None,
        input_widths: Sequence[int] | None = None,
        linear: bool = False,
        linear_inclusion: float | Sequence[float] | BetaInclusion | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prior, likelihood, output_prior, activation, prefix)
        listed = isinstance(hidden, Iterable) and not isinstance(hidden, str | Mapping)
        check_that("MLP", "hidden", hidden, listed, "a list of widths, such as [64, 32]")
        self.hidden = list(hidden)
        layout = Layout(
            "MLP", num_inputs, inclusion=input_inclusion, names=input_names, widths=input_widths
        )
        for layer, size in enumerate(hidden, 1):
            layout.dense(f"hidden{layer}", size)
        _check_linear(linear, linear_inclusion, self.hidden)
        if linear:
            layout.linear(linear_inclusion)
        self._lay_out(layout)

    @staticmethod
    def wire(net: Wiring, x: Tensor) -> Tensor:
        """Dense layers with the activation between them."""
        h = net.inputs(x)
        for layer in range(net.shape["depth"]):
            h = net.phi(net.layer(f"hidden{layer + 1}", h))
        if not net.shape.get("linear"):
            return net.layer("output", h)
        terms = net.layer("linear", x)
        return net.layer("output", h) + terms

    def _wire_config(self) -> dict[str, Any]:
        linear = {} if self.description.linear is None else {"linear": True}
        return {"depth": len(self.hidden), **linear}

    def _shape_config(self) -> dict[str, Any]:
        inputs, linear = self.description.inputs, self.description.linear
        record: dict[str, Any] = {}
        if linear is not None:
            record = {"linear": True, "linear_inclusion": inclusion_to_config(linear.inclusion)}
        return {
            "num_inputs": inputs.size,
            "hidden": [g.size for g in self.description.layers[:-1]],
            "input_inclusion": inclusion_to_config(inputs.inclusion),
            "input_names": list(inputs.names),
            **({"input_widths": list(inputs.widths)} if inputs.widths else {}),
            **record,
        }

    @classmethod
    def compact_from_state(
        cls, config: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> CompactNetwork:
        """Make a pruned perceptron from its record and its tensors, also those of before."""
        if "layers" not in config:
            config, state = _renamed(config, state)
        return super().compact_from_state(config, state)


def _check_linear(linear: bool, inclusion: object, hidden: Sequence[int]) -> None:
    if linear and not hidden:
        raise ConfigurationError(
            "MLP: a network without hidden layers is linear already; leave linear=True out, or give hidden layers."
        )
    if inclusion is not None and not linear:
        raise ConfigurationError(
            f"MLP: linear_inclusion={inclusion} is the prior inclusion of linear terms; give linear=True with it."
        )


def _renamed(
    config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Record and tensors of a file that numbers a perceptron's layers, as earlier versions did."""
    names = [*config["kept"], "output"]
    tensors = {name: value for name, value in state.items() if not name.startswith("layers.")}
    for number, name in enumerate(names):
        for key in ("weight", "bias"):
            tensors[f"layers.{name}.{key}"] = state[f"layers.{number}.{key}"]
    size = config.get("num_inputs")
    if size is None and "input_index" not in state:
        size = state["layers.0.weight"].shape[-1]
    record = {
        **config,
        "num_inputs": size,
        "shape": {"depth": len(names) - 1},
        "layers": dict.fromkeys(names),
        "sums": [],
    }
    return record, tensors
