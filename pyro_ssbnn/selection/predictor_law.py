"""Laws of gates as tables of sets, and the joint law of a network's predictors that is made of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.structure.description import NetworkDescription

__all__ = ["GateTable", "PredictorLaw"]

_TOGETHER = 60  # gates of one table: a set is an int64
_NEVER = 1e-12


class GateTable(NamedTuple):
    """Law of some gates that is independent of all others, given a cell of the slab scale where there are several.

    :param members: places of the gates in their group, ``[k]``, ascending.
    :param sets: assignments, ``[S]``, int64 on the CPU: bit i is one where gate i is open. All :math:`2^k`
        ascending, or, of more than fourteen gates, those that have a probability.
    :param probability: of each, ``[S]``, float64 on the CPU.
    """

    members: tuple[int, ...]
    sets: Tensor
    probability: Tensor


@dataclass(frozen=True)
class PredictorLaw:
    """Probabilities of sets of predictors, see :func:`pyro_ssbnn.predictor_law`.

    ``set_inclusion``, ``credible_sets``, ``credible_set_summary``, ``model_size`` and ``plot_predictor_inclusion`` take
    it in the place of a guide; ``select`` and ``select_fdr`` take its :meth:`inclusion`. With linear terms a predictor
    is in by either of its gates.

    :param description: of the network.
    :param sets: pairs (group, index) of the open gates of predictors and linear terms, for each set.
    :param probability: of each, ``[S]``, float64, with sum 1; the most probable first.
    :param apart: inclusion probability of members that no set speaks of, whose gates change nothing, by group.
    :param fitted: the guide's inclusion probabilities, by group.
    """

    description: NetworkDescription
    sets: tuple[tuple[tuple[str, int], ...], ...]
    probability: Tensor
    apart: dict[str, Tensor]
    fitted: dict[str, Tensor]

    def __post_init__(self) -> None:
        sizes = {name: len(each) for name, each in self.fitted.items()}
        if len(self.sets) != len(self.probability) or not self.sets:
            raise ConfigurationError(
                f"PredictorLaw: one probability a set, at least one; got {len(self.sets)} sets and"
                f" {len(self.probability)} probabilities."
            )
        for name, index in {member for one in self.sets for member in one}:
            if not 0 <= index < sizes.get(name, 0):
                raise ConfigurationError(
                    f"PredictorLaw: {name} has no member {index}; the groups are {sizes}."
                )

    @property
    def coupled(self) -> tuple[str, ...]:
        """Groups that have a joint law, as of a guide: the predictors."""
        return (self.description.inputs.name,)

    @property
    def groups(self) -> tuple[str, ...]:
        """Gated groups whose members are predictors: ``input``, and ``linear`` where there are linear terms."""
        return tuple(self.fitted)

    def gates(self, name: str) -> Tensor:
        """Gates of a group in each set, ``[S, size]``, bool.

        :raises ConfigurationError: for another group.
        """
        if name not in self.groups:
            raise ConfigurationError(
                f"PredictorLaw: it is a law of {list(self.groups)}; got {name!r}."
            )
        out = torch.zeros(len(self.sets), len(self.fitted[name]), dtype=torch.bool)
        for row, one in enumerate(self.sets):
            out[row, [index for group, index in one if group == name]] = True
        return out

    def of_gates(self) -> dict[str, Tensor]:
        """Inclusion probability of each gate, ``{group: [size]}``, float64."""
        found = {}
        for name in self.groups:
            apart = self.apart.get(name)
            within = self.probability @ self.gates(name).double()
            found[name] = within.clamp(0, 1) if apart is None else apart.double()
        return found

    def inclusion(self) -> dict[str, Tensor]:
        """Probability that each predictor is in by any of its gates, ``{"input": [p]}``, float64."""
        outside = torch.ones(self.description.inputs.size, dtype=torch.float64)
        for apart in self.apart.values():
            outside = outside * (1 - apart.double())
        within = (self.probability @ self._in_sets().double()).clamp(0, 1)
        return {self.description.inputs.name: 1 - outside * (1 - within)}

    def inclusion_logits(self, name: str = "input") -> Tensor:
        """Log-odds of the same, finite, ``[p]``.

        :raises ConfigurationError: for another group than the predictors.
        """
        self._require_inputs(name)
        return self.inclusion()[name].clamp(_NEVER, 1 - _NEVER).logit()

    def tables(self, name: str = "input") -> list[GateTable]:
        """The law of predictors being in by any of their gates: a table of those that sets differ in, others alone.

        Where members are apart, predictors are taken one by one.

        :raises ConfigurationError: for another group than the predictors.
        """
        self._require_inputs(name)
        inclusion = self.inclusion()[name]
        undecided = torch.minimum(inclusion, 1 - inclusion)
        rank = undecided.masked_fill(undecided <= _NEVER, -1.0)
        number = 0 if self.apart else min(_TOGETHER, int((rank >= 0).sum()))
        places = rank.topk(number).indices.sort()[0]
        tables = []
        if number:
            bits = 1 << torch.arange(number)
            numbers, row = (
                (self._in_sets()[:, places].long() * bits).sum(-1).unique(return_inverse=True)
            )
            mass = torch.zeros(len(numbers), dtype=torch.float64)
            mass.index_add_(0, row, self.probability)
            tables.append(GateTable(tuple(places.tolist()), numbers, mass))
        for member in sorted(set(range(len(inclusion))) - set(places.tolist())):
            pair = torch.stack([1 - inclusion[member], inclusion[member]])
            tables.append(GateTable((member,), torch.arange(2), pair))
        return sorted(tables, key=lambda table: table.members)

    def _in_sets(self) -> Tensor:
        """Whether each predictor is in by a gate that sets speak of, ``[S, p]``."""
        found = torch.zeros(len(self.sets), self.description.inputs.size, dtype=torch.bool)
        for name in self.groups:
            if name not in self.apart:
                found |= self.gates(name)
        return found

    def _require_inputs(self, name: str) -> None:
        if name != self.description.inputs.name:
            raise ConfigurationError(
                f"PredictorLaw: it is a law of the predictors, {self.description.inputs.name!r}; got {name!r}."
            )

    def summary(self) -> pd.DataFrame:
        """One row for every predictor: ``inclusion`` by any of its gates, under the law; ``fitted``, under the guide.

        Also ``prior_inclusion``, ``log_bayes_factor`` (posterior against prior odds, infinite where a probability
        rounds to 1), and with linear terms ``nonlinear`` and ``linear``, each gate alone under the law.
        """
        inputs, each = self.description.inputs, self.of_gates()
        acting, out = self.inclusion()[inputs.name], torch.ones(inputs.size, dtype=torch.float64)
        fitted, prior = out, out
        for name in self.groups:
            fitted = fitted * (1 - self.fitted[name].double().cpu())
            prior = prior * (1 - self.description[name].prior_inclusion)
        columns = {
            "inclusion": acting,
            "fitted": 1 - fitted,
            "prior_inclusion": 1 - prior,
            "log_bayes_factor": acting.logit() - (1 - prior).logit(),
        }
        if len(self.groups) > 1:
            columns |= dict(zip(("nonlinear", "linear"), each.values(), strict=True))
        arrays = {name: column.numpy() for name, column in columns.items()}
        table = pd.DataFrame(arrays, index=list(inputs.names))
        return table.rename_axis("name")

    def __repr__(self) -> str:
        shown = self.summary().sort_values("inclusion", ascending=False, kind="stable").head(10)
        rows = shown.round(3).to_string().split("\n")
        head = f"PredictorLaw of {self.description.inputs.size} predictors, {len(self.sets):,} sets"
        return "\n".join([f"{head}; the likeliest predictors:", *(f"  {row}" for row in rows)])
