"""Mixtures of fits in files: all fits, each whole, and their weights, as one safetensors file with a JSON header.

Loading runs no code from the file, and makes nothing larger than the file is: see :mod:`pyro_ssbnn.files`.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from pyro_ssbnn.checks import check_that, resolve_device
from pyro_ssbnn.errors import CheckpointError
from pyro_ssbnn.files.container import read_record, under, write_record
from pyro_ssbnn.files.untrusted import entry, unpacking
from pyro_ssbnn.inference.mixture import Mixture
from pyro_ssbnn.inference.saving import packed, unpacked

__all__ = ["load_mixture", "save_mixture"]


def save_mixture(mixture: Mixture, path: str | Path) -> None:
    """Save a mixture, its fits included.

    :raises ConfigurationError: when the class of the network, its prior, its likelihood or a guide has no name of its
        own; :func:`pyro_ssbnn.register` gives it one, also afterwards.
    """
    known = isinstance(mixture, Mixture)
    check_that(
        "save_mixture", "mixture", mixture, known, "what fit_several or combine_fits returned"
    )
    headers, tensors = [], dict[str, Tensor]()
    for place, one in enumerate(mixture.fits):
        header, own = packed(one)
        headers.append(header)
        tensors |= {f"{place}.{name}": value for name, value in own.items()}
    record = {
        "fits": headers,
        "weights": mixture.weights,
        "rule": mixture.rule,
        "scores": mixture.scores,
    }
    write_record(path, "mixture", record, tensors)


def load_mixture(path: str | Path, device: str = "cpu") -> Mixture:
    """Load what :func:`save_mixture` wrote.

    :param device: where the guides are put; "auto", "cpu", "cuda", ...
    :raises CheckpointError: for a foreign, newer, or damaged file.
    """
    header, tensors = read_record(path, "mixture", resolve_device(device))
    headers = entry(header, "fits", list, path)
    if not all(isinstance(one, dict) for one in headers):
        raise CheckpointError(f"{path}: the record of a fit is damaged. Save it again.")
    fits = tuple(unpacked(path, one, under(f"{k}.", tensors)) for k, one in enumerate(headers))
    with unpacking(path, "the weights"):
        weights, scores = (
            tuple(float(value) for value in entry(header, name, list, path))
            for name in ("weights", "scores")
        )
        return Mixture(fits, weights, str(entry(header, "rule", str, path)), scores)
