"""Runs of several fits: the mixture and what is made of it, going on after a stop."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.cli.lifecycle import update
from pyro_ssbnn.cli.run_folder import RunFolder

WHAT = ("--target", "price", "--input-gates", "--batch-size", 16, "--seed", 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory, table, invoke, tiny):
    out = tmp_path_factory.mktemp("several") / "run"
    result = invoke("fit", table, *WHAT, *tiny, "--fits", 2, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def test_the_folder_holds_all_fits(run):
    mixture = ss.load_mixture(run / "mixture.safetensors")
    assert [one.options.seed for one in mixture.fits] == [3, 4]
    first = ss.load_fit(run / "fit.safetensors")
    for name, value in first.guide.state_dict().items():
        assert torch.equal(value, mixture.fits[0].guide.state_dict()[name])
    assert not (run / "fits").exists()
    inclusion = pd.read_csv(run / "inclusion.csv", index_col="name")
    assert list(inclusion.index) == ["dose", "age", "weight"]
    expected = ss.inclusion_summary(mixture.guide)
    np.testing.assert_allclose(inclusion["inclusion"], expected["inclusion"], rtol=1e-6)
    data = ss.read_netcdf(run / "posterior.nc")
    np.testing.assert_allclose(data["constant_data"]["weight"], mixture.weights)


def test_predictions_are_the_mixtures(run, table, invoke, frame, tmp_path):
    out = tmp_path / "predictions.csv"
    assert invoke("predict", run, table, "--out", out).exit_code == 0
    _, answer, prepared = RunFolder(run).load_answer()
    x = prepared.encode(ss.data.Table.of(frame, name="new rows"))
    found = ss.predict(answer.model, answer.guide, x, num_draws=20, seed=3)
    mean = pd.read_csv(out)["mean"].to_numpy()
    np.testing.assert_allclose(mean, prepared.inverse(found.mean).numpy(), rtol=1e-5)
    assert invoke("predict", run, table, "--network", "pruned").exit_code == 0


def test_the_other_commands_know_of_them(run, invoke, tmp_path):
    told = invoke("summary", run).output
    assert "2 fits" in told
    assert "lowest" in told
    record = json.loads(invoke("summary", run, "--json").output)
    assert [one["seed"] for one in record["fits"]] == [3, 4]
    out = tmp_path / "checks.json"
    assert invoke("diagnose", run, "--draws", 100, "--out", out).exit_code == 0
    assert "2 restarts" in out.read_text(encoding="utf-8")
    assert invoke("report", run, "--out", tmp_path / "report.html").exit_code == 0


def test_a_stopped_run_goes_on(run, table, invoke, tiny, tmp_path, monkeypatch):
    """Stopped before the second fit was made: the first is kept, and the end is what it would have been."""
    out = tmp_path / "run"

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pyro_ssbnn.cli.members.run_jobs", stop)
        stopped = invoke("fit", table, *WHAT, *tiny, "--fits", 2, "--out", out)
    assert stopped.exit_code == 130
    assert "of the first of 2 fits" in invoke("summary", out).output
    again = invoke("fit", "--resume", out, "--no-progress")
    assert again.exit_code == 0, again.output
    one, other = (ss.load_mixture(folder / "mixture.safetensors") for folder in (run, out))
    assert one.weights == other.weights
    for a, b in zip(one.fits, other.fits, strict=True):
        for name, value in a.guide.state_dict().items():
            assert torch.equal(value, b.guide.state_dict()[name])


def test_what_is_missing_is_made_of_all_fits(run, invoke, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "inclusion.csv").unlink()
    update(RunFolder(copy), trained=True, failed={"inclusion.csv": "no room"})
    assert invoke("finish", copy).exit_code == 0
    assert (copy / "inclusion.csv").read_text() == (run / "inclusion.csv").read_text()
