"""The run folder: what ``fit`` writes and the other commands read, whole or not at all."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyro_ssbnn.errors import CheckpointError, ConfigurationError
from pyro_ssbnn.files.atomic import write_text

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from pyro_ssbnn.data import Preprocessing
    from pyro_ssbnn.inference import Fit
    from pyro_ssbnn.models import CompactNetwork
    from pyro_ssbnn.selection.rules import Selection
    from pyro_ssbnn.structure.network import Network

__all__ = ["RunFolder", "check_free", "creating"]

FORMAT = "pyro_ssbnn run"
FORMAT_VERSION = 1
_ENTRIES = ("source", "preprocessing", "network", "options", "draws")


class _Entry:
    """What stands in a run folder under a fixed name; the folder's docstring says what each is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: RunFolder, owner: type | None = None) -> Path:
        return folder.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run's files, and how to read them.

    ========================= ============================================================================
    ``config.json``           where the data came from, scaling, network, options, versions
    ``fit.safetensors``       model, guide, optimizer, history: ``pyro_ssbnn.load_fit``
    ``posterior.nc``          draws from the posterior: ``pyro_ssbnn.analysis.read_netcdf``
    ``history.csv``           ELBO, its parts and active nodes, one row an epoch
    ``inclusion.csv``         one row a gated node or predictor; absent without gates
    ``metrics.json``          scores on the test rows
    ``test_predictions.csv``  predictions for the test rows, as ``predict`` gives them
    ``compact.safetensors``   the pruned network: ``pyro_ssbnn.load_compact``; absent after a collapse
    ``pruning.csv``           nodes, weights and multiply-adds before and after; absent after a collapse
    ``plots/``                diagnostic plots
    ``latency.csv``           times of the forward pass; there after ``bench``
    ``compact.onnx``          the pruned network for other runtimes; there after ``export``
    ``diagnostics.json``      verdicts of all checks with their numbers; there after ``diagnose``
    ========================= ============================================================================
    """

    path: Path

    config_file = _Entry("config.json")
    fit_file = _Entry("fit.safetensors")
    posterior_file = _Entry("posterior.nc")
    history_file = _Entry("history.csv")
    inclusion_file = _Entry("inclusion.csv")
    metrics_file = _Entry("metrics.json")
    predictions_file = _Entry("test_predictions.csv")
    compact_file = _Entry("compact.safetensors")
    pruning_file = _Entry("pruning.csv")
    latency_file = _Entry("latency.csv")
    onnx_file = _Entry("compact.onnx")
    diagnostics_file = _Entry("diagnostics.json")
    plots = _Entry("plots")

    def read_config(self) -> dict[str, Any]:
        """Record of the run.

        :raises CheckpointError: when the folder is none of ``fit``'s; the message says what is missing.
        """
        if not self.path.is_dir():
            what = "this is a file" if self.path.exists() else f"looked from {Path.cwd()}"
            raise CheckpointError(
                f"{self.path}: there is no such run folder ({what}). Make one with: pyro-ssbnn fit"
                f" SOURCE --out {self.path}"
            )
        absent = [f.name for f in (self.config_file, self.fit_file) if not f.is_file()]
        if absent:
            raise CheckpointError(
                f"{self.path}: not a complete run folder: {' and '.join(absent)} missing. Give the folder that"
                " 'pyro-ssbnn fit --out' wrote, or fit again."
            )
        config = _read_json(self.config_file)
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            raise CheckpointError(
                f'{self.config_file}: not the record of a run; expected "format": "{FORMAT}".'
            )
        if config.get("format_version", 0) > FORMAT_VERSION:
            raise CheckpointError(
                f"{self.config_file}: written in format {config['format_version']}; this version reads up to"
                f" {FORMAT_VERSION}. Upgrade pyro_ssbnn to read it."
            )
        missing = [name for name in _ENTRIES if name not in config]
        if missing:
            raise CheckpointError(
                f"{self.config_file}: the entries {', '.join(missing)} are missing. Fit again."
            )
        return config

    def load(self, device: str = "cpu") -> tuple[dict[str, Any], Fit, Preprocessing]:
        """Record, fit and preprocessing.

        :raises CheckpointError: also when ``fit.safetensors`` is foreign, damaged, or of another run.
        """
        from pyro_ssbnn.data import Preprocessing
        from pyro_ssbnn.inference.saving import load_fit

        config = self.read_config()
        result = load_fit(self.fit_file, device)
        if json.loads(json.dumps(result.model.to_config())) != config["network"]:
            raise CheckpointError(
                f"{self.fit_file}: holds another network than {self.config_file.name} describes; the files are of"
                " different runs. Fit again, or put the right file back."
            )
        return config, result, Preprocessing.from_dict(config["preprocessing"])

    def load_compact(self) -> CompactNetwork:
        """The pruned network.

        :raises CheckpointError: when there is none, or it is foreign or damaged.
        """
        from pyro_ssbnn.files.compact import load_compact

        if not self.compact_file.is_file():
            raise CheckpointError(
                f"{self.path}: there is no pruned network ({self.compact_file.name}), because a layer kept no node, or"
                f" the file was moved. Make one: pyro-ssbnn prune {self.path} --nodes hidden1=5,..."
            )
        return load_compact(self.compact_file)

    def load_selection(self, model: Network) -> Selection:
        """What the pruned network keeps of the run's network.

        :raises CheckpointError: see :meth:`load_compact`; also when it is that of another run.
        """
        from pyro_ssbnn.selection.rules import Selection

        compact = self.load_compact()
        held = {"input": self._predictors(compact, model), **compact.kept}
        sizes = {g.name: g.size for g in model.description.gate_groups}
        kept = {name: indices for name in sizes if (indices := held.get(name)) is not None}
        if len(kept) < len(sizes) or any(int(kept[n].max()) >= sizes[n] for n in sizes):
            raise CheckpointError(
                f"{self.compact_file}: was pruned from another network than this run's. Make it anew: pyro-ssbnn prune"
                f" {self.path}"
            )
        return Selection(kept, sizes, f"as in {self.compact_file.name}")

    @staticmethod
    def _predictors(compact: CompactNetwork, model: Network) -> Tensor | None:
        """Predictors that a pruned network keeps, by what it keeps of their columns."""
        if compact.input_index is None:
            return None
        owners = model.description.inputs.columns.owners
        inside = compact.input_index < len(owners)  # of another network where not
        return owners[compact.input_index].unique() if inside.all() else compact.input_index

    def read_metrics(self) -> dict[str, Any]:
        """Scores; raises CheckpointError when the file is missing or damaged."""
        if not self.metrics_file.is_file():
            raise CheckpointError(f"{self.path}: {self.metrics_file.name} is missing. Fit again.")
        return _read_json(self.metrics_file)

    def write_json(self, file: Path, content: Any) -> None:
        """Write a JSON file whole or not at all."""
        write_text(file, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def read_predictions(self) -> pd.DataFrame | None:
        """Predictions for the test rows, None when they are absent; class names stay text."""
        import pandas as pd

        if not self.predictions_file.is_file():
            return None
        header = pd.read_csv(self.predictions_file, nrows=0).columns
        text = ["predicted", "observed"] if "predicted" in header else []
        return pd.read_csv(
            self.predictions_file, dtype=dict.fromkeys(text, str), keep_default_na=False
        )


def check_free(path: Path, overwrite: bool) -> None:
    """Raise :class:`ConfigurationError` unless a run may be written there.

    Only an earlier run or an empty folder is ever overwritten.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not path.is_dir() or not RunFolder(path).config_file.is_file():
        raise ConfigurationError(
            f"{path}: exists and is no run folder, so it is left alone. Choose another --out."
        )
    if not overwrite:
        raise ConfigurationError(
            f"{path}: there is a run already. Choose another --out, or replace it with --overwrite."
        )


@contextmanager
def creating(path: Path, overwrite: bool) -> Iterator[RunFolder]:
    """Give a temporary folder beside ``path``, which takes its place once the block has succeeded.

    When the block raises or is interrupted, the temporary folder is removed and an older run stays as it was.

    :raises ConfigurationError: see :func:`check_free`.
    """
    path = path.resolve()
    check_free(path, overwrite)
    made = [p for p in path.parents if not p.exists()]  # nearest first
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield RunFolder(temporary)
        check_free(path, overwrite)  # another run may have come meanwhile
        _replace(path, temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


def _replace(path: Path, new: Path) -> None:
    if not path.exists():
        new.rename(path)
        return
    old = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{file}: not readable as JSON ({error}). Fit again.") from error
