"""Options of a training run: plain numbers, so that a run can be repeated from its record."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pyro_ssbnn.arguments import check_that
from pyro_ssbnn.inference.option_checks import check_domains, take_own_kinds

if TYPE_CHECKING:
    import torch

    from pyro_ssbnn.structure.description import NetworkDescription

__all__ = ["MANY_ROWS", "TrainingOptions", "chosen_options", "resolve_dtype"]

_STEPS = (
    10_000  # of a run whose epochs are left to us: gates need a few thousand, whatever the data
)
_HELD_STEPS = 12_000  # of one that holds its gates first; twice as many from many rows on
_WARMUP_STEPS = 2_000
_MEAN_RATE = 0.12
_RECORD_STEPS = 500  # more make an epoch several rows of the history
MANY_ROWS = 2_000
"""From so many on held gates are let go in the first half of the run."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How :func:`pyro_ssbnn.fit` optimises the ELBO.

    None leaves a choice to the package. It chooses differently for networks that *hold* their gates: those with hidden
    layers that select predictors, and small dense ones. ``result.options.gate_hold`` says whether a fit did.

    :param epochs: passes over the data. None: 10,000 steps (where gates are held 12,000, and 24,000 from 2,000 rows
        on), and at least 20 epochs.
    :param batch_size: rows a step; more than the data has means full batches. None: an eighth of the data (a third
        where gates are held), between 32 and 256 rows. Gates learn poorly from smaller batches.
    :param optimizer: "adam", or "sgd", gradient descent with ``momentum``, for the weights' means. Log-scales and gates
        keep Adam: where the KL rules, their gradients are of order 1/n, too small for a rate that suits the means.
    :param rate: one learning rate of all parameters as they are, by the ``optimizer`` alone, in place of the four rates
        that follow, as in the published runs. None: those four.
    :param mean_rate: learning rate of the weights' means. Under "adam" in units of 1/sqrt(fan-in of the layer); under
        "sgd" a step per unit of gradient of the loss, the negative ELBO per observation. None: 0.12; where gates are
        held a mean moves by 2.6/sqrt(rows) at most, a few widths of the posterior, which is less from 470 rows per
        predictor on.
    :param momentum: of "sgd", from 0 to below 1: each step adds this share of the step before.
    :param scale_rate: learning rate of the weights' log-scales.
    :param latent_rate: learning rate of log-medians and log-scales of slab scales and noise. None: ``scale_rate``.
    :param gate_rate: learning rate of gate logits. Too high a rate can close every node before the weights have
        learned. None: 0.02 for steps of 256 rows or more, and proportionally less for fewer rows, whose gradients are
        noisier. A number makes the gates follow the gradient from the start, unless ``gate_hold`` says otherwise.
        Gates that move by ascent have no rate.
    :param gate_hold: fractions of the epochs during which the gates of predictors, and those of nodes, stay where they
        start, so that weights learn first. A predictor whose effect takes several nodes, such as a square, looks like
        noise until they have learned it; its gate would close too early. None: (0.6, 0.7), from 2,000 rows on (0.3,
        0.35), for networks with hidden layers that select predictors or are dense and small, otherwise no hold.
    :param gate_method: how gates move. "gradient": by the optimizer, along straight-through gradients. "ascent": by
        coordinate ascent on the evidence of both branches (:mod:`pyro_ssbnn.inference.gates`), which is unbiased, and
        slow for large networks. None: ascent where gates are held.
    :param screen: of more than ten selected predictors, begin with those in which boosted trees find a use
        (:mod:`pyro_ssbnn.inference.screening`). One that helps to explain what the network leaves unexplained comes in
        before the gates are let go. False begins with all.
    :param kl_warmup: fraction of the epochs over which the KL's weight rises to 1. None: where gates are held 0.6,
        and 0.3 from 2,000 rows on; else 2,000 steps, but at most three tenths of the epochs.
    :param decay_after: fraction of the epochs after which all rates fall by a cosine, to a hundredth. 0: from the
        start; 1: never. None: 0.85 where gates are held, else 0.5.
    :param milestones: rising fractions of the epochs at which all rates are multiplied by ``milestone_factor``, in
        place of the cosine: (0.5, 0.75) cuts the rates of 300 epochs after 150 and after 225. Empty for the cosine.
    :param milestone_factor: of the rates at each of the ``milestones``, positive, at most 1.
    :param clip_norm: largest norm of the gradient of the mean loss per observation. None: no clipping.
    :param num_particles: draws of the latents a step. None: one for minibatches of 256 rows, up to four for smaller
        ones.
    :param local_reparameterization: draw pre-activations in place of weights. None: yes, unless the network convolves.
        There it would leave out the correlations between positions, and cost twice as much.
    :param temperature: (first, last) temperature of the gates' relaxation, interpolated geometrically over the epochs.
    :param hard_gates: straight-through gates, exactly 0 or 1; False for soft ones.
    :param initial_inclusion: inclusion probability at which every gate starts. None: 0.995 where gates are held, else
        0.95.
    :param patience: stop once the ELBO has not risen by ``min_delta`` in so many epochs, at full KL weight and with all
        gates free. None: never stop early.
    :param min_delta: the smallest rise that counts, in nats per observation.
    :param remove_below: nodes and predictors leave the network (model, guide, optimizer, data) while it is trained,
        once their inclusion has been below this and their prior's (nodes: or 0.01) in ``remove_after`` epochs in a row
        at full KL weight. None keeps all. Results speak of the original network: removed members have inclusion 0, and
        ``history.removed`` says which left and when. Nodes stay where the activation of 0 is not 0, because a closed
        node then still passes on a constant.
    :param remove_after: epochs in a row below ``remove_below`` after which a node leaves. An epoch of a few steps is
        looked at once in 20 steps; one of more than 500 steps counts as several, here and in ``patience``.
    :param compile: how a step runs. False ("off"): under Pyro's handlers. "trace": as a graph of tensor operations,
        which takes a second to make, gives the same results bit by bit, and takes a third of the time for small
        networks. True ("on"): compiled, which takes ten seconds or more unless torch's compiler cache has it, gives the
        same but for rounding, and takes a tenth. "auto": what repays over the run, by counts and not by clocks, so that
        runs can be repeated. Image networks (traced on CUDA), steps that cannot be traced, and machines without a
        compiler do without.
    :param cuda_graphs: on CUDA, record a traced or compiled step, and the optimizer's, and replay each by one call; the
        numbers are the same but for rounding of the rates. False asks for kernel after kernel.
    :param seed: of all random numbers of the run; the caller's own random state is left untouched.
    :param device: "auto" (CUDA where there is one, else the CPU) or any torch device.
    :param dtype: "float32" or "float64".
    :param precision: of the network's products and convolutions in training. "full" is that of the dtype; "tf32" rounds
        what is multiplied to 10 bits on NVIDIA cards from Ampere on, "bf16" to 7 bits, maps of images included, on the
        CPU too. Sums, parameters, KLs and the likelihood keep the dtype, and so does everything after training. What it
        does to the bound: ``docs/gpu.md``.
    :raises ConfigurationError: for a value outside its domain.
    """

    epochs: int | None = None
    batch_size: int | None = None
    optimizer: str = "adam"
    rate: float | None = None
    mean_rate: float | None = None
    momentum: float = 0.9
    scale_rate: float = 0.04
    latent_rate: float | None = None
    gate_rate: float | None = None
    gate_hold: tuple[float, float] | None = None
    gate_method: str | None = None
    screen: bool = True
    kl_warmup: float | None = None
    decay_after: float | None = None
    milestones: tuple[float, ...] = ()
    milestone_factor: float = 0.1
    clip_norm: float | None = None
    num_particles: int | None = None
    local_reparameterization: bool | None = None
    temperature: tuple[float, float] = (0.5, 0.5)
    hard_gates: bool = True
    initial_inclusion: float | None = None
    patience: int | None = None
    min_delta: float = 1e-4
    remove_below: float | None = 0.1
    remove_after: int = 3
    compile: bool | str = "auto"
    cuda_graphs: bool = True
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    precision: str = "full"

    def __post_init__(self) -> None:
        take_own_kinds(self)
        check_domains(self)
        if self.compile in ("on", "off"):  # as the command line says it
            object.__setattr__(self, "compile", self.compile == "on")

    @property
    def holds(self) -> bool:
        """Whether gates are held at first."""
        return max(self.gate_hold or (0.0,)) > 0

    @property
    def ascends(self) -> bool:
        """Whether gates move by ascent."""
        return self.gate_method == "ascent"

    @property
    def start_inclusion(self) -> float:
        """Inclusion probability at which every gate starts."""
        return self.initial_inclusion or (0.995 if self.holds else 0.95)

    @property
    def decay_from(self) -> float:
        """Fraction of the epochs after which rates decay."""
        if self.decay_after is not None:
            return self.decay_after
        return 0.85 if self.holds else 0.5

    @property
    def mean_step(self) -> float:
        """Rate of the weights' means."""
        return self.mean_rate or _MEAN_RATE

    def batch_rows(self, num_data: int) -> int:
        """Rows of a step for so many observations."""
        wanted = self.batch_size or min(256, max(32, num_data // (3 if self.holds else 8)))
        return min(wanted, num_data)

    def particles(self, num_data: int) -> int:
        """Latent draws a step for so many observations."""
        return self.num_particles or min(4, math.ceil(256 / self.batch_rows(num_data)))

    def draws_locally(self, description: NetworkDescription) -> bool:
        """Whether pre-activations are drawn in place of weights."""
        if self.local_reparameterization is not None:
            return self.local_reparameterization
        return all(group.geometry is None for group in description.groups)

    def gate_step(self, num_data: int) -> float:
        """Rate of the gate logits for so many observations."""
        return self.rate or self.gate_rate or 0.02 * min(1.0, self.batch_rows(num_data) / 256)

    def step_kinds(
        self, description: NetworkDescription, compiler: bool, where: str = "cpu"
    ) -> list[str]:
        """Kinds of step that may be chosen from, quickest to build first.

        :param compiler: whether there is one.
        :param where: type of the device.
        """
        if self.compile != "auto":
            return [{True: "compile", False: "eager", "trace": "trace"}[self.compile]]
        if any(group.geometry is not None for group in description.groups):
            # On the CPU convolutions take most of the step, and are as quick eagerly; a GPU waits for Python.
            return ["eager"] if where == "cpu" else ["eager", "trace"]
        return ["eager", "trace", "compile"] if compiler else ["eager", "trace"]

    def num_epochs(self, num_data: int) -> int:
        """Epochs of a run on so many observations."""
        if self.epochs is not None:
            return self.epochs
        steps = _STEPS
        if self.holds:
            steps = _HELD_STEPS if num_data < MANY_ROWS else 2 * _HELD_STEPS
        return max(20, math.ceil(steps / self.epoch_steps(num_data)))

    def epoch_steps(self, num_data: int) -> int:
        """Steps of an epoch for so many observations."""
        return num_data // self.batch_rows(num_data)

    def parts(self, num_data: int) -> int:
        """Rows of the history an epoch: 1, or as many as leave at most 500 steps to each."""
        return math.ceil(self.epoch_steps(num_data) / _RECORD_STEPS)

    def warmup_steps(self, num_data: int) -> float:
        """Length of the KL's warm-up in steps for so many observations."""
        steps = self.num_epochs(num_data) * self.epoch_steps(num_data)
        if self.kl_warmup is not None:
            return self.kl_warmup * steps
        if self.holds:
            return (0.6 if num_data < MANY_ROWS else 0.3) * steps
        return min(0.3 * steps, _WARMUP_STEPS)

    def to_config(self) -> dict[str, Any]:
        """Plain record of the options."""
        pairs = asdict(self).items()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in pairs}


def chosen_options(owner: str, options: TrainingOptions | None) -> TrainingOptions:
    """The options given, or the defaults.

    :raises ConfigurationError: for anything else.
    """
    holds = options is None or isinstance(options, TrainingOptions)
    expected = "TrainingOptions, as TrainingOptions(epochs=100)"
    check_that(owner, "options", options, holds, expected)
    return TrainingOptions() if options is None else options


def resolve_dtype(dtype: str) -> torch.dtype:
    """The torch dtype of a ``TrainingOptions.dtype``."""
    import torch

    return {"float32": torch.float32, "float64": torch.float64}[dtype]
