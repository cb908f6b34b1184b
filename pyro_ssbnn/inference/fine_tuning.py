r"""Fine-tuning: the selected network is trained on, with its gates fixed open and all others fixed closed.

The variational family is restricted to :math:`q(z_j = 1) = 1` for the kept members and 0 for the others. What is
maximised stays a bound on the evidence of the *original* model, in which the gates cost

.. math:: \sum_j KL_j = -\sum_{\mathrm{kept}} \log\lambda_j - \sum_{\mathrm{closed}} \log(1 - \lambda_j)

and the closed members nothing else. They leave the network before the first step, as nodes that are removed during
training do (:mod:`pyro_ssbnn.inference.shrinking`).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

from numpy.typing import ArrayLike
from torch import Tensor

from pyro_ssbnn.checks import check_that
from pyro_ssbnn.inference.history import History, Removal
from pyro_ssbnn.inference.minibatches import minibatches_of
from pyro_ssbnn.inference.options import TrainingOptions, chosen_options
from pyro_ssbnn.inference.preparation import Augmentation
from pyro_ssbnn.inference.result import Fit
from pyro_ssbnn.inference.run import Run
from pyro_ssbnn.inference.shrinking import may_lose_members
from pyro_ssbnn.inference.start import Start
from pyro_ssbnn.inference.training_rows import Rows, training_rows
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.selection.rules import Selection, require_nodes, require_selection, select

__all__ = ["fine_tune"]


def fine_tune(
    fitted: Fit,
    x: Tensor | ArrayLike | Rows,
    y: Tensor | ArrayLike | None = None,
    options: TrainingOptions | None = None,
    *,
    selection: Selection | None = None,
    augment: Augmentation | None = None,
    progress: bool = True,
    callback: Callable[[int, Fit], None] | None = None,
) -> Fit:
    """Train the selected nodes on, with fixed gates; the fit given stays as it is.

    The result speaks of the original network, with inclusion 1 for the kept members and 0 for the others. Its history
    starts anew, and counts the members that are not in the network as removed after epoch 0, at the inclusion they had.
    A group that closes as a whole keeps its likeliest member in the network, behind a closed gate.
    ``fit(..., resume=result)`` goes on with the fine-tuning.

    :param fitted: what :func:`~pyro_ssbnn.fit` returned.
    :param x: predictors ``[N, p]``, or rows that are read in pieces, as in :func:`~pyro_ssbnn.fit`.
    :param y: targets, ``[N]`` (``[N, K]`` for several); None with rows that bring their own.
    :param options: by default those of the fit. A ``kl_warmup`` of None means none here; nothing is removed any more.
    :param selection: what is kept; the median probability model by default.
    :param augment: as in :func:`~pyro_ssbnn.fit`.
    :param progress: show a progress bar.
    :param callback: as in :func:`~pyro_ssbnn.fit`.
    :raises SelectionError: when a group would keep no member, or the selection is one of another network.
    :raises DataError: for data that do not fit the model.
    :raises NonFiniteLossError: when the loss is no longer a finite number; the message names the site.
    :raises TrainingInterrupted: a ``KeyboardInterrupt`` with the result so far.
    """
    check_that("fine_tune", "fitted", fitted, isinstance(fitted, Fit), "what fit returned")
    options = _without_removal(chosen_options("fine_tune", options or fitted.options))
    inclusion = fitted.guide.inclusion()
    selection = select(inclusion) if selection is None else selection
    fitted.require_match("fine_tune")
    require_selection("fine_tune", selection, fitted.model.description)
    require_nodes(selection, fitted.model.description)
    rows = training_rows("fine_tune", fitted.model, x, y).placed(fitted.model, options)
    x, number = rows.x, rows.num_data
    with isolated(options.seed, x, grad=True):
        model, guide = deepcopy(fitted.model).to(x), deepcopy(fitted.guide).to(x)
        open = {name: selection.mask(name) for name in selection.kept}
        guide.fix_gates(open)
        closed = {
            name: _removable(mask, inclusion[name])
            for name, mask in open.items()
            if may_lose_members(model, name) and not bool(mask.all())
        }
        removed = [
            Removal(name, node, 0, float(inclusion[name][node]))
            for name, nodes in closed.items()
            for node in nodes
        ]
        start = Start(augment, obstacle="it was fine-tuned, which diagnose does not do again")
        history = History(removed=removed, parts=options.parts(number))
        result = Fit(model, guide, options, history, number, start=start)
        run = Run(result, minibatches_of(rows, model.likelihood, options, augment))
        run.engine.freeze_gates()
        if closed:
            run.engine.remove(closed)
        run.train(progress, callback)
    return result


def _removable(open: Tensor, inclusion: Tensor) -> list[int]:
    """Closed members; of a group that closes as a whole the likeliest stays, so that whoever reads it has inputs."""
    closed = ~open
    if bool(closed.all()):
        closed = closed.index_fill(0, inclusion.argmax(), False)
    return closed.nonzero().flatten().tolist()


def _without_removal(options: TrainingOptions) -> TrainingOptions:
    warmup = 0.0 if options.kl_warmup is None else options.kl_warmup
    return replace(
        options,
        kl_warmup=warmup,
        remove_below=None,
        gate_hold=(0.0, 0.0),
        gate_method="gradient",
        screen=False,
    )
