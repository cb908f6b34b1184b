r"""Selection with error control: how many of the kept are false, how many of the dropped are missed.

Given inclusion probabilities :math:`\gamma_j` each decision's posterior probability of error is known, whatever the
dependence between the gates: a kept member is false with probability :math:`1 - \gamma_j`, a dropped one is missed with
probability :math:`\gamma_j`. These are statements of the *posterior* that gave the probabilities: where a guide is too
sure of itself, so are they.

Sources: Newton, Noueiry, Sarkar and Ahlquist (2004, Biostatistics 5, 155-176) for the rule, Müller, Parmigiani and
Rice (2006, "FDR and Bayesian multiple comparisons rules", Valencia 8) for its place among the optimal ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pyro_ssbnn.checks import is_number
from pyro_ssbnn.distributions.blocks import gates_of
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.selection.joint import GateTable, cells_of_gates
from pyro_ssbnn.selection.predictor_law import PredictorLaw
from pyro_ssbnn.selection.rules import Selection, check_inclusion, select
from pyro_ssbnn.structure.guide import Guide

__all__ = ["expected_false_omissions", "expected_false_selections", "model_size", "select_fdr"]

_ROUNDING = 1e-12  # of an average of probabilities in double precision


def select_fdr(
    inclusion: Mapping[str, Tensor],
    *,
    level: float = 0.05,
    groups: Sequence[str] | None = None,
) -> Selection:
    r"""Select as many members as the Bayesian false discovery rate allows.

    .. math:: \mathrm{FDR}(S) = \frac{1}{|S|}\sum_{j \in S}(1 - \gamma_j) \le \mathrm{level}

    Members enter in the order of their inclusion; the largest such set S is kept. Members of equal inclusion enter
    together or not at all, so that the selection does not depend on their order.

    :param inclusion: ``{group: [size]}`` probabilities, as ``guide.inclusion()`` gives them.
    :param level: largest posterior expected share of false members among the kept.
    :param groups: names of groups to be taken together as one family; the others keep to the median probability model.
        By default every group is a family of its own.
    :returns: a selection; a group keeps nothing when even its best member exceeds the level.
    :raises ConfigurationError: for a level outside [0, 1), an unknown group, or values that are no probabilities.

    >>> select_fdr({"hidden1": torch.tensor([0.99, 0.2, 0.93])}).kept
    {'hidden1': tensor([0, 2])}
    """
    if not (is_number(level) and 0 <= level < 1):
        raise ConfigurationError(f"select_fdr: level must lie in [0, 1); got {level!r}.")
    _check("select_fdr", inclusion)
    families = [[name] for name in inclusion] if groups is None else [_family(inclusion, groups)]
    kept = dict(select(inclusion).kept)
    for family in families:
        pooled = torch.cat([inclusion[name].double() for name in family])
        parts = _largest_set(pooled, level).split([len(inclusion[name]) for name in family])
        kept |= {name: part.nonzero().flatten() for name, part in zip(family, parts, strict=True)}
    rule = f"Bayesian false discovery rate at most {level:g}"
    if groups is not None:
        rule += f" over {', '.join(families[0])} together"
    return Selection(kept, {name: len(p) for name, p in inclusion.items()}, rule)


def expected_false_selections(
    inclusion: Mapping[str, Tensor], selection: Selection
) -> dict[str, float]:
    r"""Posterior expected number of kept members that are not in the model, :math:`\sum_{kept}(1 - \gamma_j)`.

    :returns: one number a group; divided by ``selection.counts`` it is the Bayesian false discovery rate.
    :raises ConfigurationError: when the selection is of other groups or sizes.
    """
    _check_match("expected_false_selections", inclusion, selection)
    return {
        name: float((1 - probability.double()[selection.mask(name)]).sum())
        for name, probability in inclusion.items()
    }


def expected_false_omissions(
    inclusion: Mapping[str, Tensor], selection: Selection
) -> dict[str, float]:
    r"""Posterior expected number of dropped members that are in the model, :math:`\sum_{dropped}\gamma_j`.

    :raises ConfigurationError: when the selection is of other groups or sizes.
    """
    _check_match("expected_false_omissions", inclusion, selection)
    return {
        name: float(probability.double()[~selection.mask(name)].sum())
        for name, probability in inclusion.items()
    }


def model_size(
    inclusion: Mapping[str, Tensor] | Guide | MixtureGuide | PredictorLaw,
) -> dict[str, Tensor]:
    r"""Distribution of the number of members of each group that are in the model.

    Of a guide: under its joint law, blocks of dependent gates included; of a mixture the average of its members'; of a
    :class:`PredictorLaw` the number of predictors. Of
    probabilities alone: under independent
    gates, the Poisson-binomial distribution by exact convolution, one member after the other,
    :math:`p_j(k) = (1 - \gamma_j)\,p_{j-1}(k) + \gamma_j\,p_{j-1}(k - 1)`: sums of non-negative terms only, so that
    small probabilities keep their digits too (a fast Fourier transform's do not). Quadratic in the size: 5,000 members
    take a fraction of a second. Source: Barlow and Heidtmann (1984, IEEE Transactions on Reliability 33, 322-323).

    :param inclusion: a guide or a law, or probabilities, ``{group: [size]}``.
    :returns: ``{group: [size + 1]}``, probabilities of 0, 1, ..., size members, float64 on the CPU.
    :raises ConfigurationError: for values that are no probabilities.
    """
    if isinstance(inclusion, MixtureGuide):
        each = [(weight, model_size(member)) for _, member, weight in inclusion.members]
        return {
            name: torch.stack([w * size[name] for w, size in each]).sum(0) for name in each[0][1]
        }
    if not isinstance(inclusion, Mapping):
        description = inclusion.description
        names = [group.name for group in description.gate_groups]
        if isinstance(inclusion, PredictorLaw):
            names = [description.inputs.name]
        cells = {name: cells_of_gates(inclusion, name) for name in names}
        return {
            name: torch.stack([share * _size_of(tables) for share, tables in of_group]).sum(0)
            for name, of_group in cells.items()
        }
    _check("model_size", inclusion)
    return {name: _poisson_binomial(p.detach().cpu().double()) for name, p in inclusion.items()}


def _largest_set(probability: Tensor, level: float) -> Tensor:
    """Mask of the largest set of the most probable whose mean of 1 - p is within the level, ties unbroken."""
    descending = probability.sort(descending=True).values
    rate = (1 - descending).cumsum(0) / torch.arange(
        1, len(descending) + 1, device=probability.device
    )
    last_of_ties = torch.ones_like(descending, dtype=torch.bool)
    last_of_ties[:-1] = descending[:-1] > descending[1:]
    allowed = (last_of_ties & (rate <= level + _ROUNDING)).nonzero().flatten()
    if len(allowed) == 0:
        return torch.zeros_like(probability, dtype=torch.bool)
    return probability >= descending[allowed[-1]]


def _size_of(tables: Sequence[GateTable]) -> Tensor:
    """Distribution of the number of open gates, block after block; independent gates together."""
    single = [table.probability[1] for table in tables if len(table.members) == 1]
    mass = _poisson_binomial(torch.stack(single) if single else torch.zeros(0).double())
    for members, sets, probability in tables:
        if len(members) > 1:
            counts = gates_of(sets, len(members), sets).sum(-1)
            own = torch.zeros(len(members) + 1, dtype=torch.float64)
            own.index_add_(0, counts, probability)
            wider = mass.new_zeros(len(mass) + len(members))
            for count, p in enumerate(own.tolist()):
                wider[count : count + len(mass)] += p * mass
            mass = wider
    return mass


def _poisson_binomial(probability: Tensor) -> Tensor:
    mass = torch.zeros(len(probability) + 1, dtype=torch.float64)
    mass[0] = 1.0
    for count, p in enumerate(probability.tolist(), start=1):
        mass[1 : count + 1] = (1 - p) * mass[1 : count + 1] + p * mass[:count]
        mass[0] *= 1 - p
    return mass


def _family(inclusion: Mapping[str, Tensor], groups: Sequence[str]) -> list[str]:
    names = [groups] if isinstance(groups, str) else list(dict.fromkeys(groups))
    unknown = [name for name in names if name not in inclusion]
    if unknown or not names:
        raise ConfigurationError(
            f"select_fdr: groups must name gated groups, of which this network has {sorted(inclusion)}; got {names}."
        )
    return names


def _check(owner: str, inclusion: Mapping[str, Tensor]) -> None:
    check_inclusion(owner, inclusion)
    for name, probability in inclusion.items():
        if not ((probability >= 0) & (probability <= 1)).all():
            raise ConfigurationError(
                f"{owner}: inclusion probabilities lie in [0, 1]; those of {name!r} do not, or are missing."
            )


def _check_match(owner: str, inclusion: Mapping[str, Tensor], selection: Selection) -> None:
    _check(owner, inclusion)
    sizes = {name: len(probability) for name, probability in inclusion.items()}
    if sizes != selection.sizes:
        raise ConfigurationError(
            f"{owner}: the selection is of groups {selection.sizes}, the inclusion probabilities of {sizes};"
            " give the probabilities that it was made from."
        )
