"""A run is written whole or not at all; collapse is told; interruptions leave nothing."""

import json

import pytest
import torch

from pyro_ssbnn.cli import build
from pyro_ssbnn.inference import fit


@pytest.fixture
def collapsing(monkeypatch):
    """Close every gate once training is over."""

    def closed(*arguments, **options):
        result = fit(*arguments, **options)
        with torch.no_grad():
            result.guide.hidden1.gate.logits.fill_(-5.0)
        return result

    monkeypatch.setattr(build, "fit", closed)


def test_interruption_during_training_leaves_nothing(invoke, tiny, tmp_path, monkeypatch):
    def interrupt(epoch, result):
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(build, "fit", lambda *a, **options: fit(*a, **options, callback=interrupt))
    result = invoke("fit", "digits", *tiny, "--out", tmp_path / "runs" / "one")
    assert result.exit_code == 130
    assert "Interrupted: nothing was written" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (OSError("no space left on device"), 2)]
)
def test_trouble_while_writing_leaves_nothing(invoke, tiny, tmp_path, monkeypatch, error, code):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(build, "write_netcdf", fail)
    result = invoke("fit", "digits", *tiny, "--out", tmp_path / "runs" / "one")
    assert result.exit_code == code
    assert str(error) in result.output
    assert list(tmp_path.iterdir()) == []


def test_failed_overwrite_keeps_the_old_run(invoke, make_table_run, tiny, tmp_path, monkeypatch):
    run = tmp_path / "run"
    make_table_run(run)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(build, "draw", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            invoke("fit", "digits", *tiny, "--out", run, "--overwrite")
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    result = invoke("fit", "digits", *tiny, "--out", run, "--overwrite")
    assert result.exit_code == 0, result.output
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config["source"]["source"] == "digits"
    assert not (run / "plots" / "predictors.png").exists()  # the old run's
    assert list(tmp_path.iterdir()) == [run]


def test_collapse_is_told_and_still_recorded(invoke, tiny, tmp_path, collapsing):
    run = tmp_path / "run"
    result = invoke("fit", "digits", *tiny, "--out", run)
    assert result.exit_code == 0, result.output
    assert "Collapse" in result.output
    assert "No node of hidden1 is active" in result.output
    assert "No pruned network" in result.output
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["collapsed"] == ["hidden1"]
    assert "pruned" not in metrics
    assert not (run / "compact.safetensors").exists()
    assert not (run / "pruning.csv").exists()
    assert "Collapse" in invoke("summary", run).output
    refused = invoke("predict", run, "digits", "--network", "pruned")
    assert refused.exit_code == 2
    assert "no pruned network" in refused.output
    assert invoke("prune", run, "--nodes", "hidden1=3").exit_code == 0
    assert invoke("predict", run, "digits", "--network", "pruned").exit_code == 0


def test_too_many_predictions_are_left_out_of_the_posterior_file(
    invoke, tiny, tmp_path, monkeypatch
):
    from pyro_ssbnn.analysis import read_netcdf
    from pyro_ssbnn.analysis.netcdf import groups_of

    monkeypatch.setattr(build, "_MOST_VALUES", 100)
    result = invoke("fit", "digits", *tiny, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "without predictions" in result.output
    groups = groups_of(read_netcdf(tmp_path / "run" / "posterior.nc"))
    assert "posterior" in groups
    assert "posterior_predictive" not in groups
