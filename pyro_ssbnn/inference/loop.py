"""``fit``: stochastic variational inference for the package's networks, or for any Pyro model with a description."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pyro_ssbnn.checks import check_that
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import BlockGuide
from pyro_ssbnn.inference.advice import (
    warn_of_overdispersion,
    warn_of_scale,
    warn_of_short_run,
)
from pyro_ssbnn.inference.checkpoints import EVERY, Checkpoints
from pyro_ssbnn.inference.guards import require_network, warn_of_collapse
from pyro_ssbnn.inference.history import History
from pyro_ssbnn.inference.holding import settled_options
from pyro_ssbnn.inference.minibatches import minibatches_of
from pyro_ssbnn.inference.options import TrainingOptions, chosen_options
from pyro_ssbnn.inference.preparation import Augmentation, check_memory, require_trainable
from pyro_ssbnn.inference.ranks import OTHER_ROWS, ranks_of
from pyro_ssbnn.inference.result import Fit
from pyro_ssbnn.inference.resumption import require_resumable
from pyro_ssbnn.inference.run import Run
from pyro_ssbnn.inference.settling import settle
from pyro_ssbnn.inference.shrinking import narrowed_guide
from pyro_ssbnn.inference.start import GuideMaker, default_guide, is_guide, resumed_start, start_of
from pyro_ssbnn.inference.training_rows import Rows, TrainingRows, training_rows
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.rows.digest import RowDigest
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network

__all__ = ["fit"]


def fit(
    model: Network,
    x: Tensor | ArrayLike | Rows,
    y: Tensor | ArrayLike | None = None,
    options: TrainingOptions | None = None,
    *,
    guide: Guide | GuideMaker | None = None,
    resume: Fit | None = None,
    augment: Augmentation | None = None,
    progress: bool = True,
    callback: Callable[[int, Fit], None] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = EVERY,
    distributed: bool = False,
) -> Fit:
    """Fit the guide of a network to data.

    What comes out depends on the arguments alone. The model given stays as it is: the result's model is a copy, on the
    device and in the dtype of the run, in evaluation mode. Where there are batch norms only that copy has the run's
    running statistics; they start from those of the model given, so after ``fit_deterministic(model, ...)`` from the
    deterministic network's.

    :param model: the network, for example :class:`~pyro_ssbnn.models.MLP`.
    :param x: predictors ``[N, p]``, real numbers of any dtype, as a tensor, an array or a frame, whose columns are put
        in the order of the network's names where they have these; converted and moved to the device once. Or rows that
        are read in pieces (:mod:`pyro_ssbnn.rows`): a ``Dataset``, ``IterableDataset`` or ``DataLoader`` of torch whose
        items are pairs of predictors and targets, arrays mapped from a file, a source of one's own. They are read once
        to check them, and once an epoch; what looks at the data as a whole looks at a sample of 20,000.
    :param y: targets, ``[N]`` (``[N, K]`` for several); None with rows that bring their own.
    :param options: see :class:`TrainingOptions`.
    :param guide: a guide to train; by default a new :class:`BlockGuide` for linear networks in gated predictors with
        Gaussian noise, which ends at the optimum of its joint laws (:func:`settle`), and :class:`StructuredGuide` for
        all others, and for rows that are read in pieces. It is trained in place, and moved to the device and dtype of
        the run. Or what makes one of the network, such as the class :class:`CoupledGuide`: it then starts from the
        run's seed, too.
    :param resume: an earlier result to continue from, up to ``options.epochs`` in all; it stays as it is. Continued
        and uninterrupted runs are the same bit by bit when their options are. The remaining epochs follow the options
        given; seed, dtype, optimizer, batch size, ``hard_gates`` and ``initial_inclusion`` must be those of the run.
    :param augment: changes the predictors of every minibatch, ``[rows, p]`` to ``[rows, p]``, on their device, such as
        :class:`~pyro_ssbnn.ImageAugmentation`. Random numbers from torch's own generators keep runs repeatable.
    :param progress: show a progress bar.
    :param callback: called after each epoch (each part of it that is a row of the history) with its number (from 1) and
        the unfinished result. Random numbers that it draws do not change the run.
    :param checkpoint: file (.safetensors) that holds the unfinished fit, as of the end of an epoch or of a few, and at
        last the finished one; the one before it is kept beside it, as ``.previous.safetensors``. A killed run goes on
        from it bit by bit: ``fit(..., resume=load_fit(path), checkpoint=path)``.
    :param checkpoint_every: seconds between two checkpoints; more where they take more than 1 % of the time.
    :param distributed: train together with the other processes of torch's default process group, which all call this
        with the same arguments. Each takes its part of every minibatch and draws noise of its own; gradients, the
        bound and the moments of batch norms are those of the whole minibatch, and every process ends with the same
        fit. The first one alone shows progress and writes checkpoints, from which any number of processes goes on
        (docs/scale.md).
    :raises ConfigurationError: for a checkpoint that is there already, unless ``resume`` is given, or that cannot be
        written; for both ``guide`` and ``resume``; for a guide or a run of another network; for options
        that a resumed run cannot change, or another number of rows.
    :raises DataError: for data that do not fit the model.
    :raises NonFiniteLossError: when the loss is no longer a finite number; the message names the site.
    :raises RankError: when another process of a distributed run has ended; the message names it.
    :raises TrainingInterrupted: a ``KeyboardInterrupt`` with the result so far. Whatever ends the run early, a guide
        that was given is left as of the end of an epoch, or of a few where they have few steps.
    :warns MisfitWarning: for data far from unit scale, and for counts that vary more than Poisson counts do.
    :warns ShortRunWarning: when the gates have too few steps to close.
    :warns BoundWarning: when the bound fell towards the end, and the result is an earlier epoch's.
    :warns CollapseWarning: when a layer ends without an active node.
    """
    options = asked = chosen_options("fit", options)
    require_network("fit", model)
    rows = training_rows("fit", model, x, y)
    for name, value in (("augment", augment), ("callback", callback), ("guide", guide)):
        known = value is None or callable(value)
        check_that("fit", name, value, known, "a function" if name != "guide" else "a guide")
    check_that("fit", "resume", resume, isinstance(resume, Fit | None), "a Fit, as load_fit gives")
    given = resume.guide if resume is not None else guide
    own = given if given is not None and is_guide(given) else None
    options = settled_options(options, model.description, rows.num_data, own)
    checkpoints = Checkpoints(checkpoint, checkpoint_every, resumes=resume is not None)
    if resume is not None and guide is not None:
        raise ConfigurationError(
            "fit: give resume or guide, not both; resume brings its own guide."
        )
    if resume is not None:
        resume.require_match("fit")
        before = (resume.model, resume.options, resume.num_data)
        require_resumable(model, options, rows.num_data, before)
    elif guide is not None and is_guide(guide):
        require_match("fit", model, guide)
    check_memory(model.description, rows.num_data, options)
    rows = rows.placed(model, options)
    x, y = rows.x, rows.y
    warn_of_scale(model, x, model.likelihood.observed(y, x))
    with isolated(options.seed, x, grad=True), ranks_of(distributed, x.device) as ranks:
        ranks.require_alike(partial(_called_with, model, options, rows, resume))
        checkpoints = checkpoints if ranks.first else Checkpoints(None)
        if resume is not None:
            guide = deepcopy(resume.guide)
        elif guide is None:
            guide = default_guide(model, options, streamed=rows.source is not None)
        elif not is_guide(guide):
            guide = guide(model)
            require_match("fit", model, guide)
            options = settled_options(asked, model.description, rows.num_data, guide)
        require_trainable(guide)
        if isinstance(guide, BlockGuide):
            if rows.source is not None:
                raise ConfigurationError(
                    "fit: a BlockGuide is settled on all rows together, and these are read in pieces. Take a"
                    " StructuredGuide, which is the default here, or give x and y as tensors."
                )
            guide.release()
        if resume is None:
            start = start_of(guide, model, augment)
        else:
            start = resumed_start(resume.start, augment, resume.options, options)
        guide.to(x)
        warn_of_short_run(model, options, rows.num_data)
        if options.remove_below is not None and model.description.gate_groups:
            narrowed_guide(guide, model, {})  # rather now than after hours
        model = deepcopy(model).to(x)
        if resume is not None:
            model.load_state_dict(resume.model.state_dict())
        history = History(parts=options.parts(rows.num_data))
        result = Fit(model, guide, options, history, rows.num_data, start=start)
        minibatches = minibatches_of(rows, model.likelihood, options, augment)
        run = Run(result, minibatches, resume=resume, checkpoints=checkpoints, ranks=ranks)
        run.train(progress and ranks.first, callback)
        warn_of_overdispersion(result, x, y)
    if isinstance(guide, BlockGuide):
        settle(result.model, guide, x, y, seed=options.seed)
        if checkpoint is not None:
            checkpoints.write(result)
    warn_of_collapse(result.collapsed)
    return result


def _called_with(
    model: Network, options: TrainingOptions, rows: TrainingRows, resume: Fit | None
) -> dict[str, Any]:
    """What must be the same on all ranks of a run, and something that tells it apart, by what another one is called."""
    chosen = options.to_config()
    del chosen["device"]
    return {
        "another network": (type(model).__name__, repr(model.description)),
        "other options": chosen,
        OTHER_ROWS: rows.told_apart(),
        "another run to resume": None if resume is None else _state_of(resume),
    }


def _state_of(run: Fit) -> tuple[Any, ...]:
    """What tells where a run stands: its history, its optimizer with rates and moments, its parameters."""
    digest = RowDigest()
    state = run.optimizer_state
    slots = [value for entry in state.get("state", {}).values() for value in entry.values()]
    for value in (*run.guide.state_dict().values(), *slots):
        flat = torch.as_tensor(value).reshape(1, -1)
        digest.add(flat, flat)
    groups = state.get("param_groups", [])
    return run.history.epoch, run.history.kl[-1:], run.options.optimizer, groups, digest.value
