"""A guide's parameters in Pyro's parameter store, where a name has one owner.

A :class:`~pyro.nn.PyroModule` gives its parameters to the store under their names, and computes with its own tensors
also where the store holds others under these names. ``SVI`` moves the store's.
"""

from __future__ import annotations

import weakref

import pyro
import torch
from pyro.nn import PyroModule

from pyro_ssbnn.errors import ConfigurationError

__all__ = ["require_own_names"]


def require_own_names(guide: PyroModule) -> None:
    """Raise :class:`ConfigurationError` where the store holds other tensors under the names of a guide to be trained.

    Where modules keep their parameters to themselves (``module_local_params``) there is nothing to find; each is then
    told what ``SVI`` asks of it, that it is its own unconstrained value.
    """
    if not torch.is_grad_enabled():  # draws use the guide's own tensors, whatever the store holds
        return
    if pyro.settings.get("module_local_params"):
        for parameter in guide.parameters():
            parameter.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined]
        return
    held = dict(pyro.get_param_store().named_parameters())
    prefix = f"{guide._pyro_name}." if guide._pyro_name else ""
    own = {prefix + name: parameter for name, parameter in guide.named_parameters()}
    foreign = [
        name for name, parameter in own.items() if held.get(name, parameter) is not parameter
    ]
    if foreign:
        owner = type(guide).__name__
        raise ConfigurationError(
            f"{owner}: Pyro's parameter store holds other tensors under {len(foreign)} of this guide's {len(own)}"
            f" names, such as {foreign[0]!r}: those of an earlier guide, of a copy, or of a file. SVI would move these"
            " and train nothing of this guide. Start a new run with pyro.clear_param_store(). Give each of several"
            " guides at once a store of its own, `with pyro.get_param_store().scope():`, or build networks and guides"
            " after pyro.settings.set(module_local_params=True). To go on from the values in the store, call"
            " guide.load_state_dict(dict(pyro.get_param_store().named_parameters()), strict=False), then clear it."
        )
