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


NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Pictures of the scripts go here."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short_draws_and_is_in_the_gallery(name):
    program = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert len(program.splitlines()) < 60
    assert f'plt.savefig("{name}.png"' in program
    gallery = (EXAMPLES.parent / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert f"examples/{name}.py" in gallery


@pytest.mark.slow
def test_a_band_is_wider_where_there_are_no_data():
    names = runpy.run_path(str(EXAMPLES / "curve.py"))
    sd = names["draws"].mean.std(0)
    where = names["where"].squeeze(-1)
    assert sd[(where > 4)].mean() > 1.2 * sd[(where > 1) & (where < 3)].mean()
    assert Path("curve.png").exists()


@pytest.mark.slow
def test_the_product_of_friedmans_function_is_the_first_interaction():
    names = runpy.run_path(str(EXAMPLES / "interactions.py"))
    inclusion = names["result"].guide.inclusion()["input"]
    assert (inclusion > 0.5).tolist() == [True] * 5 + [False] * 5
    assert {names["pairs"].iloc[0]["first"], names["pairs"].iloc[0]["second"]} == {"x1", "x2"}
    assert Path("interactions.png").exists()


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
    "epochs", [3, pytest.param(100, marks=pytest.mark.slow)], ids=["few epochs", "as written"]
)
@pytest.mark.filterwarnings("ignore:collapse:pyro_ssbnn.errors.CollapseWarning")
def test_a_raw_table_becomes_a_report(epochs, tmp_path, capsys):
    """In 25 lines, besides its first; the slow one finds what was planted."""
    program = (EXAMPLES / "raw_table.py").read_text(encoding="utf-8")
    assert len(program.splitlines()) <= 30
    quick = "" if epochs == 100 else ", options={'compile': False}, num_draws=10"
    names = {}
    program = program.replace("epochs=100", f"epochs={epochs}{quick}")
    if epochs < 100:
        program = program.replace("y_test))", "y_test), checks=False)")
    exec(program, names)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "How well it predicts" in page
    assert "Aix" in capsys.readouterr().out
    table = names["model"].inclusion_
    assert list(table.index) == list(names["frame"].columns)
    if epochs == 100:
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
