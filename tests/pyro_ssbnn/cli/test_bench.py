"""``bench``: the table and the plot of a run's own networks, written whole, nowhere else."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_ssbnn import load_compact
from pyro_ssbnn.cli.run_folder import RunFolder

NETWORKS = ["dense mean", "pruned mean", "dense 3 draws", "pruned 3 draws"]


@pytest.fixture
def run(table_run, tmp_path):
    """A copy to write into."""
    return shutil.copytree(table_run, tmp_path / "run")


def test_bench_writes_table_and_plot_into_the_run(invoke, run):
    before = {file.name for file in run.iterdir()}
    result = invoke("bench", run, "--batch-sizes", "1,5", "--draws", 3, "--threads", 2)
    assert result.exit_code == 0, result.output
    assert torch.get_num_threads() == 1  # as before
    assert {file.name for file in run.iterdir()} == {*before, "latency.csv"}
    assert (run / "plots" / "latency.png").read_bytes()[1:4] == b"PNG"
    table = pd.read_csv(run / "latency.csv")
    assert list(table["network"]) == NETWORKS * 2
    assert list(table["batch_size"]) == [1] * 4 + [5] * 4
    assert set(table["threads"]) == {2}
    rate = 1e3 * table["batch_size"] / table["median_ms"]
    np.testing.assert_allclose(table["rows_per_second"], rate)
    own = table["network"] == table["reference"]
    assert (table.loc[own, "speedup"] == 1).all()
    for word in ("pruned 3 draws", "2 CPU threads", "rows/s", "latency.csv"):
        assert word in result.output


def test_bench_writes_elsewhere_on_request(invoke, table_run, tmp_path):
    out = tmp_path / "deep" / "times.csv"
    result = invoke("bench", table_run, "--batch-sizes", "2", "--draws", 2, "--out", out)
    assert result.exit_code == 0, result.output
    assert {file.name for file in out.parent.iterdir()} == {"times.csv", "times.png"}
    assert not (table_run / "latency.csv").exists()


def test_bench_times_the_runs_own_pruned_network(invoke, run, monkeypatch):
    from pyro_ssbnn import analysis

    kept = {}

    def record(model, guide, selection, **options):
        kept.update({name: indices.tolist() for name, indices in selection.kept.items()})
        return true(model, guide, selection, **options)

    true = analysis.pruning_latency
    monkeypatch.setattr(analysis, "pruning_latency", record)
    assert invoke("prune", run, "--nodes", "hidden1=3,input=2", "--draws", 2).exit_code == 0
    assert invoke("bench", run, "--batch-sizes", "1", "--draws", 2).exit_code == 0
    compact = load_compact(run / "compact.safetensors")
    assert kept == {
        "input": compact.input_index.tolist(),
        **{name: indices.tolist() for name, indices in compact.kept.items()},
    }
    assert [len({*kept["input"], *kept["linear"]}), len(kept["hidden1"])] == [2, 3]


def test_a_new_pruning_names_what_is_out_of_date(invoke, run):
    assert "still of the earlier" not in invoke("prune", run, "--nodes", 4).output
    for name in ("latency.csv", "compact.onnx"):
        (run / name).write_text("made before", encoding="utf-8")
    elsewhere = invoke("prune", run, "--nodes", 3, "--out", run.parent / "small.safetensors")
    assert "still of the earlier" not in elsewhere.output
    output = invoke("prune", run, "--nodes", 3).output
    assert "latency.csv is still of the earlier pruned network: pyro-ssbnn bench" in output
    assert "compact.onnx is still of the earlier pruned network: pyro-ssbnn export" in output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--batch-sizes", "1;2"), ("--batch-sizes", "1,32,1024", "'1;2'")),
        (("--batch-sizes", "0"), ("batch_sizes", "at least 1")),
        (("--device", "abacus"), ("device 'abacus'",)),
        (("--out", "times.txt"), ("--out", ".csv", "times.txt")),
    ],
)
def test_unusable_options(invoke, run, options, words):
    before = sorted(run.rglob("*"))
    result = invoke("bench", run, *options)
    assert result.exit_code == 2
    for word in words:
        assert word in result.output
    assert sorted(run.rglob("*")) == before


def test_pruned_network_of_another_run_or_none(invoke, run, digits_run):
    shutil.copy(digits_run / "compact.safetensors", run / "compact.safetensors")
    for command in (("bench",), ("export", "--draws", 2)):
        result = invoke(command[0], run, *command[1:])
        assert result.exit_code == 2
        assert "pruned from another network than this run's" in result.output
    (run / "compact.safetensors").unlink()
    result = invoke("bench", run)
    assert result.exit_code == 2
    assert "no pruned network" in result.output


def test_selection_of_a_run_without_input_gates(digits_run):
    folder = RunFolder(digits_run)
    model = folder.load()[1].model
    compact = folder.load_compact()
    selection = folder.load_selection(model)
    assert selection.sizes == {"hidden1": 12, "hidden2": 8}
    assert {k: v.tolist() for k, v in selection.kept.items()} == {
        k: v.tolist() for k, v in compact.kept.items()
    }
