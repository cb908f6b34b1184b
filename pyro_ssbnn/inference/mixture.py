"""Several fits of one network to the same rows as one answer: whole fits, and a weight for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from pyro_ssbnn.checks import check_that
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.guides.mixture import check_weights
from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.inference.result import Fit
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import first_difference
from pyro_ssbnn.structure.network import Network

__all__ = ["Mixture", "require_alike"]


@dataclass(frozen=True)
class Mixture:
    r"""Several fits as one posterior, :math:`q = \sum_k w_k q_k`.

    ``mixture.model`` and ``mixture.guide`` go where a fit's own go: into ``predict``, ``draw_posterior``, ``to_arviz``,
    effects, ``inclusion_summary``, ``layer_summary`` and ``prune``. The guide of a single member is that member's.

    :param fits: of one network to the same rows.
    :param weights: of the fits, not negative, with sum 1.
    :param rule: how they were found: "stacking", "bounds", "equal" or "given".
    :param scores: what they were made of: of each fit the expected log predictive density of a row left out
        ("stacking"), or the bound ("bounds"), nats; empty for others.
    :raises ConfigurationError: for fits of different networks or numbers of rows, and for weights of another number or
        sum.
    """

    fits: tuple[Fit, ...]
    weights: tuple[float, ...]
    rule: str = "given"
    scores: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_alike("Mixture", self.fits)
        check_weights("Mixture", self.weights, len(self.fits))
        if self.scores and len(self.scores) != len(self.fits):
            raise ConfigurationError(
                f"Mixture: scores must be one number a fit, {len(self.fits)}; got {len(self.scores)}."
            )

    def __len__(self) -> int:
        return len(self.fits)

    def __repr__(self) -> str:
        first = self.fits[0]
        table = self.summary().to_string(index=False, float_format="{:.4g}".format, na_rep="")
        head = f"Mixture of {len(self)} fits of a {type(first.model).__name__} to {self.num_data:,} rows"
        return "\n".join(
            [f"{head}, weights by {self.rule}", *(f"  {t}" for t in table.split("\n"))]
        )

    @property
    def model(self) -> Network:
        """Network of the first fit; those of the others differ from it in running statistics only."""
        return self.fits[0].model

    @cached_property
    def guide(self) -> Guide | MixtureGuide:
        """The guides as one law; of a single fit its guide."""
        if len(self) == 1:
            return self.fits[0].guide
        models, guides = ([getattr(f, name) for f in self.fits] for name in ("model", "guide"))
        return MixtureGuide(models, guides, self.weights)

    @property
    def best(self) -> Fit:
        """The fit of the largest weight, the first of them."""
        return self.fits[max(range(len(self)), key=self.weights.__getitem__)]

    @property
    def options(self) -> TrainingOptions:
        """Options of the first fit; those of the others differ in their seed."""
        return self.fits[0].options

    @property
    def num_data(self) -> int:
        """Observations that each was fitted to."""
        return self.fits[0].num_data

    @property
    def collapsed(self) -> list[str]:
        """Gated layers without an active node in a fit of positive weight."""
        pairs = zip(self.fits, self.weights, strict=True)
        return list(dict.fromkeys(name for f, w in pairs if w > 0 for name in f.collapsed))

    def summary(self) -> pd.DataFrame:
        """One row a fit: ``seed``, ``weight``, ``score`` (what it was made of), ``elbo`` and the active members.

        ``elbo`` is the best reading of the bound, which is that of the fit, or where none was made the history's last.
        """
        rows = []
        for place, (one, weight) in enumerate(zip(self.fits, self.weights, strict=True)):
            row = {"seed": one.options.seed, "weight": weight}
            if self.scores:
                row["score"] = self.scores[place]
            history = one.history
            if history.bounds:
                row["elbo"] = max(reading.elbo for reading in history.bounds)
            elif len(history):
                row["elbo"] = history.elbo[-1]
            open = one.guide.inclusion().items()
            rows.append(row | {f"active {name}": int((p > 0.5).sum()) for name, p in open})
        return pd.DataFrame(rows)


def require_alike(owner: str, fits: Sequence[Fit]) -> None:
    """Raise :class:`ConfigurationError` unless these are fits of one network to equally many rows.

    :param owner: the public function, for the message.
    """
    expected = "fits, the results of pyro_ssbnn.fit"
    check_that(owner, "fits", fits, isinstance(fits, Sequence) and len(fits) > 0, expected)
    for number, other in enumerate(fits, 1):
        check_that(owner, f"fit {number}", other, isinstance(other, Fit), "a Fit, as fit gives it")
        other.require_match(owner)
        names = ("the first fit", f"fit {number}")
        difference = first_difference(fits[0].model, other.model, names)
        if other.num_data != fits[0].num_data:
            difference = (
                f"{names[0]} is to {fits[0].num_data} rows and {names[1]} to {other.num_data}"
            )
        if difference:
            raise ConfigurationError(
                f"{owner}: these fits are of different networks or data: {difference}. Give fits of one network to"
                " the same rows."
            )
