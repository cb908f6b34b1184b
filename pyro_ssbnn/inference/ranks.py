r"""The processes that train one network together, of which this is one: what they share, and how.

Rank r takes :math:`b_r` of a minibatch's B rows, and draws noise of its own. Its step gives the loss of its rows as if
they were the minibatch, with the whole KL; so the minibatch's loss is the mean with weights :math:`b_r/B`, which counts
the KL once:

.. math:: -\frac1N \mathrm{ELBO} = \sum_r \frac{b_r}{B}\Big(-\frac1{b_r}\sum_{i \in r}\log p(y_i \mid w_r)
          + \frac1N KL_r\Big).

Gradients and terms of the bound are put one behind the other and reduced in one operation a step. All ranks hold the
same parameters, take the same steps, and decide alike, because what they decide from is the same. Seeds follow from
those of the run, the record of the history and the rank, so that a run can go on from the end of any epoch, on any
number of ranks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from pyro_ssbnn.errors import ConfigurationError, DataError, RankError
from pyro_ssbnn.inference.presence import Presence
from pyro_ssbnn.rows.digest import RowDigest

__all__ = ["OTHER_ROWS", "Ranks", "Together", "ranks_of"]

OTHER_ROWS = "other rows, or the same in another order,"
"""How rows that differ between ranks are called."""

_HOW_ROWS = (
    " Give every rank all rows: each takes its part of every minibatch by itself. A DataLoader has no"
    " DistributedSampler, and shuffles without a generator of its own, which then follows the run's seed, or with one"
    " of the same seed on every rank."
)

_PATIENCE = timedelta(seconds=1)  # between two looks at the others, in a wait
_CLOSE = 1e-5  # relative difference of parameters that rounding on unlike machines may make


class Ranks:
    """A process alone, which shares nothing with anybody."""

    rank, size = 0, 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and shows progress."""
        return self.rank == 0

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        pass

    def part(self, rows: int) -> slice:
        """Rows of this rank among so many that all share."""
        return slice(None)

    def own_seed(self, seed: int, *place: int) -> int:
        """Seed of this rank's draws."""
        return seed

    def reseed(self, seed: int, record: int, device: torch.device) -> None:
        """Begin the noise of a record of the history (from 0)."""

    def step(self, terms: Tensor, parameters: Iterable[Tensor], rows: int) -> Tensor:
        """Bring gradients and terms of a step to those of the whole minibatch.

        :param terms: of the bound, ``[sites]``.
        :param parameters: whose gradients there are; they are replaced.
        :param rows: B, of the minibatch.
        :returns: the terms of the minibatch.
        """
        return terms

    def mean(self, value: Tensor, rows: int) -> Tensor:
        """Mean of a value over the ranks, weighted by their parts of so many rows."""
        return value

    def chosen(self, choice: list[int] | None) -> list[int]:
        """What the first rank has chosen.

        :param choice: its choice; that of other ranks does not count.
        """
        return choice or []

    def require_alike(self, record: Callable[[], Mapping[str, Any]]) -> None:
        """Raise :class:`ConfigurationError` where the ranks were not called with the same.

        :param record: gives what must be alike, by what another one is called ("other options").
        """

    def require_same_rows(self, digest: RowDigest) -> None:
        """Raise :class:`DataError` where the ranks have not been given the same rows in the same order.

        :param digest: of the rows of all minibatches so far.
        """

    def require_same(self, tensors: Iterable[Tensor]) -> None:
        """Raise :class:`RankError` where the ranks' parameters have come apart."""

    def lost(self, error: BaseException) -> RankError | None:
        """Who is missing, where that is what an error means."""
        return None


class Together(Ranks):
    """One of the processes of torch's default process group.

    :param device: of the run; the group must have a backend for it.
    """

    _shapes: list[torch.Size] | None = None  # of terms and gradients that were last reduced
    _flat: Tensor

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size, self.device = dist.get_rank(), dist.get_world_size(), device
        name = torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(_nonce()))
        name = name.to(device)
        dist.broadcast(name, 0)
        store = dist.distributed_c10d._get_default_store()
        self.presence = Presence(store, f"{int(name):x}", self.rank, self.size)
        dist.all_reduce(torch.ones(1, device=device))  # all have made theirs
        self.presence.begin()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        reason = "it was stopped." if stopped else f"{kind.__name__}: {error}" if kind else ""
        self.presence.leave(reason)

    def part(self, rows: int) -> slice:
        """As :meth:`Ranks.part`: neighbours, as many everywhere or one more.

        :raises ConfigurationError: where there is not one for each rank.
        """
        if rows < self.size:
            raise ConfigurationError(
                f"fit: distributed: {rows} rows a step cannot be shared by {self.size} processes. Take a larger"
                " batch_size, or fewer processes."
            )
        return slice(self.rank * rows // self.size, (self.rank + 1) * rows // self.size)

    def own_seed(self, seed: int, *place: int) -> int:
        """As :meth:`Ranks.own_seed`: another one for each rank and place."""
        entropy = np.random.SeedSequence((seed, self.size, self.rank, *place))
        return int(entropy.generate_state(1, np.uint32)[0])

    def reseed(self, seed: int, record: int, device: torch.device) -> None:
        """As :meth:`Ranks.reseed`."""
        own = self.own_seed(seed, record)
        torch.default_generator.manual_seed(own)
        if device.type not in ("cpu", "meta"):
            torch.get_device_module(device).manual_seed(own)

    def step(self, terms: Tensor, parameters: Iterable[Tensor], rows: int) -> Tensor:
        """As :meth:`Ranks.step`; gradients become views of what was reduced, the same ones at every step.

        So an optimizer whose step is recorded finds them where they were.
        """
        reached = [parameter for parameter in parameters if parameter.grad is not None]
        parts: list[Any] = [terms, *(parameter.grad for parameter in reached)]
        rowed = [part.reshape(-1) for part in parts]
        shapes = [part.shape for part in parts]
        if shapes == self._shapes:
            torch.cat(rowed, out=self._flat)
        else:
            self._flat, self._shapes = torch.cat(rowed), shapes
            views = self._flat.split([part.numel() for part in parts])
            self._views = [view.view(shape) for view, shape in zip(views, shapes, strict=True)]
        self._reduce(self._flat.mul_(self._weight(rows)))
        total, *gradients = self._views
        for parameter, gradient in zip(reached, gradients, strict=True):
            parameter.grad = gradient
        return total.clone()  # not the whole of what was reduced

    def mean(self, value: Tensor, rows: int) -> Tensor:
        """As :meth:`Ranks.mean`."""
        shared = value.to(self.device) * self._weight(rows)
        if get_proxy_mode() is not None:  # part of a step that is traced
            import torch.distributed._functional_collectives as functional_collectives

            group: Any = dist.group.WORLD
            return functional_collectives.all_reduce(shared, "sum", group)
        self._reduce(shared)
        return shared.to(value.device)

    def chosen(self, choice: list[int] | None) -> list[int]:
        """As :meth:`Ranks.chosen`."""
        found: list[int] = json.loads(self._from_first(json.dumps(choice).encode()))
        return found

    def require_alike(self, record: Callable[[], Mapping[str, Any]]) -> None:
        """As :meth:`Ranks.require_alike`."""
        for name, value in record().items():
            others = self._unlike(value)
            if others:
                raise ConfigurationError(
                    f"fit: distributed: rank {others} was given {name} than rank 0."
                    + (_HOW_ROWS if name == OTHER_ROWS else " Call fit alike on every rank.")
                )

    def require_same_rows(self, digest: RowDigest) -> None:
        """As :meth:`Ranks.require_same_rows`."""
        others = self._unlike(digest.value)
        if others:
            raise DataError(
                f"fit: distributed: the rows are read once an epoch, and rank {others} has now been given {OTHER_ROWS}"
                f" than rank 0; the fit is as of before.{_HOW_ROWS}"
            )

    def require_same(self, tensors: Iterable[Tensor]) -> None:
        """As :meth:`Ranks.require_same`, by the sum and the sum of squares of each."""
        sums = [(t.detach().sum(), t.detach().square().sum()) for t in tensors]
        found = self._gathered(torch.stack([s for pair in sums for s in pair]))
        far = (found - found[0]).abs() > _CLOSE * (1 + found[0].abs())
        others = far.any(1).nonzero().flatten().tolist()
        if others:
            raise RankError(
                f"the parameters of rank {', '.join(map(str, others))} are no longer those of rank 0. What changes them"
                " must be the same everywhere: a callback, an augmentation or a likelihood of one's own that differs"
                " from rank to rank, say."
            )

    def lost(self, error: BaseException) -> RankError | None:
        """As :meth:`Ranks.lost`; it takes seconds."""
        if isinstance(error, RankError):
            return error
        return self.presence.missing() if isinstance(error, RuntimeError) else None

    def _unlike(self, value: object) -> str:
        """The ranks whose value is not that of rank 0, in words; nothing where there is none."""
        digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode())
        own = torch.tensor([int.from_bytes(digest.digest()[:7], "big")], device=self.device)
        found = self._gathered(own)
        return ", ".join(str(rank) for rank in range(self.size) if found[rank] != found[0])

    def _weight(self, rows: int) -> float:
        part = self.part(rows)
        return (part.stop - part.start) / rows

    def _from_first(self, text: bytes) -> bytes:
        size = torch.tensor([len(text)], device=self.device)
        self._wait(dist.broadcast(size, 0, async_op=True))
        content = torch.zeros(int(size), dtype=torch.uint8)
        if self.first:
            content = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        content = content.to(self.device)
        self._wait(dist.broadcast(content, 0, async_op=True))
        return bytes(content.cpu().numpy())

    def _gathered(self, own: Tensor) -> Tensor:
        """What every rank has, ``[size, ...]``."""
        found = [torch.empty_like(own) for _ in range(self.size)]
        self._wait(dist.all_gather(found, own, async_op=True))
        return torch.stack(found)

    def _reduce(self, value: Tensor) -> None:
        """Sum over the ranks, in place."""
        self._wait(dist.all_reduce(value, async_op=True))

    def _wait(self, work: Any) -> None:
        """Wait for an operation, and meanwhile look whether the others are there; on a GPU it waits by itself.

        :raises RankError: naming a rank that is missing.
        """
        if self.device.type != "cpu":
            work.wait()
            return
        while True:
            try:
                work.wait(_PATIENCE)
                return
            except RuntimeError as error:
                if work.is_completed():  # it has failed
                    lost = self.presence.missing()
                    if lost is None:
                        raise
                    raise lost from error
            self.presence.check()


def ranks_of(distributed: bool, device: torch.device) -> Ranks:
    """The ranks of a run: those of torch's process group, or a process alone.

    :raises ConfigurationError: where there is no process group.
    """
    if not distributed:
        return Ranks()
    if not (dist.is_available() and dist.is_initialized()):
        raise ConfigurationError(
            "fit: distributed=True asks for a process group: call torch.distributed.init_process_group first, in a"
            " script that torchrun starts; or leave it to the command line, torchrun -m pyro_ssbnn fit ..."
        )
    return Together(device)


def _nonce() -> int:
    return int(np.random.SeedSequence().entropy % 2**63)  # type: ignore[operator]
