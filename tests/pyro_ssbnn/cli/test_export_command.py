"""``export``: the run's own pruned network as ONNX, with what is needed to use it in its metadata."""

import json
import shutil
import sys

import onnx
import onnxruntime
import torch

from pyro_ssbnn import load_compact, prune
from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.files.rounding import rounding_tolerance


def assert_same(file, network, x):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(["f"], {"x": x.numpy()})[0])
    expected = network(x)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert ((found - expected).abs() <= rounding_tolerance(network, x)).all()


def test_export_of_the_runs_network(invoke, table_run, tmp_path):
    """Three predictors with gates."""
    file = tmp_path / "deep" / "net.onnx"
    result = invoke("export", table_run, "--out", file)
    assert result.exit_code == 0, result.output
    assert "net.onnx" in result.output
    compact = load_compact(table_run / "compact.safetensors")
    assert_same(file, compact, torch.randn(7, 3))
    found = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    kept = {"input": compact.input_index, **compact.kept}
    assert json.loads(found["kept"]) == {name: index.tolist() for name, index in kept.items()}
    config = RunFolder(table_run).read_config()
    notes = json.loads(found["notes"])
    assert notes["preprocessing"] == config["preprocessing"]
    assert notes["fit"]["input_names"] == ["dose", "age", "weight"]


def test_export_of_draws_under_the_runs_own_name(invoke, digits_run, tmp_path):
    run = shutil.copytree(digits_run, tmp_path / "run")
    result = invoke("export", run, "--draws", 4, "--dtype", "float32")
    assert result.exit_code == 0, result.output
    folder = RunFolder(run)
    config, fit, _ = folder.load()
    selection = folder.load_selection(fit.model)
    draws = prune(fit.model, fit.guide, selection, num_draws=4, seed=config["seed"]).network
    assert draws(torch.randn(2, 64)).shape == (4, 2, 10)
    assert_same(run / "compact.onnx", draws, torch.randn(7, 64))


def test_export_in_double_precision(invoke, table, tiny, tmp_path):
    run = tmp_path / "run"
    # Of tanh every onnxruntime has a float64 kernel.
    fitted = invoke("fit", table, "--target", "price", "--activation", "tanh", *tiny, "--out", run)
    assert fitted.exit_code == 0, fitted.output
    result = invoke("export", run, "--dtype", "float64")
    assert result.exit_code == 0, result.output
    network = load_compact(run / "compact.safetensors").double()
    assert_same(run / "compact.onnx", network, torch.randn(7, 3, dtype=torch.float64))


def test_refusals(invoke, digits_run, tmp_path, monkeypatch):
    result = invoke("export", digits_run, "--out", tmp_path / "net.pt")
    assert result.exit_code == 2
    assert "expected a name ending in .onnx; got net.pt" in result.output
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = invoke("export", digits_run, "--out", tmp_path / "net.onnx")
    assert result.exit_code == 2
    assert 'pip install "pyro_ssbnn[export]"' in result.output
    assert not list(tmp_path.iterdir())
