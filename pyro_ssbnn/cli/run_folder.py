"""The run folder: what ``fit`` writes and the other commands read, each file whole or not at all."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyro_ssbnn.cli.kinds import Format, TaskName
from pyro_ssbnn.cli.options import MOST_DRAWS, MOST_SEED
from pyro_ssbnn.errors import CheckpointError
from pyro_ssbnn.files.atomic import write_text
from pyro_ssbnn.files.untrusted import entry, read_json, unpacking

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from pyro_ssbnn.analysis import Report
    from pyro_ssbnn.data import Preprocessing
    from pyro_ssbnn.inference import Fit, Mixture
    from pyro_ssbnn.models import CompactNetwork
    from pyro_ssbnn.selection.rules import Selection
    from pyro_ssbnn.structure.network import Network

__all__ = ["RunFolder", "finish_command", "resume_command"]

FORMAT = "pyro_ssbnn run"
FORMAT_VERSION = 1
_ENTRIES = {
    "source": dict,
    "preprocessing": dict,
    "network": dict,
    "options": dict,
    "draws": int,
    "seed": int,
}


class _Entry:
    """What stands in a run folder under a fixed name; the folder's docstring says what each is.

    A symbolic link in its place is refused: what it points to is none of the run's.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: RunFolder, owner: type | None = None) -> Path:
        path = folder.path / self.name
        if path.is_symlink():
            raise CheckpointError(
                f"{path}: is a symbolic link, which is not followed. Put the file or folder itself there."
            )
        return path


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run's files, and how to read them.

    ========================= ============================================================================
    ``config.json``           where the data came from, scaling, network, options, versions
    ``fit.safetensors``       model, guide, optimizer, history: ``pyro_ssbnn.load_fit``; the last checkpoint while the
                              run is trained, and ``fit.previous.safetensors`` the one before
    ``mixture.safetensors``   all fits of a run of several, and their weights: ``pyro_ssbnn.load_mixture``; the first of
                              them is ``fit.safetensors``. While they are trained, ``fits/`` has their checkpoints
    ``posterior.nc``          draws from the posterior: ``pyro_ssbnn.analysis.read_netcdf``
    ``history.csv``           ELBO, its parts and active nodes, one row an epoch
    ``inclusion.csv``         one row a gated node or predictor; absent without gates
    ``joint.csv``             predictors weighed jointly (``pyro_ssbnn.predictor_law``), one row each; of a single fit
                              of a perceptron whose predictors carry gates
    ``metrics.json``          scores on the test rows
    ``test_predictions.csv``  predictions for the test rows, as ``predict`` gives them
    ``compact.safetensors``   the pruned network: ``pyro_ssbnn.load_compact``; absent after a collapse
    ``pruning.csv``           nodes, weights and multiply-adds before and after; absent after a collapse
    ``data/``                 the rows as the network sees them, of a table that is read in pieces; written again where
                              it is absent
    ``plots/``                diagnostic plots
    ``latency.csv``           times of the forward pass; there after ``bench``
    ``compact.onnx``          the pruned network for other runtimes; there after ``export``
    ``diagnostics.json``      verdicts of all checks with their numbers; there after ``diagnose``
    ``effects.csv``           what predictors do, with a plot of the same name; there after ``effects``
    ``report.html``           all of it on one page; there after ``report``
    ``unfinished.json``       how far the run is; there until it is finished (:mod:`~pyro_ssbnn.cli.lifecycle`)
    ========================= ============================================================================
    """

    path: Path

    config_file = _Entry("config.json")
    fit_file = _Entry("fit.safetensors")
    mixture_file = _Entry("mixture.safetensors")
    members = _Entry("fits")
    posterior_file = _Entry("posterior.nc")
    history_file = _Entry("history.csv")
    inclusion_file = _Entry("inclusion.csv")
    joint_file = _Entry("joint.csv")
    metrics_file = _Entry("metrics.json")
    predictions_file = _Entry("test_predictions.csv")
    compact_file = _Entry("compact.safetensors")
    pruning_file = _Entry("pruning.csv")
    latency_file = _Entry("latency.csv")
    onnx_file = _Entry("compact.onnx")
    diagnostics_file = _Entry("diagnostics.json")
    effects_file = _Entry("effects.csv")
    report_file = _Entry("report.html")
    previous_file = _Entry("fit.previous.safetensors")
    state_file = _Entry("unfinished.json")
    plots = _Entry("plots")
    data = _Entry("data")

    @property
    def state(self) -> dict[str, Any] | None:
        """How far an unfinished run is: ``trained``, ``replaces``, ``failed``; None for any other folder."""
        if not self.state_file.exists():
            return None
        state: dict[str, Any] = read_json(self.state_file)
        entry(state, "failed", dict, self.state_file)
        entry(state, "trained", bool, self.state_file)
        return state

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a fit, finished or not."""
        return self.fit_file.is_file() or self.previous_file.is_file()

    def read_config(self, *, unfinished: bool = False) -> dict[str, Any]:
        """Record of the run.

        :param unfinished: whether a run will do that is not trained yet.
        :raises CheckpointError: when the folder is none of ``fit``'s; the message says what is missing.
        """
        if not self.path.is_dir():
            what = "this is a file" if self.path.exists() else f"looked from {Path.cwd()}"
            raise CheckpointError(
                f"{self.path}: there is no such run folder ({what}). Make one with: pyro-ssbnn fit"
                f" SOURCE --out {self.path}"
            )
        state = self.state
        if state is not None and not state["trained"] and not unfinished:
            raise CheckpointError(
                f"{self.path}: this run is not trained yet. Go on with it: {resume_command(self.path)}"
            )
        needed = (self.config_file,) if state is not None else (self.config_file, self.fit_file)
        absent = [f.name for f in needed if not f.is_file()]
        if absent:
            raise CheckpointError(
                f"{self.path}: not a complete run folder: {' and '.join(absent)} missing. Give the folder that"
                " 'pyro-ssbnn fit --out' wrote, or fit again."
            )
        config = read_json(self.config_file)
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            raise CheckpointError(
                f'{self.config_file}: not the record of a run; expected "format": "{FORMAT}".'
            )
        if entry(config, "format_version", int, self.config_file) > FORMAT_VERSION:
            raise CheckpointError(
                f"{self.config_file}: written in format {config['format_version']}; this version reads up to"
                f" {FORMAT_VERSION}. Upgrade pyro_ssbnn to read it."
            )
        self._check(config)
        return config

    def _check(self, config: dict[str, Any]) -> None:
        """Raise :class:`CheckpointError` for an entry that no ``fit`` has written."""
        file = self.config_file
        for name, kind in _ENTRIES.items():
            entry(config, name, kind, file)
        for name, most in (("draws", MOST_DRAWS), ("seed", MOST_SEED)):
            least = 1 if name == "draws" else 0
            if not least <= config[name] <= most:
                raise CheckpointError(f"{file}: {name!r} must lie in {least:,} to {most:,}.")
        source = config["source"]
        for name in ("format", "source", "target", "task"):
            entry(source, name, str, file)
        with unpacking(file, "the record of the data"):
            Format(source["format"]), TaskName(source["task"])

    def load(
        self, device: str = "cpu", *, unfinished: bool = False
    ) -> tuple[dict[str, Any], Fit, Preprocessing]:
        """Record, fit and preprocessing; of several fits the best.

        :param unfinished: whether a run will do that is not trained yet; its fit is then its last checkpoint.
        :raises CheckpointError: also when ``fit.safetensors`` is foreign, damaged, or of another run.
        """
        config, answer, preprocessing = self.load_answer(device, unfinished=unfinished)
        return config, answer.best, preprocessing

    def load_answer(
        self, device: str = "cpu", *, unfinished: bool = False
    ) -> tuple[dict[str, Any], Fit | Mixture, Preprocessing]:
        """As :meth:`load`, with all fits together where there are several."""
        from pyro_ssbnn.data import Preprocessing
        from pyro_ssbnn.inference.checkpoints import last_checkpoint
        from pyro_ssbnn.inference.mixture_saving import load_mixture
        from pyro_ssbnn.inference.saving import load_fit

        config = self.read_config(unfinished=unfinished)
        result: Fit | Mixture | None
        if self.mixture_file.is_file():
            result, file = load_mixture(self.mixture_file, device), self.mixture_file
        else:
            file = self.fit_file
            result = last_checkpoint(file) if unfinished else load_fit(file, device)
        if result is None:
            raise CheckpointError(
                f"{self.path}: training had not begun. Begin: {resume_command(self.path)}"
            )
        if json.loads(json.dumps(result.model.to_config())) != config["network"]:
            raise CheckpointError(
                f"{file}: holds another network than {self.config_file.name} describes; the files are of"
                " different runs. Fit again, or put the right file back."
            )
        with unpacking(self.config_file, "the scaling of the data"):
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
        if len(kept) < len(sizes) or any((kept[n] >= sizes[n]).any() for n in sizes):
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
        metrics = read_json(self.metrics_file)
        for name, kind in (("full", dict), ("number_of_rows", int), ("rows", str)):
            entry(metrics, name, kind, self.metrics_file)
        baselines = entry({"baselines": {}, **metrics}, "baselines", dict, self.metrics_file)
        for scores in (metrics["full"], metrics.get("pruned", {}), *baselines.values()):
            for name in scores if isinstance(scores, dict) else ("scores",):
                score = entry(scores, name, (float, int, type(None)), self.metrics_file)
                if abs(score or 0) > sys.float_info.max:
                    raise CheckpointError(f"{self.metrics_file}: the score {name!r} is no number.")
        return metrics

    def read_checks(self) -> Report | None:
        """Verdicts of ``diagnose``; None where there are none; CheckpointError when the file is damaged."""
        from pyro_ssbnn.analysis import Report

        if not self.diagnostics_file.is_file():
            return None
        with unpacking(self.diagnostics_file, "the verdicts"):
            return Report.from_dict(read_json(self.diagnostics_file))

    def read_joint(self) -> pd.DataFrame | None:
        """Predictors weighed jointly; None where there are none; CheckpointError when the file is damaged."""
        import pandas as pd

        if not self.joint_file.is_file():
            return None
        with unpacking(self.joint_file, "the predictors"):
            table = pd.read_csv(
                self.joint_file, dtype={"name": str}, keep_default_na=False, na_values={"name": []}
            ).set_index("name")
            numbers = ["inclusion", "fitted", "credible_set", "set_inclusion"]
            table = table[numbers].replace("", "nan").astype(float)
            if (
                not table[["inclusion", "fitted"]]
                .apply(lambda each: each.between(0, 1))
                .all(axis=None)
            ):
                raise ValueError("Inclusion probabilities are from 0 to 1.")
            return table

    def write_json(self, file: Path, content: Any) -> None:
        """Write a JSON file whole or not at all."""
        write_text(file, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def read_predictions(self) -> pd.DataFrame | None:
        """Predictions for the test rows, None when they are absent; class names stay text."""
        import pandas as pd

        if not self.predictions_file.is_file():
            return None
        with unpacking(self.predictions_file, "the predictions"):
            header = pd.read_csv(self.predictions_file, nrows=0).columns
            text = ["predicted", "observed"] if "predicted" in header else []
            return pd.read_csv(
                self.predictions_file, dtype=dict.fromkeys(text, str), keep_default_na=False
            )


def resume_command(path: Path) -> str:
    """What goes on with the training of a run."""
    return f"pyro-ssbnn fit --resume {shlex.quote(str(path))}"


def finish_command(path: Path) -> str:
    """What makes the rest of what is made of a fit."""
    return f"pyro-ssbnn finish {shlex.quote(str(path))}"
