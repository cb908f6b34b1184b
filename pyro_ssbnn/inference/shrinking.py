r"""Training that shrinks: nodes and predictors that the posterior has closed leave the network while it is trained.

To remove node j is to restrict the variational family to :math:`q(z_j = 1) = 0`, with its weights, scales, and the
weights that read it, at their prior. Their KLs are then zero, and what remains of the bound on the *original* model's
evidence is

.. math:: \mathrm{ELBO} = \mathrm{ELBO}_{\text{smaller network}} + \sum_{j\ \mathrm{removed}} \log(1 - \lambda_j),

so the smaller network, under the priors of the whole one, is trained on the same objective. A closed node passes on
:math:`\phi(0)`; only where that is 0 may nodes be removed. Removed predictors always pass on 0.

That is a matter of statistics, and done in two steps, because a smaller network is a matter of speed. To *close*
members is to fix their parts of the network where they are: gates that never open, weights at their prior, scales that
cost nothing. Shapes stay, and so does a step that was built for them. To *narrow* the network takes what is closed out
of its tensors. The bound is the same before and after.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.history import History, Removal
from pyro_ssbnn.structure.axes import put, take
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["LiveNetwork", "PresentScales", "due_for_removal", "may_lose_members", "narrowed_guide"]

_IDLE = 0.01  # inclusion of a node, whatever its prior
_MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")


def due_for_removal(
    history: History, model: Network, below: float, after: int
) -> dict[str, list[int]]:
    """Members still in the network whose inclusion was below threshold and prior in each of the last epochs.

    A predictor whose odds have risen above the prior odds stays, however small they are, and so does a node, unless its
    inclusion is below 0.01: a prior inclusion far smaller is a price on nodes, one of which stands for another, and no
    trained gate gets down to 1e-30. Nobody goes before the KL has its full weight.

    The likeliest member of a group always stays, so that there is a network left (the guard reports the collapse). A
    predictor is in as long as either of its gates is, and leaves with its linear term.

    :param below: threshold on the inclusion probability.
    :param after: number of epochs in a row.
    :returns: ascending original indices, ``{group: [due]}``; groups without any are absent.
    """
    due: dict[str, list[int]] = {}
    if len(history) < after or min(history.kl_weight[-after:]) < 1:
        return due
    linear, inputs = model.description.linear, model.description.inputs
    removable = [g for g in model.description.gate_groups if may_lose_members(model, g.name)]
    for group in removable:
        if group is linear:
            continue
        rows = np.stack(history.inclusion[group.name][-after:])
        prior = group.prior_inclusion.numpy()
        if group is not inputs:
            prior = np.maximum(prior, _IDLE)
        elif linear is not None:
            rows = 1 - (1 - rows) * (1 - np.stack(history.inclusion[linear.name][-after:]))
            prior = 1 - (1 - prior) * (1 - linear.prior_inclusion.numpy())
        low = np.asarray((rows < np.minimum(below, prior)).all(0))  # what the data favour stays
        low[[r.node for r in history.removed if r.group == group.name]] = False
        low[rows[-1].argmax()] = False
        if low.any():
            due[group.name] = np.flatnonzero(low).tolist()
    return due


def may_lose_members(model: Network, name: str) -> bool:
    """Whether closed members of a group pass on 0, so that the network without them computes the same."""
    linear = model.description.linear
    passes_nothing = (model.description.inputs.name, linear.name if linear else None)
    name = model.description.leader_of(name)
    return name in passes_nothing or model.passes_nothing(name)


def narrowed_guide(guide: Guide, model: Network, kept: Mapping[str, Tensor]) -> Guide:
    """``guide.narrowed(model, kept)``.

    :raises ConfigurationError: for a guide of one's own that cannot be made again.
    """
    try:
        return guide.narrowed(model, kept)
    except TypeError as error:
        raise ConfigurationError(
            f"{type(guide).__name__} cannot be made again, which nodes that leave the network ask for ({error}). Give"
            " in its to_config() every argument of its constructor beside the network, or keep all nodes:"
            " remove_below=None."
        ) from error


class LiveNetwork:
    """The part of a network that is still trained, beside the whole.

    :param model: the whole network.
    :param guide: its guide; :meth:`store` brings it up to date.

    ``model``, ``guide`` are the live ones: the whole's own until it is narrowed. ``kept`` are the members that have not
    been closed, in those groups that have lost some; ``places`` the members that the live tensors have, closed ones
    among them; ``present`` are 1 for the former and 0 for the closed ones among the live members of each gated group,
    and of those that follow one.
    """

    def __init__(self, model: Network, guide: Guide) -> None:
        self.whole_model, self.whole_guide = model, guide
        self.model, self.guide = model, guide
        self.kept: dict[str, Tensor] = {}
        self._lost: frozenset[str] = frozenset()  # groups and sums that have lost members
        self.places: dict[str, Tensor] = {}  # and of what is live of sums
        self._at: dict[
            str, Tensor
        ] = {}  # the same on the device: every record of the history needs them
        self._axes = guide.parameter_axes()
        self._statistics_axes = model.statistics_axes()
        self.present = self._all_present()

    @property
    def removed_kl(self) -> float:
        """KL from their prior of those gates that the live network no longer has."""
        groups = [g for g in self.whole_model.description.gate_groups if g.name in self.places]
        return -sum(g.log_closed(_others(self.places[g.name], g.size).tolist()) for g in groups)

    @property
    def narrowest(self) -> NetworkDescription:
        """What :meth:`narrow` would leave of the network."""
        return self.whole_model.description.narrowed(self.kept)

    def size_without(self, due: Mapping[str, Sequence[int]]) -> int:
        """Number of weights left if these members were removed."""
        return self.whole_model.description.narrowed(self._kept_without(due)).num_weights

    def close(self, due: Mapping[str, Sequence[int]]) -> None:
        """Close members, given by their original indices, for good; the live tensors keep their shapes."""
        self.store()
        self.kept = self._kept_without(due)
        kept = self.whole_model.description.with_sums(self.kept)
        self._lost = frozenset(kept)
        sizes = {group.name: group.size for group in self._groups_and_sums()}
        closed = {name: _others(members, sizes[name]) for name, members in kept.items()}
        self.whole_guide.close(self._on_device(closed))
        if self.guide is not self.whole_guide:
            self.guide.close(self._on_device(self._in_live(closed)))
        for name, members in self._on_device(self._in_live(closed)).items():
            if name in self.present:
                self.present[name].index_fill_(0, members, 0.0)

    def admit(
        self,
        admitted: Mapping[str, Sequence[int]],
        trained: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Let closed members, given by their original indices, in again; :meth:`narrow` then gives them tensors.

        :param trained: parameters of the whole guide to go on from; None starts those of the members anew.
        """
        self.store()
        self.kept = dict(self.kept)
        for name, members in admitted.items():
            back = torch.cat([self.kept[name], torch.as_tensor(members, dtype=torch.long)])
            self.kept[name] = back.sort().values
        if trained is not None:
            self.whole_guide.load_state_dict(trained)
        else:
            indices = {name: torch.as_tensor(members) for name, members in admitted.items()}
            self.whole_guide.admit(self._on_device(indices))
        if self.guide is not self.whole_guide:
            whole = self.whole_guide.state_dict()
            for name, part in self.guide.state_dict().items():
                part.copy_(take(whole[name], self._axes[name], self.places))

    def narrow(self, spare: Mapping[str, int] | None = None) -> None:
        """Take what is closed out of the live network; its guide goes on with the other parameters as they are.

        :param spare: closed members that stay for others that may come in, by group: the network keeps its shape when
            they do, and a compiled step its worth.
        """
        self.store()
        live = dict(self.kept)
        for name, number in (spare or {}).items():
            closed = _others(live[name], self.whole_model.description[name].size)
            live[name] = torch.cat([live[name], closed[:number]]).sort().values
        description = self.whole_model.description
        self.places = description.with_sums(live)
        self._lost, self._at = frozenset(self.places), self._on_device(self.places)
        self.model = self.whole_model.narrowed(live)
        self.guide = narrowed_guide(self.whole_guide, self.model, live)
        self.present = self._all_present()
        for name, members in description.with_sums(self.kept).items():
            if name in self.present:
                self.present[name] *= torch.isin(self.places[name], members).to(self.present[name])

    def store(self) -> None:
        """Write the live parameters back into the whole guide, and the live running statistics into the model."""
        if self.guide is self.whole_guide:
            return
        whole = self.whole_guide.state_dict()
        for name, part in self.guide.state_dict().items():
            put(whole[name], part, self._axes[name], self.places)
        whole = self.whole_model.state_dict()
        for name, part in self.model.state_dict().items():
            put(whole[name], part, self._statistics_axes[name], self.places)

    def inclusion(self) -> dict[str, Tensor]:
        """Inclusion probabilities of every gated group of the whole network, 0 for removed members."""
        live = self.guide.inclusion()
        for name in live.keys() & self._lost:
            live[name] = live[name] * self.present[name]
            if name in self._at:
                whole = live[name].new_zeros(self.whole_model.description[name].size)
                live[name] = whole.index_copy(0, self._at[name], live[name])
        return live

    def removals(self, due: Mapping[str, Sequence[int]], history: History) -> list[Removal]:
        """Records of members about to be removed."""
        last = {name: history.inclusion[name][-1] for name in due}
        return [
            Removal(name, node, history.epoch, float(last[name][node]))
            for name, nodes in due.items()
            for node in nodes
        ]

    def whole_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Optimizer state of the whole guide from the live one's; removed members have zero moments."""
        whole = dict(self.whole_guide.named_parameters())
        kept = self.whole_model.description.with_sums(self.kept)

        def moved(moment: Tensor, name: str) -> Tensor:
            axes = self._axes[name]
            everywhere, out = torch.zeros_like(whole[name]), torch.zeros_like(whole[name])
            put(everywhere, moment, axes, self.places)
            put(out, take(everywhere, axes, kept), axes, kept)
            return out

        return self._mapped(state, moved)

    def live_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Optimizer state of the live guide from the whole's."""
        return self._mapped(state, lambda moment, name: take(moment, self._axes[name], self.places))

    def _mapped(self, state: Mapping[str, Any], moved: Any) -> dict[str, Any]:
        """Optimizer state with every moment moved; parameters keep their order."""
        names = {id(p): name for name, p in self.whole_guide.named_parameters()}
        order = [names[id(p)] for ps in self.whole_guide.parameter_groups().values() for p in ps]
        slots = {
            index: {k: moved(v, order[index]) if k in _MOMENTS else v for k, v in entry.items()}
            for index, entry in state["state"].items()
        }
        return {"state": slots, "param_groups": state["param_groups"]}

    def _kept_without(self, due: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        kept = dict(self.kept)
        for name, members in due.items():
            size = self.whole_model.description[name].size
            stays = torch.zeros(size, dtype=torch.bool)
            stays[kept[name] if name in kept else slice(None)] = True
            stays[torch.as_tensor(members)] = False
            kept[name] = stays.nonzero().flatten()
        return kept

    def _all_present(self) -> dict[str, Tensor]:
        like = next(self.guide.parameters())
        description = self.model.description
        groups = [*description.gate_groups, *map(description.layer, dict(description.follows))]
        return {group.name: like.detach().new_ones(group.size) for group in groups}

    def _groups_and_sums(self) -> list[Any]:
        description = self.whole_model.description
        return [description.inputs, *description.groups, *description.sums]

    def _in_live(self, closed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Indices in the live network's tensors of those original members that it still has."""
        return {
            name: torch.isin(self.places[name], members).nonzero().flatten()
            if name in self.places
            else members
            for name, members in closed.items()
        }

    def _on_device(self, indices: Mapping[str, Tensor]) -> dict[str, Tensor]:
        device = next(self.whole_guide.parameters()).device
        return {name: members.to(device) for name, members in indices.items()}


class PresentScales(Messenger):
    """Count the scale latents of closed members as if they followed their prior: at no cost.

    Gates and weights of closed members need nothing of the kind: where they are, their KLs are those of the gates that
    are left out, and zero.

    :param present: 1 for the members that count and 0 for closed ones, ``{plate: [size]}``.
    :param other: names of the plates' other sites.
    """

    def __init__(self, present: Mapping[str, Tensor], other: Container[str]) -> None:
        super().__init__()
        self.present, self.other = present, other

    def _pyro_sample(self, msg: Message) -> None:
        for frame in msg["cond_indep_stack"]:
            if frame.name in self.present and msg["name"] not in self.other:
                msg["scale"] = msg["scale"] * self.present[frame.name]


def _others(indices: Tensor, size: int) -> Tensor:
    """Those of ``size`` members that the indices leave out."""
    left_out = torch.ones(size, dtype=torch.bool)
    left_out[indices.cpu()] = False
    return left_out.nonzero().flatten()
