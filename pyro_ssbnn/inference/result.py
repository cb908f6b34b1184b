"""What training gives: a network, its guide, and all that is needed to go on."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from pyro_ssbnn.display import as_html
from pyro_ssbnn.inference.guards import collapsed_layers
from pyro_ssbnn.inference.history import History
from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.inference.schedule import Schedule
from pyro_ssbnn.inference.start import Start
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network

__all__ = ["Fit"]


@dataclass
class Fit:
    """A fitted network: model, guide, and all that is needed to go on training.

    :param model: the network, with the running statistics of this run.
    :param guide: its guide, on the device and in the dtype of the run.
    :param options: the run's options.
    :param history: one row an epoch.
    :param num_data: observations fitted to.
    :param optimizer_state: ``state_dict`` of the optimizer.
    :param random_state: state of the random number generators, ``{device type: uint8 tensor}``.
    :param start: how it began, beside what options and guide tell.
    """

    model: Network
    guide: Guide
    options: TrainingOptions
    history: History
    num_data: int
    optimizer_state: dict = field(default_factory=dict)
    random_state: dict[str, Tensor] = field(default_factory=dict)
    start: Start = field(default_factory=Start)

    def __repr__(self) -> str:
        kinds = f"{type(self.guide).__name__} of {type(self.model).__name__}"
        planned = self.options.num_epochs(self.num_data)
        first = (
            f"Fit of a {kinds} to {self.num_data:,} rows, epoch {self.history.epoch:g} of {planned}"
        )
        network = f"  {self.model.description.in_words()}"
        return "\n".join([first, network, *self.history.last_in_words()])

    def _repr_html_(self) -> str:
        title, *lines = repr(self).splitlines()
        names = ("network", "last epoch", *[""] * len(lines))
        return as_html(title, zip(names, (line.strip() for line in lines), strict=False))

    @property
    def schedule(self) -> Schedule:
        """Rates, KL weight and gates over the steps of the run."""
        return Schedule(self.options, self.num_data, self.model.description)

    @property
    def best(self) -> Fit:
        """The fit itself; of a :class:`~pyro_ssbnn.Mixture` the fit of the largest weight."""
        return self

    @property
    def collapsed(self) -> list[str]:
        """Gated layers without an active node."""
        return collapsed_layers(self.model.description, self.guide.inclusion())

    def require_match(self, owner: str) -> None:
        """Raise :class:`ConfigurationError` unless network, guide and history belong together.

        :param owner: the public function, for the message.
        """
        require_match(owner, self.model, self.guide)
        self.history.require_match(owner, self.model.description)
