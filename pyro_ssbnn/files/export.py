"""Pruned networks for other runtimes: ONNX files that describe themselves, and ``torch.export`` programs.

ONNX goes through ``torch.onnx.export(..., dynamo=True)``, the exporter that reads a ``torch.export`` program,
torch's default since 2.9; the older one, which records TorchScript, is deprecated. It needs the packages onnx and
onnxscript; onnxruntime checks the file.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyro_ssbnn._version import __version__
from pyro_ssbnn.errors import DataError, ExportError
from pyro_ssbnn.files.atomic import replacing
from pyro_ssbnn.files.rounding import rounding_tolerance
from pyro_ssbnn.models import CompactNetwork, compact_from_state

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OnnxExport", "export_onnx", "to_exported_program"]

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_CHECKED_ROWS = 7
_REPORT = "No file was written. Report it with the versions of torch, onnxscript and onnxruntime."


@dataclass(frozen=True)
class OnnxExport:
    """What was written, and how closely onnxruntime's outputs match the network's.

    :param path: the file.
    :param largest_difference: between the outputs, over all rows checked.
    :param tolerance: the smallest difference that would have been refused, over all outputs.
    """

    path: Path
    largest_difference: float
    tolerance: float


def to_exported_program(
    network: CompactNetwork, inputs: int | Tensor | None = None
) -> torch.export.ExportedProgram:
    """Capture a pruned network as a ``torch.export`` program that takes any number of rows.

    Save it with ``torch.export.save``; ``program.module()`` maps x ``[N, p]`` to what the network gives.

    :param inputs: rows of the original predictors, ``[N, p]``, or p. Needed only where pruning removed predictors and
        an earlier version saved the network without p.
    :raises DataError: when p is unknown, or not that of the network.
    :raises ExportError: for anything else than a pruned network.
    """
    portable = _portable(network)
    rows = _rows(portable, inputs)
    batch = torch.export.Dim("batch")
    # Two rows: a single one would be taken for a constant.
    shapes = {"x": {0: batch}}
    return torch.export.export(portable, (rows[[0, -1]],), dynamic_shapes=shapes, strict=False)


def export_onnx(
    network: CompactNetwork,
    path: str | Path,
    inputs: int | Tensor | None = None,
    *,
    notes: Mapping[str, Any] | None = None,
) -> OnnxExport:
    """Write a pruned network as an ONNX file: input ``x`` [batch, p], output ``f`` [batch, K] or [S, batch, K].

    The batch size is free. onnxruntime runs the file, on one row and on several, and must give what the network gives,
    to within :func:`~pyro_ssbnn.files.rounding.rounding_tolerance`; otherwise nothing is left under the file's name.

    The file's metadata: ``package`` and ``package_version``; ``config``, the network's record; ``kept``, the original
    indices of what each group kept (``input`` only where predictors were selected); ``notes``. The last three are JSON.

    :param network: a pruned perceptron or image network, of posterior mean weights or of draws, in float32 or float64.
    :param inputs: rows of the original predictors to check at, ``[N, p]``, or p, for standard normal ones (the
        default). Needed only where pruning removed predictors and an earlier version saved the network without p.
    :param notes: further JSON-able entries for people who look into the file.
    :raises ExportError: when a package is missing, or onnxruntime cannot run the network or gives something else.
    :raises DataError: when p is unknown, or not that of the network.
    """
    _require_packages()
    portable = _portable(network)
    rows = _rows(portable, inputs)
    proto = _to_onnx(portable, rows)
    _describe(proto, portable, notes or {})
    with replacing(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())
        difference, tolerance = _check(portable, temporary, rows)
    return OnnxExport(Path(path), difference, tolerance)


def _to_onnx(network: CompactNetwork, rows: Tensor) -> ModelProto:
    program = to_exported_program(network, rows)
    try:
        with _quietly():
            made = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=["x"],
                output_names=["f"],
                dynamic_shapes={"x": {0: torch.export.Dim("batch")}},  # names the dimension
            )
    except (AttributeError, ImportError, RuntimeError, TypeError) as error:
        raise ExportError(
            f"export_onnx: torch {torch.__version__} could not translate the network: {error}. Use an onnxscript of the"
            " same age as torch."
        ) from error
    if made is None:  # as the older exporter does
        raise ExportError(f"export_onnx: torch {torch.__version__} returned no ONNX program.")
    return made.model_proto


def _describe(proto: ModelProto, network: CompactNetwork, notes: Mapping[str, Any]) -> None:
    """Put our metadata in and the exporter's out: it holds paths and source lines of the machine it ran on."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
    kept = {name: indices.tolist() for name, indices in network.kept.items()}
    if network.input_index is not None:
        kept = {"input": network.input_index.tolist(), **kept}
    entries = {
        "package": "pyro_ssbnn",
        "package_version": __version__,
        "config": json.dumps(network.to_config()),
        "kept": json.dumps(kept),
        "notes": json.dumps({**notes}),
    }
    for key, value in entries.items():
        proto.metadata_props.add(key=key, value=value)
    proto.doc_string = (
        "Structurally sparse Bayesian neural network, pruned. x: all original predictors, scaled as in training. f:"
        " what the likelihood takes, before softmax, sigmoid or exponential; draws come first, where there are draws."
    )


def _check(network: CompactNetwork, file: Path, rows: Tensor) -> tuple[float, float]:
    """Largest difference of the file's outputs from the network's, and the smallest tolerance."""
    worst, least = 0.0, float("inf")
    for batch in (rows[:1], rows):
        expected = network(batch)
        found = _run_onnx(file, batch)
        if found.shape != expected.shape:
            raise ExportError(
                f"export_onnx: {len(batch)} rows give outputs {list(expected.shape)}, in onnxruntime"
                f" {list(found.shape)}. {_REPORT}"
            )
        difference = (found.double() - expected.double()).abs()
        tolerance = rounding_tolerance(network, batch)
        if not (difference <= tolerance).all():  # not: NaN is refused, too
            at = (difference - tolerance).nan_to_num(torch.inf).argmax()
            raise ExportError(
                f"export_onnx: onnxruntime's output differs from the network's by {difference.flatten()[at]:.3g},"
                f" where rounding explains {tolerance.flatten()[at]:.3g} at most. {_REPORT}"
            )
        worst, least = max(worst, difference.max().item()), min(least, tolerance.min().item())
    return worst, least


def _run_onnx(file: Path, x: Tensor) -> Tensor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a pool of threads for a few rows costs more than they do
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(["f"], {"x": x.numpy()})[0])
    except Exception as error:  # its classes share no base but this
        hint = ""
        if x.dtype == torch.float64:
            hint = " It lacks some activations in float64: export network.float()."
        raise ExportError(
            f"export_onnx: onnxruntime cannot run the file: {error}.{hint}"
        ) from error


def _portable(network: CompactNetwork) -> CompactNetwork:
    """A copy on the CPU whose tensors own their memory: slices of others would be saved with the whole."""
    if not isinstance(network, CompactNetwork):
        raise ExportError(
            "export: expected a pruned network, prune(...).network or load_compact(...); got"
            f" {type(network).__name__}. Other networks go through torch.export or torch.onnx directly."
        )
    state = {name: tensor.cpu().clone() for name, tensor in network.state_dict().items()}
    return compact_from_state(network.to_config(), state).eval()


def _rows(network: CompactNetwork, inputs: int | Tensor | None) -> Tensor:
    """Rows ``[N, p]`` in the network's precision, the given ones or standard normal ones."""
    size = network.num_inputs
    inputs = size if inputs is None else inputs
    if inputs is None:
        raise DataError(
            "export: this network reads selected predictors, and its file does not say among how many (an earlier"
            " version wrote it). Give their original number, or rows of them, as inputs."
        )
    if not isinstance(inputs, Tensor):
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(_CHECKED_ROWS, int(inputs), generator=generator)
    if inputs.ndim != 2 or not len(inputs) or (size is not None and inputs.shape[1] != size):
        raise DataError(
            f"export: inputs must be rows [N, {'p' if size is None else size}]; got {list(inputs.shape)}."
        )
    dtype = next(v.dtype for v in network.buffers() if v.is_floating_point())
    return inputs.detach().cpu().to(dtype)


def _require_packages() -> None:
    missing = []
    for name in _PACKAGES:
        try:
            import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise ExportError(
            f"export_onnx: needs the packages {', '.join(_PACKAGES)}; {', '.join(missing)} cannot be imported. Install"
            ' them with: pip install "pyro_ssbnn[export]"'
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter says of itself to its own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # «torchvision is not installed»
    try:
        with warnings.catch_warnings():
            # torch 2.13 copies its own deprecated class.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
