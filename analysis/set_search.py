"""A search from set to set of predictors, by their evidence.

A search goes from the fit's own set to its neighbours, and on from those that matter, from a better one at once: a
member less, a member in the place of one that it correlates with (of many the likeliest few, to second order around the
set without either), a predictor linear in the place of nonlinear. What a set lacks is put in terms of
what it has, by least squares, and the weights move on from there. Of a member more, all are judged to second order, and
those that matter by their own mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from pyro_ssbnn.analysis.laplace import Mode, SetEvidence
from pyro_ssbnn.analysis.open_perceptron import OpenPerceptron, Weights
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.inference.correlated_blocks import correlations
from pyro_ssbnn.selection.predictor_law import PredictorLaw

__all__ = ["SetSearch", "beyond_precision"]

_CORRELATED = 0.5  # least absolute correlation of a predictor that is tried in the place of another
_MATTERS = 6.0  # nats below the best set, up to which neighbours are looked at
_HOPELESS = 20.0  # nats below it, from which a mode is not found exactly
_BETTER = (
    0.5  # nats, by which a neighbour is better than the best so far that is gone on from at once
)
_FEW = 8  # predictors that are tried in the place of another

Member = tuple[str, int]
Members = frozenset[Member]


class SetSearch:
    """Sets, their log probabilities up to a constant, and modes of those that have been looked at."""

    def __init__(self, fit: Fit, network: OpenPerceptron, evidence: SetEvidence) -> None:
        self.network, self.evidence, self.x = network, evidence, evidence.x
        self.description = description = fit.model.description
        inputs, linear = description.inputs, description.linear
        self.groups = {inputs.name: inputs, **({linear.name: linear} if linear else {})}
        inclusion = fit.guide.inclusion()
        self.fitted = {name: inclusion[name].double().cpu() for name in self.groups}
        self.apart = {}
        if not network.acts:
            self.apart[inputs.name] = inputs.prior_inclusion
        self.moving = [name for name in self.groups if name not in self.apart]
        owners = inputs.columns.owners.cpu()
        self.columns = {
            (name, index): owners == index for name in self.moving for index in range(inputs.size)
        }
        self.near = correlations(self.x, inputs.columns) >= _CORRELATED
        self.scores: dict[Members, float] = {}
        self.modes: dict[Members, Mode] = {}

    def run(self, most: int) -> PredictorLaw:
        """Search, and weigh what was found."""
        begin = frozenset(
            (name, index)
            for name in self.moving
            for index in (self.fitted[name] > 0.5).nonzero().flatten().tolist()
        )
        self._look(begin, self.network.mean, begin)
        expanded: set[Members] = set()
        while len(self.modes) < most:
            best = max(self.scores[one] for one in self.modes)
            left = [one for one in self.modes if one not in expanded]
            left = [one for one in left if self.scores[one] > best - _MATTERS]
            if not left:
                break
            one = max(left, key=self._rank)
            expanded.add(one)
            self._add_members(one)
            for other in self._changed(one):
                if len(self.modes) >= most:
                    break
                if other not in self.modes:
                    self._look(other, self.modes[one].weights, one)
                    if self.scores[other] > best + _BETTER:
                        expanded.discard(one)  # its other neighbours later, if they matter then
                        break
        order = sorted(self.scores, key=self._rank, reverse=True)
        scores = torch.tensor([self.scores[one] for one in order], dtype=torch.float64)
        if not scores.isfinite().all():
            raise beyond_precision()
        sets = tuple(tuple(sorted(one)) for one in order)
        return PredictorLaw(self.description, sets, scores.softmax(0), self.apart, self.fitted)

    def _rank(self, one: Members) -> tuple[float, list[Member]]:
        """Order of sets, the same whatever order they were found in."""
        return self.scores[one], sorted(one)

    def _masks(self, members: Members) -> tuple[Tensor, Tensor]:
        """Columns and linear columns of a set."""
        found = []
        for name in self.groups:
            mask = torch.zeros(self.x.shape[1], dtype=torch.bool)
            for member in members:
                if member[0] == name:
                    mask |= self.columns[member]
            found.append(mask)
        return found[0], found[1] if len(found) > 1 else found[0][:0]

    def _look(self, members: Members, weights: Weights, before: Members) -> None:
        """Find the mode of a set from the weights of another."""
        columns, linear = self._masks(members)
        old_columns, old_linear = self._masks(before)
        first = _explained(
            weights.layers[0][:, :-1].mT, old_columns, columns, self.x, weights.layers[0][:, -1]
        )
        layers = (torch.cat([first[0].mT, first[1].unsqueeze(-1)], 1), *weights.layers[1:])
        moved = replace(weights, layers=layers)
        if len(linear):
            terms, bias = _explained(
                weights.linear, old_linear, linear, self.x, weights.layers[-1][:, -1]
            )
            last = torch.cat([layers[-1][:, :-1], bias.unsqueeze(-1)], 1)
            moved = Weights((*layers[:-1], last), terms)
        prior = self._log_prior([members])[0]
        least = max(self.scores.values(), default=-torch.inf) - _HOPELESS - prior
        self.modes[members] = mode = self.evidence.mode(moved, columns, linear, least)
        self.scores[members] = mode.evidence + prior

    def _add_members(self, one: Members) -> None:
        """Judge all sets of a member more, and look at those that matter."""
        rest = {m: own for m, own in self.columns.items() if m not in one}
        wider = {m: one | {m} for m in rest}
        new = {m: rest[m] for m in rest if wider[m] not in self.scores}
        gains = self.evidence.gains(self.modes[one], *self._masks(one), new)
        priors = self._log_prior([wider[m] for m in new])
        evidence = self.modes[one].evidence
        for (member, gain), prior in zip(gains.items(), priors, strict=True):
            self.scores[wider[member]] = evidence + gain + prior

    def _changed(self, one: Members) -> Iterator[Members]:
        """Neighbours that are to be looked at, the likeliest additions first."""
        best = max(self.scores[other] for other in self.modes)
        added = [one | {member} for member in self.columns if member not in one]
        yield from sorted(
            (a for a in added if self.scores[a] > best - _MATTERS), key=self._rank, reverse=True
        )
        for member in sorted(one):
            yield one - {member}
        for index in sorted({index for _, index in one}):
            own = frozenset(member for member in one if member[1] == index)
            for rival in self._rivals(one - own, own, index):
                yield (one - own) | {(name, rival) for name, _ in own}
            if len(self.moving) > 1 and len(own) == 1:
                yield (one - own) | {(name, index) for name in self.moving} - own

    def _rivals(self, rest: Members, own: Members, index: int) -> list[int]:
        """Predictors that may stand in for one: all that correlate with it, or of many the likeliest.

        They are judged to second order around the set without it.
        """
        near = [
            rival
            for rival in self.near[index].nonzero().flatten().tolist()
            if rival != index and not any((name, rival) in rest for name in self.moving)
        ]
        if len(near) <= _FEW:
            return near
        if rest not in self.modes:
            self._look(rest, self.modes[rest | own].weights, rest | own)
        masks = self._masks(rest)
        of_each = torch.zeros(len(near), dtype=torch.float64)
        for name, _ in own:
            members = {(name, rival): self.columns[name, rival] for rival in near}
            found = self.evidence.gains(self.modes[rest], *masks, members)
            of_each += torch.tensor(list(found.values()), dtype=torch.float64)
        return [near[place] for place in of_each.topk(_FEW).indices.tolist()]

    def _log_prior(self, sets: list[Members]) -> list[float]:
        """Log prior of the gates of these sets, members apart left out."""
        total = torch.zeros(len(sets), dtype=torch.float64)
        for name in self.moving:
            gates = torch.zeros(len(sets), self.groups[name].size, dtype=torch.float64)
            pairs = [(row, i) for row, one in enumerate(sets) for group, i in one if group == name]
            if pairs:
                gates[tuple(zip(*pairs, strict=True))] = 1.0
            total += self.groups[name].log_prior(gates)
        return total.tolist()


def _explained(
    weights: Tensor, before: Tensor, columns: Tensor, x: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Weights ``[C, K]`` and biases ``[K]`` of other columns that say what these did, by least squares."""
    lost = before & ~columns
    out = weights * (before & columns).unsqueeze(-1)
    if lost.any():
        kept = torch.cat([x[:, columns], torch.ones_like(x[:, :1])], 1)
        found = torch.linalg.lstsq(kept, x[:, lost], driver="gelsd").solution @ weights[lost]
        out[columns] += found[:-1]
        bias = bias + found[-1]
    return out, bias


def beyond_precision() -> DataError:
    """What is raised for scales at which evidence cannot be computed."""
    return DataError(
        "predictor_law: curvatures of the posterior are beyond double precision, with the scales that predictors and"
        " targets have. Fit to standardised ones."
    )
