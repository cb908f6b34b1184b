r"""The joint law of the predictors of a fitted perceptron: a probability for every set that matters.

Under the guide of a network with hidden layers the gates of predictors are independent. Where predictors correlate, it
settles on one of several that say the same, and is as sure of it as of any other. Here sets of predictors are weighed
against each other,

.. math:: q(z) \propto p(z)\, p(y \mid z),

with the evidence of :mod:`pyro_ssbnn.analysis.laplace`, around the hidden nodes and slab scales that the fit has found.
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
from pyro_ssbnn.checks import check_at_least_one, check_that
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.inference.correlated_blocks import correlations
from pyro_ssbnn.inference.guards import check_data
from pyro_ssbnn.inference.training_rows import require_in_memory
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.models import MLP
from pyro_ssbnn.selection.predictor_law import PredictorLaw
from pyro_ssbnn.structure.network import Network

__all__ = ["has_predictor_law", "in_reasonable_time", "predictor_law", "weighed"]

_CORRELATED = 0.5  # least absolute correlation of a predictor that is tried in the place of another
_MATTERS = 6.0  # nats below the best set, up to which neighbours are looked at
_HOPELESS = 20.0  # nats below it, from which a mode is not found exactly
_BETTER = (
    0.5  # nats, by which a neighbour is better than the best so far that is gone on from at once
)
_FEW = 8  # predictors that are tried in the place of another
_MOST, _ROWS = 600, 20_000
_NUMBERS = 2**26  # of the outputs' derivatives, held at a time
_WEIGHTS = 10_000  # of a set: several matrices of their square are held, 800 MB each
_WORK = 2**29  # multiplications of a step, a tenth of a second; a law takes some hundred steps

Member = tuple[str, int]
Members = frozenset[Member]


def predictor_law(
    fit: Fit, x: Tensor, y: Tensor, *, most: int = _MOST, max_rows: int = _ROWS, seed: int = 0
) -> PredictorLaw:
    """Weigh sets of predictors against each other around a fit; see the module.

    For an :class:`~pyro_ssbnn.models.MLP` with hidden layers and gated predictors, under any likelihood. Hidden nodes
    with inclusion above 1/2 are taken for open, all others for closed. Where none is open, predictors cannot act but
    by linear terms, and the inclusion of the others is their prior's. It takes a fraction of a second for small
    tables; each set costs a few products of rows and squared number of weights, minutes
    of 8,000 rows and 700 open weights, hours where a fit has left thousands open.

    :param fit: the fit; it stays as it is.
    :param x: predictors ``[N, columns]`` that were fitted to, scaled as they were.
    :param y: their targets, ``[N]`` (``[N, K]`` for several).
    :param most: sets whose mode is found.
    :param max_rows: of more rows so many are drawn, and each stands for its share of all.
    :param seed: of that draw; the caller's random state is left untouched.
    :raises ConfigurationError: for another network, predictors without gates, another number of rows, or a fit that has
        left more than 10,000 weights open.
    :raises DataError: for data that do not fit the network, or whose scales leave double precision.
    """
    check_that(
        "predictor_law",
        "fit",
        fit,
        isinstance(fit, Fit),
        "what fit returned (of several mixture.best)",
    )
    fit.require_match("predictor_law")
    check_at_least_one("predictor_law", most=most, max_rows=max_rows)
    require_in_memory("predictor_law", x)
    check_data("predictor_law", fit.model, x, y)
    if not fit.model.description.inputs.gated:
        raise ConfigurationError(
            "predictor_law: the predictors of this network carry no gates; give input_inclusion."
        )
    if len(x) != fit.num_data:
        raise ConfigurationError(
            f"predictor_law: the fit was to {fit.num_data:,} rows, x has {len(x):,}; give the rows that were fitted to."
        )
    return weighed(fit, x, y, most, max_rows, seed)


def has_predictor_law(model: Network) -> bool:
    """Whether a network is one that :func:`predictor_law` takes."""
    return isinstance(model, MLP) and bool(model.hidden) and model.description.inputs.gated


def in_reasonable_time(fit: Fit, num_rows: int) -> bool:
    """Whether sets are weighed in seconds, or a minute: not where a fit has many nodes and rows."""
    network = OpenPerceptron(fit)
    weights, rows = _open_weights(fit, network), _rows(fit, network, num_rows, _ROWS)
    work = rows * fit.model.description.num_outputs * weights**2 + weights**3
    return weights <= _WEIGHTS and work <= _WORK


def weighed(
    fit: Fit, x: Tensor, y: Tensor, most: int = _MOST, max_rows: int = _ROWS, seed: int = 0
) -> PredictorLaw:
    """The same for rows that are known to fit, all or a sample of those fitted to."""
    with isolated(seed, next(fit.guide.parameters())), torch.no_grad():
        network = OpenPerceptron(fit)
        weights = _open_weights(fit, network)
        if weights > _WEIGHTS:
            raise ConfigurationError(
                f"predictor_law: made for at most {_WEIGHTS:,} weights; with the predictors and nodes of inclusion"
                f" above 1/2 this fit has {weights:,}. Train it longer, until more gates have closed, or fit a smaller"
                " network."
            )
        rows = _rows(fit, network, len(x), max_rows)
        kept = torch.randperm(len(x))[:rows] if len(x) > rows else torch.arange(len(x))
        part = x[kept.to(x.device)].cpu().double(), y[kept.to(y.device)].cpu()
        evidence = SetEvidence(fit, network, *part, share=fit.num_data / len(kept))
        try:
            return _Search(fit, network, evidence).run(most)
        except torch.linalg.LinAlgError as error:
            raise _beyond_precision() from error


def _open_weights(fit: Fit, network: OpenPerceptron) -> int:
    """Number of weights of the fit's own set."""
    description, inclusion = fit.model.description, fit.guide.inclusion()
    owners = description.inputs.columns.owners.cpu()
    none = torch.zeros(0, dtype=torch.bool)
    columns, linear = (
        (inclusion[group.name] > 0.5).cpu()[owners] if group else none
        for group in (description.inputs, description.linear)
    )
    return sum(int(mask.sum()) for mask in network.masks(columns, linear))


def _rows(fit: Fit, network: OpenPerceptron, num_rows: int, max_rows: int) -> int:
    """Rows whose derivatives by all weights fit into memory."""
    weights = sum(layer.numel() for layer in network.mean.layers)
    most = max(1, _NUMBERS // (weights * fit.model.description.num_outputs))
    return min(num_rows, max_rows, most)


def _beyond_precision() -> DataError:
    return DataError(
        "predictor_law: curvatures of the posterior are beyond double precision, with the scales that predictors and"
        " targets have. Fit to standardised ones."
    )


class _Search:
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
            raise _beyond_precision()
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
