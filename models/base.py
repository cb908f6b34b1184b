"""What all networks share: layers from a layout, one wiring of the model and its pruned form, records, narrowing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from keyword import iskeyword
from typing import Any, ClassVar

import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from typing_extensions import Self

from pyro_ssbnn.checks import check_that
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.layers import GroupConv2d, GroupLayer, GroupLinear, LinearTerms
from pyro_ssbnn.likelihoods import Likelihood, likelihood_from_config
from pyro_ssbnn.models.activations import ACTIVATIONS
from pyro_ssbnn.models.compact import CompactNetwork, plain_layer
from pyro_ssbnn.models.layout import Layout
from pyro_ssbnn.models.wiring import Addition, SampledWiring, Wiring
from pyro_ssbnn.priors import Gaussian, Latents, Prior, from_config, inclusion_from_config
from pyro_ssbnn.registry import record_of
from pyro_ssbnn.structure.axes import Axis, take
from pyro_ssbnn.structure.cut import CutLayer
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.linear import LinearGroup

__all__ = ["GatedNetwork"]

_SITES = ("data", "obs", "draws", "noise")
"""Sites and plates that no layer may be called."""
_LINEAR = "linear"
"""The linear terms' name, which is theirs alone."""


class GatedNetwork(PyroModule):
    """A Pyro model whose layers are node groups; subclasses say which layers, and how they are put together.

    A subclass calls :meth:`_lay_out` at the end of its ``__init__``, and gives :meth:`wire` and :meth:`_shape_config`;
    prior, guide, training and pruning then work as they are, and files under a name of its own
    (:func:`pyro_ssbnn.register`).

    :param prior: prior of the hidden layers' nodes.
    :param likelihood: distribution of the targets; it also sets the number of outputs.
    :param output_prior: ungated prior of the output layer, by default Normal(0, 1) weights; that of the hidden layers
        without gates where their prior is one of the whole network (``scope="network"``).
    :param activation: one of :data:`~pyro_ssbnn.models.ACTIVATIONS`.
    :param prefix: the names of all sites and plates begin with ``{prefix}.``, so that several networks may stand in one
        model; by default they are bare.
    :raises ConfigurationError: for an unknown activation, a gated output layer, or a prefix that is no Python name.
    """

    family: ClassVar[str] = "network"
    description: NetworkDescription
    image_shape: tuple[int, ...] = ()
    """Channels, height and width of images, where predictors are images."""

    def __init__(
        self,
        prior: Prior,
        likelihood: Likelihood,
        output_prior: Prior | None,
        activation: str,
        prefix: str | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_that(owner, "prior", prior, isinstance(prior, Prior), "a prior, such as ss.SSGHS()")
        shared = prior.ungated() if prior.scope == "network" else None
        if output_prior is None:
            output_prior = Gaussian() if shared is None else shared
        check_that(owner, "output_prior", output_prior, isinstance(output_prior, Prior), "a prior")
        known = isinstance(likelihood, Likelihood)
        check_that(owner, "likelihood", likelihood, known, "one, as ss.GaussianLikelihood()")
        check_that(owner, "prefix", prefix, isinstance(prefix, str | None), "a text")
        if not (isinstance(activation, str) and activation in ACTIVATIONS):
            raise ConfigurationError(
                f"{owner}: activation must be one of {sorted(ACTIVATIONS)}; got {activation!r}."
            )
        if output_prior.gated:
            raise ConfigurationError(
                f"{owner}: the output layer carries no gates; got {type(output_prior).__name__}."
                " Use its ungated form, such as Gaussian, GroupLasso or GroupHorseshoe."
            )
        if shared is not None and output_prior != shared:
            raise ConfigurationError(
                f"{owner}: {prior} is the prior of the whole network (scope='network'), whose output layer has"
                f" {shared}; got {output_prior}. Leave output_prior out, or take scope='hidden'."
            )
        self.prior, self.output_prior, self.likelihood = prior, output_prior, likelihood
        self.activation, self.prefix = activation, prefix
        self.phi = ACTIVATIONS[activation]()
        # In double, so that float64 networks prune to rounding.
        self.closed_activation = float(self.phi(torch.zeros((), dtype=torch.float64)))

    def _lay_out(self, layout: Layout) -> None:
        """Make the layers: those laid out under the prior, and an output layer on top."""
        layout.dense("output", self.likelihood.num_outputs)
        self._build(layout.description(self.prior, self.output_prior))

    def _build(self, description: NetworkDescription) -> None:
        """Make the layers of a description, each under its group's name.

        :raises ConfigurationError: for names that are no Python names, given twice, or taken.
        """
        if "description" not in vars(self):  # later ones keep the names
            self._check_names(description)
        prefix = self.prefix
        self.description = description if prefix is None else description.prefixed(prefix)
        for group in self.description.groups:
            self.add_module(group.name, _layer_of(group))
        for total in description.sums:
            if not total.whole:
                self.add_module(total.name, Addition(total))

    def _check_names(self, description: NetworkDescription) -> None:
        """Names of layers and sums become modules, plates and prefixes of sites."""
        owner = type(self).__name__
        names = [group.name for group in description.groups]
        names += [total.name for total in description.sums]
        bad = [name for name in names if not name.isidentifier() or iskeyword(name)]
        if bad:
            raise ConfigurationError(
                f"{owner}: layers and sums need Python names, which become those of modules and sites; got {bad[0]!r}."
            )
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ConfigurationError(f"{owner}: {twice[0]!r} is the name of two layers or sums.")
        scopes = {form for s in description.scopes for form in (s, s.replace(".", "_"))}
        reserved = {description.inputs.name, *scopes, *_SITES}
        reserved |= {_LINEAR} if description.linear is None else set()
        taken = [name for name in names if name in reserved or hasattr(self, name)]
        if taken:
            kind = (
                "the prefix of other sites" if taken[0] in reserved else "an attribute of networks"
            )
            raise ConfigurationError(
                f"{owner}: a layer or sum cannot be called {taken[0]!r}, which is {kind}; give it another name."
            )

    @staticmethod
    @abstractmethod
    def wire(net: Wiring, x: Tensor) -> Tensor:
        """Put the layers together: f of predictors x, ``[N, p]``.

        A static method, because the pruned network is wired by it too: everything comes from ``net``, the numbers of
        layers from ``net.shape``. A layer gives no activation; widths are those of the tensors that come.
        """

    @abstractmethod
    def _shape_config(self) -> dict[str, Any]:
        """Plain record of what the subclass adds."""

    def _wire_config(self) -> dict[str, Any]:
        """Plain record that :meth:`wire` reads as ``net.shape``; networks of images have ``image_shape`` in it."""
        return self._shape_config()

    def network(self, x: Tensor) -> Tensor:
        """Sample the weights and map x, ``[N, p]``, to f, without the likelihood."""
        return self.wire(SampledWiring(self, self.sample_shared(x)), x)

    def forward(self, x: Tensor, y: Tensor | None = None, num_data: int | None = None) -> Tensor:
        """Sample all latents and the targets ``obs``; returns f.

        :param x: predictors ``[N, p]``.
        :param y: targets ``[N]`` (or ``[N, K]``) to condition on; None samples them.
        :param num_data: rows of the whole data set. In minibatch SVI it must be given: x and y are otherwise taken for
            all the data there are, and the posterior comes out too wide.
        :returns: the output layer's f, ``[..., N, num_outputs]``.
        """
        f = self.network(x).to(x.dtype)  # autocast may have rounded it; likelihoods are not to
        self.likelihood.observe(f, y, num_data, self.description.prefix)
        return f

    def __repr__(self) -> str:
        if "description" not in vars(self):  # an error while it is being made
            return f"{type(self).__name__} without layers"
        return "\n".join(
            [
                f"{type(self).__name__}: {self.description.in_words()}",
                f"  {self.description.num_weights:,} weights, activation {self.activation}",
                f"  prior {self.prior}",
                f"  output prior {self.output_prior}",
                f"  likelihood {self.likelihood}",
            ]
        )

    def sample_shared(self, like: Tensor) -> dict[str, Latents]:
        """Sample the network-wide latents, by scope."""
        scopes = self.description.scopes
        return {
            scope: prior.sample_shared(self.description.site(scope), like)
            for scope, prior in scopes.items()
        }

    def narrowed(self, kept: Mapping[str, Tensor]) -> Self:
        """The network without the other members of these groups, under the priors of the whole network.

        Running statistics of batch norms go along, and so does the mode.
        """
        same = (self.prior, self.output_prior, self.likelihood)
        network = deepcopy(self, {id(part): part for part in same})
        network._build(self.description.narrowed(kept))
        axes, kept = self.statistics_axes(), self.description.with_sums(kept)
        state = {name: take(v, axes[name], kept) for name, v in self.state_dict().items()}
        network.load_state_dict(state, assign=True)
        return network.train(self.training)

    def statistics_axes(self) -> dict[str, tuple[Axis, ...]]:
        """Axes of the batch norms' running statistics, by name in the ``state_dict``."""
        rows = {group.name: (group.rows,) for group in self.description.groups}
        return {name: rows[name.partition(".")[0]] for name in self.state_dict()}

    def layer(self, name: str) -> GroupLayer:
        """The layer of a group."""
        found: GroupLayer = getattr(self, name)
        return found

    def fold(self, name: str, weight: Tensor, amplitude: Tensor | None) -> Tensor:
        """Effective weights of a layer in evaluation mode; see :meth:`pyro_ssbnn.layers.GroupLayer.fold`."""
        return self.layer(name).fold(weight, amplitude)

    def passed_on(self) -> float | Mapping[str, Tensor]:
        """What closed nodes pass on: the activation of 0, to every layer."""
        return self.closed_activation

    def passes_nothing(self, name: str) -> bool:
        """Whether the closed nodes of a group pass on 0 to everyone."""
        return self.closed_activation == 0.0

    def to_config(self) -> dict[str, Any]:
        """Plain record from which :func:`~pyro_ssbnn.models.records.network_from_config` makes the network again.

        :raises ConfigurationError: for a network, prior or likelihood whose class has no name of its own
            (:func:`pyro_ssbnn.register`).
        """
        record = record_of(type(self))
        return {
            "network": record["name"],
            "module": record["module"],
            **self._shape_config(),
            "prior": self.prior.to_config(),
            "likelihood": self.likelihood.to_config(),
            "output_prior": self.output_prior.to_config(),
            "activation": self.activation,
            **({} if self.prefix is None else {"prefix": self.prefix}),
        }

    def assemble(self, layers: Mapping[str, CutLayer]) -> CompactNetwork:
        """Put cut layers together to a plain torch network, batch norms folded into its convolutions."""
        description = self.description
        kept = {name: cut.rows for name, cut in layers.items()}
        first = description.groups[0]
        return CompactNetwork(
            type(self),
            {group.name: plain_layer(group, layers[group.name]) for group in description.groups},
            self.activation,
            {name: kept[name] for name in list(kept)[:-1]},
            shape=self._wire_config(),
            num_inputs=description.inputs.num_columns,
            input_index=layers[first.name].columns if description.inputs.gated else None,
            sums=description.narrowed(kept).sums,
            parts=self._plain_parts(description.with_sums(kept)),
        )

    def _plain_parts(self, kept: Mapping[str, Tensor]) -> dict[str, nn.Module]:
        """What is left of parts without weights in the posterior when groups and sums keep only these; by name."""
        return {}

    @classmethod
    def compact_from_state(
        cls, config: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> CompactNetwork:
        """Make this network's pruned form from its record and its tensors.

        :raises KeyError: when an entry or a tensor is missing.
        """
        return CompactNetwork.from_state(cls, config, state)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make a network from :meth:`to_config`'s record.

        :raises ConfigurationError: for missing, unknown or invalid entries.
        """
        options = {k: v for k, v in config.items() if k not in ("network", "module")}
        try:
            options["prior"] = from_config(options["prior"])
            options["output_prior"] = from_config(options["output_prior"])
            options["likelihood"] = likelihood_from_config(options["likelihood"])
            for name in ("input_inclusion", "linear_inclusion"):
                if name in options:
                    options[name] = inclusion_from_config(options[name])
            return cls(**options)
        except (KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{cls.__name__}.from_config: bad record ({error!r})."
            ) from error


def _layer_of(group: NodeGroup) -> GroupLayer:
    if isinstance(group, LinearGroup):
        return LinearTerms(group)
    return GroupLinear(group) if group.geometry is None else GroupConv2d(group, group.geometry)
