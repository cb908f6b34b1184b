"""Numbers that a network's passes need again and again, kept on the device: to send them anew would wait for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["constant"]

_MOST = 256
_kept: dict[tuple[tuple[float, ...], torch.dtype, torch.device], Tensor] = {}


def constant(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers as a tensor ``[len(values)]``, the same one at every call; nobody may change it."""
    key = (tuple(values), dtype, device)
    if key in _kept:
        return _kept[key]
    with torch.inference_mode(False):
        value = torch.tensor(key[0], dtype=dtype, device=device)
    if torch._C._len_torch_dispatch_stack() == 0:  # a tensor made under a trace belongs to it
        if len(_kept) >= _MOST:
            _kept.clear()
        _kept[key] = value
    return value
