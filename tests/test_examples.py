"""The examples run, and find what was planted."""

import runpy
from pathlib import Path

import pyro
import pytest
import torch
from pyro import poutine

from pyro_ssbnn import load_compact, prune, save_compact, select
from pyro_ssbnn.posterior.draws import site_values, trace_draws

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_sparse_regression_finds_its_three_predictors(capsys):
    names = runpy.run_path(str(EXAMPLES / "sparse_regression.py"))
    table = names["table"]
    chosen = table[(table["group"] == "input") & table["selected"]].index.tolist()
    assert chosen == ["x1", "x4", "x8"]
    assert names["prediction"].shape == (500, 1)
    assert names["pruning"].report.loc["total", "nodes_kept"] < 33
    assert "inclusion" in capsys.readouterr().out


@pytest.mark.parametrize(
    "epochs", [3, pytest.param(300, marks=pytest.mark.slow)], ids=["few epochs", "as written"]
)
@pytest.mark.filterwarnings("ignore:collapse:pyro_ssbnn.errors.CollapseWarning")
def test_a_raw_table_becomes_a_report(epochs, tmp_path, monkeypatch, capsys):
    """In 25 lines, besides its first; the slow one finds what was planted."""
    program = (EXAMPLES / "raw_table.py").read_text(encoding="utf-8")
    assert len(program.splitlines()) <= 30
    monkeypatch.chdir(tmp_path)
    quick = "" if epochs == 300 else ", options={'compile': False}, num_draws=10"
    names = {}
    program = program.replace("epochs=300", f"epochs={epochs}{quick}")
    if epochs < 300:
        program = program.replace("y_test))", "y_test), checks=False)")
    exec(program, names)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "How well it predicts" in page
    assert "Aix" in capsys.readouterr().out
    table = names["model"].inclusion_
    assert list(table.index) == list(names["frame"].columns)
    if epochs == 300:
        assert table.index[table["selected"]].tolist() == ["area", "town"]
        assert names["model"].score(names["X_test"], names["y_test"]) > 0.7


def test_the_vgg_of_the_documents_learns_and_is_pruned_to_rounding(tmp_path):
    """A few epochs; then pruned equals masked in float64, from a file too."""
    names = runpy.run_path(str(EXAMPLES / "vgg.py"))
    assert names["accuracy"] > 0.8
    model, guide, x = (
        names["result"].model.double(),
        names["result"].guide.double(),
        names["x"][:20].double(),
    )
    for seed in range(4):
        torch.manual_seed(seed)
        inclusion = {k: torch.rand(len(v)) for k, v in guide.inclusion().items()}
        selection = select(inclusion, nodes=1 if seed == 0 else None, threshold=0.3)
        gates = {f"{k}.gate": selection.mask(k).double().expand(3, -1) for k in inclusion}
        torch.manual_seed(seed)
        values = site_values(trace_draws(poutine.condition(guide, data=gates), 3))
        with pyro.plate("draws", 3, dim=-2):
            expected = poutine.condition(model.network, data=values)(x)
        pruning = prune(model, guide, selection, num_draws=3, seed=seed)
        torch.testing.assert_close(pruning.network(x), expected.detach(), rtol=0, atol=1e-10)
    save_compact(pruning.network, tmp_path / "vgg.safetensors")
    assert torch.equal(load_compact(tmp_path / "vgg.safetensors")(x), pruning.network(x))
