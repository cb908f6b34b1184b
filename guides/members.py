"""What becomes of a structured guide's members: they leave for good, come in again, or have their gates fixed."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_ssbnn.guides.moments import CLOSED_LOGIT, OPEN_LOGIT, GuideMoments

__all__ = ["GuideMembers"]


class GuideMembers(GuideMoments):
    """Members of a guide that has a module for each group of its description."""

    initial: dict[str, float]

    @torch.no_grad()
    def close(self, closed: Mapping[str, Tensor]) -> None:
        """Close members for good: their gates never open, and all their weights, in and out, follow the prior.

        :param closed: indices ``{group: [closed]}``; for sums, the places to which nobody writes any more.
        """
        for name in closed.keys() & {group.name for group in self.description.gate_groups}:
            self.gate_logits(name)[closed[name]] = CLOSED_LOGIT
        for group in self.description.groups:
            weight = getattr(self, group.name).weight
            prior = {"loc": 0.0, "log_scale": math.log(group.prior.scale)}
            for dim, axis in enumerate((group.weight_rows, group.incoming)):
                if axis.group in closed:
                    cut = axis.indices(closed, self.temperature.device)
                    for key, value in prior.items():
                        getattr(weight, key).index_fill_(dim, cut, value)

    @torch.no_grad()
    def admit(self, admitted: Mapping[str, Tensor]) -> None:
        """Let closed members in again, so that the network computes what it did: what reads them starts at means of 0.

        Gates and standard deviations start as in a new guide; nodes start with random incoming weights.

        :param admitted: indices ``{group: [admitted]}``; a predictor comes with its linear term.
        """
        linear, inputs = self.description.linear, self.description.inputs
        if linear is not None and inputs.name in admitted:
            admitted = {linear.name: admitted[inputs.name], **admitted}
        start = self.initial["initial_inclusion"]
        logit = math.log(start / (1 - start))
        for name, members in admitted.items():
            self.gate_logits(name)[members] = logit
        for group in self.description.groups:
            weight = getattr(self, group.name).weight
            spread = 1 / math.sqrt(group.fan_in)
            for dim, axis in enumerate((group.weight_rows, group.incoming)):
                if axis.group in admitted:
                    cut = axis.indices(admitted, self.temperature.device)
                    weight.log_scale.index_fill_(
                        dim, cut, math.log(self.initial["initial_scale"] * spread)
                    )
                    reads = dim == 1 or group is linear
                    random = torch.randn_like(weight.loc) * (0.0 if reads else spread)
                    weight.loc.index_copy_(dim, cut, random.index_select(dim, cut))

    @torch.no_grad()
    def fix_gates(self, open: Mapping[str, Tensor]) -> None:
        """Set inclusion probabilities to 1 and 0; they stay there as long as the logits are not trained.

        :param open: ``{group: [size]}``, True for 1; groups not named keep their gates.
        :raises ConfigurationError: for an unknown group, or one without gates.
        """
        for name, mask in open.items():
            logits = self.inclusion_logits(name)  # shares the parameter's memory
            values = torch.where(mask.to(logits.device), OPEN_LOGIT, CLOSED_LOGIT)
            logits.copy_(values)
