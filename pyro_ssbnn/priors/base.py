"""What every node prior offers: its latents as Pyro sites, and the slab scale they make.

A prior is a frozen record of hyperparameters (plain numbers, so that it can be compared, printed and saved as JSON). It
knows nothing of layers or guides: a group layer hands it a site prefix and a tensor that fixes dtype and device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from pyro_ssbnn.checks import check_positive, check_probability, check_that
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.priors.beta_inclusion import BetaInclusion
from pyro_ssbnn.priors.inclusion import TheoryInclusion
from pyro_ssbnn.registry import name_of, record_of

__all__ = ["Inclusion", "Latents", "Prior", "inclusion_from_config", "inclusion_to_config"]

Latents = Mapping[str, Tensor]
"""Values of a prior's scale latents, by the last part of their site names."""

Inclusion = float | tuple[float, ...] | BetaInclusion | TheoryInclusion | None
"""Prior inclusion probability: one number, one per hidden layer, a Beta prior of each layer's own, the theory's, or
None for no gates."""


@dataclass(frozen=True)
class Prior(ABC):
    r"""Prior of a node's weights :math:`w = z\,t\,u`, :math:`u \sim N(0, \sigma_0^2 I_m)`.

    :param scale: :math:`\sigma_0`, standard deviation of the standardised weights.
    :param inclusion: prior probability that a node is in the network; None leaves out the gates.
    :param scope: layers that share the network-wide latents: "hidden" for the hidden ones, while the output layer has a
        prior of its own; "network" for all, where the output layer has the ungated form of this prior
        (:meth:`ungated`) and its latents, as in the published models.
    """

    scale: float = 1.0
    inclusion: Inclusion = None
    _: KW_ONLY
    scope: str = "hidden"

    family: ClassVar[str] = "prior"
    gated: ClassVar[bool] = False
    """Whether the class is a spike-and-slab prior, which needs an inclusion probability."""

    def __post_init__(self) -> None:
        owner = type(self).__name__
        for field in fields(self):
            value, kind = getattr(self, field.name), str(field.type)
            if (
                field.name == "inclusion"
                or "float" not in kind
                or (value is None and "None" in kind)
            ):
                continue
            check_positive(owner, **{field.name: value})
            # Smaller scales overflow in the gradient of the KL, larger numbers are none in single precision.
            sensible = 1e-8 <= value <= 1e30
            check_that(owner, field.name, value, sensible, "from 1e-08 to 1e+30")
        check_that(owner, "scope", self.scope, self.scope in _SCOPES, "'hidden' or 'network'")
        if isinstance(self.inclusion, list):
            object.__setattr__(self, "inclusion", tuple(self.inclusion))
        if self.gated != (self.inclusion is not None):
            raise ConfigurationError(
                f"{owner}: a spike-and-slab prior needs an inclusion probability; got None."
                if self.gated
                else f"{owner} has no gates; got inclusion={self.inclusion!r}. Use its spike-and-slab form."
            )
        if self.inclusion is not None and not isinstance(self.inclusion, _LAWS):
            each = self.inclusion if isinstance(self.inclusion, tuple) else (self.inclusion,)
            for probability in each:
                check_probability(owner, probability)

    @property
    def name(self) -> str:
        """Short name for the command line and saved files, given by :func:`pyro_ssbnn.register`.

        :raises ConfigurationError: for a class without a name of its own.
        """
        return name_of(type(self))

    @property
    def output_scope(self) -> str:
        """What the output layer's network-wide sites begin with: those of the hidden layers, or of its own."""
        return "global" if self.scope == "network" else "output.global"

    def ungated(self) -> Prior:
        """The same slab without the gates; a prior without gates itself."""
        kind = next(kind for kind in type(self).__mro__ if not getattr(kind, "gated", True))
        return kind(
            **{f.name: getattr(self, f.name) for f in fields(kind) if f.name != "inclusion"}
        )

    @abstractmethod
    def sample_shared(self, scope: str, like: Tensor) -> dict[str, Tensor]:
        """Sample the network-wide latents, as sites ``{scope}.*``, outside any node plate.

        :param like: a tensor of the wanted dtype and device.
        """

    @abstractmethod
    def sample_local(
        self, name: str, group_size: int, shared: Latents, like: Tensor
    ) -> dict[str, Tensor]:
        """Sample a group's own latents, as sites ``{name}.*``, inside its node plate.

        :param group_size: m, weights per node with the bias.
        """

    @abstractmethod
    def slab_scale(self, local: Latents, shared: Latents) -> Tensor | None:
        """Slab scale t (a standard deviation), shape of the node plate; None stands for t = 1."""

    def to_config(self) -> dict[str, Any]:
        """Plain numbers and strings from which :func:`pyro_ssbnn.priors.from_config` makes the prior again.

        :raises ConfigurationError: for a class without a name of its own.
        """
        plain = {**asdict(self), "inclusion": inclusion_to_config(self.inclusion)}
        return {**record_of(type(self)), **plain}


_SCOPES = ("hidden", "network")
_LAWS = (BetaInclusion, TheoryInclusion)
_NAMES: dict[str, type[BetaInclusion | TheoryInclusion]] = {
    "beta": BetaInclusion,
    "theory": TheoryInclusion,
}


def inclusion_to_config(inclusion: Inclusion) -> Any:
    """Plain record of a prior inclusion probability, from which :func:`inclusion_from_config` makes it again."""
    for name, kind in _NAMES.items():
        if isinstance(inclusion, kind):
            return {name: asdict(inclusion)}
    return inclusion


def inclusion_from_config(record: Any) -> Inclusion:
    """Make a prior inclusion probability from its record.

    :raises ConfigurationError: for a record of another kind.
    """
    if not isinstance(record, Mapping):
        return tuple(record) if isinstance(record, list) else record
    name = next(iter(record), None)
    known = len(record) == 1 and name in _NAMES and isinstance(record[name], Mapping)
    check_that("inclusion", "its record", record, known, 'a number or {"beta": {"a": 1, "b": 9}}')
    try:
        return _NAMES[str(name)](**record[name])
    except TypeError as error:
        raise ConfigurationError(f"inclusion: bad record ({error}).") from error
