r"""The guide of a linear network whose predictors compete: joint laws of blocks of predictors, at their optimum.

.. math:: q = q(\mathrm{shared})\, q(\mathrm{scales}) \prod_B q(z_B \mid \mathrm{scales})\;
              \prod_j q(u_j \mid z, \mathrm{scales})\; q(\mathrm{noise})

The laws of gates and weights are those of :mod:`pyro_ssbnn.distributions.blocks`. They follow the slab scale of a
network with one target: where the data leave it open, small weights may be in the network unseen, and the closed gates
that large weights ask for are not those of small ones. They are not trained by gradients:
:func:`pyro_ssbnn.settle` finds them from the data in closed form, once the mean-field guide that this is until then has
been trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor
from typing_extensions import Self

from pyro_ssbnn.distributions.blocks import BlockGate
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides.joint_law import JointLaw
from pyro_ssbnn.guides.scales import scale_guide
from pyro_ssbnn.guides.structured import StructuredGuide
from pyro_ssbnn.likelihoods import GaussianLikelihood
from pyro_ssbnn.registry import register
from pyro_ssbnn.structure.network import Network

__all__ = ["BlockGuide", "has_block_law"]


def has_block_law(model: Network) -> bool:
    """Whether a network is linear in gated predictors, with Gaussian noise: what :class:`BlockGuide` is made for."""
    groups = model.description.groups
    linear = len(groups) == 1 and groups[0].column_gate == model.description.inputs.name
    return linear and type(model.likelihood) is GaussianLikelihood


@register("block")
class BlockGuide(StructuredGuide):
    r"""Guide of a linear network with gated predictors and Gaussian noise, the default of :func:`fit` there.

    While it is trained, it is a :class:`StructuredGuide`. Then :func:`pyro_ssbnn.settle`, which ``fit`` calls, finds
    the blocks of predictors that compete and the optimum of their joint laws, and the guide samples from those.
    What was trained is kept beside: training that is resumed goes on from there. Inclusion probabilities are exact
    marginals of the joint law. With one block, known noise and no slab scale they are those of the posterior itself.

    :param model: the network.
    :param blocks: predictors of each block, of a guide that has been settled.
    :param cells: of the slab scale, each with a law of its own, see :class:`JointLaw`.
    :param options: those of :class:`StructuredGuide`. Gates are hard.
    :raises ConfigurationError: for a network of another kind.
    """

    def __init__(
        self,
        model: Network,
        *,
        blocks: Sequence[Sequence[int]] | None = None,
        cells: int = 1,
        temperature: float = 0.5,
        initial_inclusion: float = 0.95,
        initial_scale: float = 0.1,
        likelihood: bool = True,
    ) -> None:
        if not has_block_law(model):
            raise ConfigurationError(
                "BlockGuide: made for networks without hidden layers, with gated predictors and a GaussianLikelihood;"
                f" got {model.description.in_words()} under {type(model.likelihood).__name__}. Use StructuredGuide."
            )
        super().__init__(
            model,
            temperature=temperature,
            initial_inclusion=initial_inclusion,
            initial_scale=initial_scale,
            likelihood=likelihood,
        )
        self.joint: JointLaw | None = None
        if blocks is not None:
            self.joint = JointLaw(model.description, blocks, cells)

    @property
    def settled(self) -> bool:
        """Whether it samples from the joint laws."""
        return self.joint is not None

    @property
    def coupled(self) -> tuple[str, ...]:
        """Groups whose gates are dependent."""
        return (self.description.inputs.name,) if self.settled else ()

    def take_law(self, law: JointLaw) -> None:
        """Sample from this law from now on."""
        self.joint = law.to(self.temperature)

    def release(self) -> None:
        """Be the mean-field guide again that was trained."""
        self.joint = None

    def forward(self, *args: object, **kwargs: object) -> None:
        """Sample every latent; the arguments are the model's, and are not used."""
        if self.joint is None:
            return super().forward(*args, **kwargs)
        inputs, group = self.description.inputs, self.description.groups[0]
        rows = pyro.plate(group.path, group.size, dim=-1)
        unit = self.sample_slab_scale(rows)
        cells = self.joint.cells_of(unit)
        with pyro.plate(inputs.path, inputs.size, dim=-1):
            gates = pyro.sample(inputs.gate_site, self.joint.gates.given(cells))
        weights = self.joint.weights(gates, cells, group.prior.scale, unit)
        with rows:
            pyro.sample(group.weight_site, weights)
        if self.noise is not None:
            self.noise(self.description.prefix)

    def sample_slab_scale(self, rows: pyro.plate) -> Tensor | None:
        """Sample the latents of the slab scale, and return it, ``[..., size]``; None where it is 1.

        :param rows: the layer's plate.
        """
        group = self.description.groups[0]
        shared = self._sample_shared()[group.scope]
        with rows:
            origins = scale_guide(group.prior).origins(group, shared)
            local = getattr(self, group.name).scales(group.path, origins)
        return group.prior.slab_scale(local, shared)

    def gate_law(self, name: str) -> BlockGate:
        """Joint law of the predictors' gates.

        :raises ConfigurationError: for another group, or before the guide is settled.
        """
        if self.joint is None or name not in self.coupled:
            raise ConfigurationError(
                f"the gates of {name!r} have no joint law here: those of {list(self.coupled)} have. A guide has one"
                " once pyro_ssbnn.settle has found it."
            )
        return self.joint.gates

    def inclusion_logits(self, name: str) -> Tensor:
        """Log-odds of inclusion of a gated group, ``[size]``; exact marginals of the joint law."""
        logits = super().inclusion_logits(name)  # refuses other groups
        return logits if self.joint is None else self.joint.marginal_logits()

    def mean_standardized(self, name: str, open: Mapping[str, Tensor] | None = None) -> Tensor:
        """E_q[t u | z] / E_q[t], mean standardised weights of the open predictors, ``[size, columns + 1]``.

        :param open: masks of the open gates, ``{group: [size]}``; without them each weight's mean is that given that
            its own predictor is in.
        """
        if self.joint is None:
            return super().mean_standardized(name, open)
        mask = (open or {}).get(self.description.inputs.name)
        law = self.joint
        mean = law.open_means() if mask is None else law.conditional_mean(mask.to(self.temperature))
        unit = self.mean_slab_scale(name)
        return mean if unit is None else mean / unit.unsqueeze(-1)

    def narrowed(self, model: Network, kept: Mapping[str, Tensor]) -> Self:
        """Guide for a narrowed network; see :meth:`StructuredGuide.narrowed`. It is one to be trained."""
        self.release()
        return super().narrowed(model, kept)

    def restarted(self, model: Network) -> Self:
        """A new guide at new starting values; see :meth:`StructuredGuide.restarted`."""
        law, self.joint = self.joint, None
        try:
            return super().restarted(model)
        finally:
            self.joint = law

    @torch.no_grad()
    def fix_gates(self, open: Mapping[str, Tensor]) -> None:
        """Set inclusion probabilities to 1 and 0; see :meth:`StructuredGuide.fix_gates`. No joint law is left then."""
        self.release()
        super().fix_gates(open)

    def to_config(self) -> dict[str, Any]:
        """The constructor's options that fix the form of the guide."""
        config = self._likelihood_config()
        if self.joint is not None:
            config["blocks"] = self.joint.members
            config["cells"] = self.joint.cells
        return config
