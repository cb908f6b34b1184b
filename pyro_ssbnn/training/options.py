"""Options of a training run: plain numbers, so that a run can be repeated from its record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pyro_ssbnn.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

__all__ = ["TrainingOptions", "resolve_device", "resolve_dtype"]

_DTYPES = ("float32", "float64")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How :func:`pyro_ssbnn.fit` optimises the ELBO.

    :param epochs: passes over the data.
    :param batch_size: rows a step; a larger value than the data has rows means full batches. None takes a twentieth of
        the data, within 16 to 256 rows, so that few data still get twenty steps an epoch.
    :param mean_rate: Adam's learning rate for the weights' means.
    :param scale_rate: for log-scales, and for the medians of scale and noise latents (which are log-scales too).
    :param gate_rate: for gate logits; too high a rate can close every node before the weights have learned.
    :param kl_warmup: fraction of the epochs over which the KL's weight rises linearly from 0 to 1.
    :param decay_after: fraction of the epochs after which all rates decay to a hundredth by a cosine; 1 for no decay.
    :param clip_norm: largest norm of the gradient of the mean loss per observation; None for no clipping.
    :param num_particles: latent draws a step.
    :param local_reparameterization: draw pre-activations in place of weights.
    :param temperature: (first, last) temperature of the gates' relaxation, interpolated geometrically over the epochs.
    :param hard_gates: straight-through gates, or soft ones.
    :param initial_inclusion: inclusion probability at which every gate starts.
    :param patience: stop once the ELBO, at full KL weight, has not risen by ``min_delta`` in so many epochs; None never
        stops early.
    :param min_delta: the smallest rise that counts, in nats per observation.
    :param compile: trace the step once and run it as one compiled graph; the first step then takes half a minute, the
        others a fraction of the time on small networks.
    :param seed: of all random numbers of the run; the caller's own random state is left untouched.
    :param device: "auto" (CUDA where there is one, else the CPU) or any torch device.
    :param dtype: "float32" or "float64".
    :raises ConfigurationError: for a value outside its domain.
    """

    epochs: int = 200
    batch_size: int | None = None
    mean_rate: float = 3e-3
    scale_rate: float = 1e-2
    gate_rate: float = 1e-2
    kl_warmup: float = 0.2
    decay_after: float = 0.5
    clip_norm: float | None = None
    num_particles: int = 1
    local_reparameterization: bool = True
    temperature: tuple[float, float] = (0.5, 0.5)
    hard_gates: bool = True
    initial_inclusion: float = 0.95
    patience: int | None = None
    min_delta: float = 1e-4
    compile: bool = False
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", tuple(self.temperature))
        for name in ("epochs", "num_particles"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("batch_size", "patience"):
            chosen = getattr(self, name)
            self._require(name, chosen is None or chosen >= 1, "at least 1, or None")
        for name in ("mean_rate", "scale_rate", "gate_rate"):
            self._require(name, getattr(self, name) > 0, "positive")
        for name in ("kl_warmup", "decay_after"):
            self._require(name, 0 <= getattr(self, name) <= 1, "a fraction of the epochs, 0 to 1")
        self._require("clip_norm", self.clip_norm is None or self.clip_norm > 0, "positive or None")
        positive = len(self.temperature) == 2 and min(self.temperature) > 0
        self._require("temperature", positive, "two positive numbers")
        self._require("initial_inclusion", 0 < self.initial_inclusion < 1, "within (0, 1)")
        self._require("dtype", self.dtype in _DTYPES, "'float32' or 'float64'")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigurationError(
                f"TrainingOptions: {name} must be {expected}; got {getattr(self, name)!r}."
            )

    def batch_rows(self, num_data: int) -> int:
        """Rows of a step for so many observations."""
        wanted = self.batch_size or min(256, max(16, num_data // 20))
        return min(wanted, num_data)

    def to_config(self) -> dict[str, Any]:
        """Plain record of the options."""
        return {**asdict(self), "temperature": list(self.temperature)}


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device of a name; "auto" is CUDA where there is one, else the CPU.

    :raises ConfigurationError: for a name torch does not know, or a CUDA device on a machine without CUDA.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigurationError(f"device {device!r}: {error}") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(
            f"device {device!r}: torch finds no CUDA here; use 'auto' or 'cpu'."
        )
    return found


def resolve_dtype(dtype: str) -> torch.dtype:
    """The torch dtype of a ``TrainingOptions.dtype``."""
    import torch

    return {"float32": torch.float32, "float64": torch.float64}[dtype]
