"""What a call may change of the process for a while, and leaves as it was.

Pyro's handlers and parameter store, torch's generators, default dtype and number of threads belong to the process.
Every public call that runs a model or a guide, or draws random numbers, does so in :func:`isolated`: what it gives
depends on its arguments alone, and what it leaves behind is what it returns.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.runtime import _DIM_ALLOCATOR, am_i_wrapped
from torch import Tensor

from pyro_ssbnn.checks import check_seed

__all__ = [
    "bf16",
    "exclusive",
    "full_precision",
    "isolated",
    "limited_to",
    "python_random_kept",
    "random_state",
    "seeded",
    "set_random_state",
    "tf32",
    "without_parameters",
]

_LOCK = threading.RLock()


def _renew_lock() -> None:
    """A forked child starts with a free lock, whoever of the parent's threads held it."""
    global _LOCK
    _LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def exclusive() -> Iterator[None]:
    """Wait until no other thread is in such a block; a thread may enter again what it is in."""
    with _LOCK:
        yield


@contextmanager
def isolated(seed: int, like: Tensor, *, grad: bool = False) -> Iterator[None]:
    """Run the block as if nothing else were in the process, and leave no trace of it.

    Random numbers are the seed's, Pyro's parameter store is empty, handlers and plates around the call see nothing of
    it, autocast casts nothing, and nothing is validated (the checks synchronise with the device): check arguments
    before. Other threads' calls wait.

    :param seed: of torch's generators on the CPU and on the device.
    :param like: a tensor on the device of the call and in its floating dtype, which new tensors take by default.
    :param grad: whether operations are recorded for differentiation, whatever the caller's mode; tensors made in the
        block are never inference tensors.
    """
    with (
        seeded(seed, like.device),
        without_parameters(),
        pyro.settings.context(module_local_params=False),  # modules of either kind run under it
        poutine.block() if am_i_wrapped() else nullcontext(),  # it costs a little at every site
        _no_plates(),
        full_precision(like.device),
        pyro.validation_enabled(False),
        torch.inference_mode(False),
        torch.set_grad_enabled(grad),
        _default_dtype(like.dtype),
    ):
        yield


@contextmanager
def without_parameters() -> Iterator[None]:
    """An empty parameter store for the block; afterwards the caller's, with the very same tensors.

    Pyro's own ``scope`` takes the attribute ``unconstrained`` off the caller's tensors, which an ``SVI`` step in
    progress would miss.
    """
    store = pyro.get_param_store()
    before = dict(vars(store))
    store.clear()
    try:
        yield
    finally:
        vars(store).update(before)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for the block, on the CPU and on ``device``; afterwards the caller's random state is as before.

    Generators of other devices are left alone, which :func:`torch.manual_seed` would seed too. Other threads' calls
    wait, because the generators are the process's.
    """
    check_seed(seed)
    own = _has_generator(device)
    devices, kind = ([device], device.type) if own else ([], "cuda")
    with exclusive(), torch.random.fork_rng(devices, device_type=kind):
        torch.default_generator.manual_seed(seed)
        if own:
            state = torch.Generator(device).manual_seed(seed).get_state()
            torch.get_device_module(device).set_rng_state(state, device)
        yield


@contextmanager
def python_random_kept() -> Iterator[None]:
    """Leave Python's own generator as it was: a library that is imported for the first time may draw from it."""
    before = random.getstate()
    try:
        yield
    finally:
        random.setstate(before)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """State of torch's generators on the CPU and on the device, ``{device type: uint8 tensor}``."""
    states = {"cpu": torch.get_rng_state()}
    if _has_generator(device):
        states[device.type] = torch.get_device_module(device).get_rng_state(device)
    return states


def set_random_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Go on from what :func:`random_state` gave for a device of this type; of another type, on the CPU only."""
    torch.set_rng_state(states["cpu"])
    if _has_generator(device) and device.type in states:
        torch.get_device_module(device).set_rng_state(states[device.type], device)


def _has_generator(device: torch.device) -> bool:
    """Whether a device draws random numbers of its own, beside the CPU."""
    return device.type not in ("cpu", "meta")


@contextmanager
def _no_plates() -> Iterator[None]:
    """Plates in the block take dimensions as if no plate were around it: blocking a plate's handler keeps its own."""
    around = _DIM_ALLOCATOR._stack
    _DIM_ALLOCATOR._stack = []
    try:
        yield
    finally:
        _DIM_ALLOCATOR._stack = around


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Operations on the CPU and on the device run in the precision of their arguments, whatever torch is set to."""
    with ExitStack() as stack:
        for kind in {"cpu", device.type} - {"meta"}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if device.type == "cuda":
            stack.enter_context(tf32(False))
        yield


def bf16(device: torch.device) -> torch.autocast:
    """Products and convolutions in the block round what they multiply to bfloat16, and leave their results in it."""
    # Without its cache: a graph recorded in the block must cast by itself what was cast before.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether products and convolutions of float32 on CUDA may round to 10 bits, in the block.

    Torch has two settings for it, the older of which cannot be read where the newer was set to something else.
    """
    backends: Any = torch.backends
    parts = [backends.cuda.matmul]
    if hasattr(backends.cuda.matmul, "fp32_precision"):  # torch >= 2.9
        parts += [backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul]
        newer = [part.fp32_precision for part in parts]
    else:
        newer = []
    try:
        matmul = torch.get_float32_matmul_precision()
    except RuntimeError:  # the newer setting says the opposite
        matmul = "highest" if newer[0] == "tf32" else "high"
    try:
        convolutions = backends.cudnn.allow_tf32
    except RuntimeError:
        convolutions = not newer[1] == newer[2] == "tf32"
    backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = allowed
    for part in parts[:3] if newer else ():  # the older setting leaves them to follow another one
        part.fp32_precision = "tf32" if allowed else "ieee"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        backends.cudnn.allow_tf32 = convolutions
        for part, value in zip(parts, newer, strict=False):
            part.fp32_precision = value


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def limited_to(threads: int | None) -> Iterator[int]:
    """Let torch use so many CPU threads in the block, afterwards as many as before; None leaves their number alone.

    Yields the number in use.
    """
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
