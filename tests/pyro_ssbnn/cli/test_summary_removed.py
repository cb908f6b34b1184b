"""``pyro-ssbnn summary``: members removed during training say so, and show no numbers that mean nothing."""

import math
import re

import torch

from pyro_ssbnn import MLP, SSIG, GaussianLikelihood, History, Removal, StructuredGuide
from pyro_ssbnn.cli.console import results
from pyro_ssbnn.cli.tables import print_nodes
from pyro_ssbnn.guides import CLOSED_LOGIT


def test_removed_nodes_stand_last_with_the_epoch_they_left_at(capsys, monkeypatch):
    monkeypatch.setattr(results, "_width", 200)
    net = MLP(2, [4], prior=SSIG(inclusion=0.2), likelihood=GaussianLikelihood())
    guide = StructuredGuide(net)
    guide.hidden1.gate.logits.data = torch.tensor([CLOSED_LOGIT, 1.0, CLOSED_LOGIT, -1.0])
    removed = [Removal("hidden1", 0, 3, 0.08), Removal("hidden1", 2, 5, 0.0914)]
    print_nodes(guide, History(removed=removed), every=True)
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if "hidden1[" in line]
    cells = [[cell.strip() for cell in row.strip("│ ").split("│")] for row in rows]
    assert [row[0] for row in cells] == [f"hidden1[{j}]" for j in (1, 3, 2, 0)]
    evidence = f"{math.log(0.0914 / 0.9086) - math.log(0.2 / 0.8):.4g}"
    assert cells[2] == ["hidden1[2]", "0", evidence, "", "", "no", "after epoch 5, at 0.091"]
    assert cells[3][-1] == "after epoch 3, at 0.08"
    assert all(cells[0][:6])
    assert "nan" not in printed
    assert "inf" not in printed


def test_every_header_is_explained_once(invoke, table_run):
    """Below the tables; what the scores mean stands in their own column."""
    told = " ".join(invoke("summary", table_run).output.split())
    nodes = ("inclusion", "log Bayes factor", "slab scale", "norm of weights", "selected")
    for word in (*nodes, "nonlinear", "linear", "linear effect", "prior expected", "pruned"):
        assert len(re.findall(rf"(?<!\w){word}: \w", told)) == 1, word


def test_predictors_with_linear_terms_fit_a_terminal(invoke, table_run):
    told = invoke("summary", table_run, "--predictors").output
    table = told[told.index("Predictors, likeliest first") :].splitlines()[1:]
    header = " ".join(table[: [line[:1] for line in table].index("┡")])
    for word in ("predictor", "inclusion", "nonlinear", "linear", "effect", "Bayes", "selected"):
        assert f" {word} " in header
    assert {len(line) for line in table if line[:1] in "┏┡└"} <= set(range(81))
    assert any(line.startswith("│ dose") and line.count("│") == 8 for line in table)
